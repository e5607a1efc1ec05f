"""A model card as one HTML page that needs nothing beside it."""

from pathlib import Path

from blemish.evaluation.figures import defect_columns, saved_figures
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.io.files import atomic_write
from blemish.model.card import ModelCard
from blemish.report.environment import KeyFigure, page_environment


def write_card(card: ModelCard, path: Path) -> None:
    """Writes the page. Raises BlemishError when the file cannot be written, or its name is not that of a page."""
    check_overwriting(path, kind=PAGE)
    page = (
        page_environment()
        .get_template("card.html.j2")
        .render(card=card, values=card.as_json(), figures=_figures(card), defect_columns=defect_columns())
    )
    with atomic_write(path, mode="w") as file:
        file.write(page)


def _figures(card: ModelCard) -> list[KeyFigure]:
    saved = [] if card.evaluation is None else saved_figures(card.evaluation)
    return [KeyFigure(figure.label, figure.value, figure.interval or "") for figure in saved]
