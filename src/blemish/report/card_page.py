"""A model card as one HTML page that needs nothing beside it."""

from pathlib import Path

from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.io.files import atomic_write
from blemish.io.text import figure, percent
from blemish.model.card import FIGURES, SHARES, ModelCard
from blemish.report.evaluation_page import KeyFigure, page_environment


def write_card(card: ModelCard, path: Path) -> None:
    """Writes the page. Raises BlemishError when the file cannot be written, or its name is not that of a page."""
    check_overwriting(path, kind=PAGE)
    page = (
        page_environment().get_template("card.html.j2").render(card=card, values=card.as_json(), figures=_figures(card))
    )
    with atomic_write(path, mode="w") as file:
        file.write(page)


def _figures(card: ModelCard) -> list[KeyFigure]:
    saved = card.evaluation
    if saved is None:
        return []
    made = []
    for name, label in FIGURES.items():
        say = percent if name in SHARES else figure
        interval = saved["intervals"].get(name)
        made.append(
            KeyFigure(label, say(saved[name]), "" if interval is None else f"{say(interval[0])} to {say(interval[1])}")
        )
    return made
