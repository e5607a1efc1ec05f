"""A model card as one HTML page that needs nothing beside it."""

from pathlib import Path

from blemish.evaluation.figures import defect_columns, saved_figures
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.model.card import ModelCard
from blemish.report.environment import KeyFigure, write_page


def write_card(card: ModelCard, path: Path) -> None:
    """Writes the page. Raises BlemishError when the file cannot be written, or its name is not that of a page."""
    check_overwriting(path, kind=PAGE)
    content = {"card": card, "values": card.as_json(), "figures": _figures(card), "defect_columns": defect_columns()}
    write_page(path, "card.html.j2", **content)


def _figures(card: ModelCard) -> list[KeyFigure]:
    saved = [] if card.evaluation is None else saved_figures(card.evaluation)
    return [KeyFigure(figure.label, figure.value, figure.interval or "") for figure in saved]
