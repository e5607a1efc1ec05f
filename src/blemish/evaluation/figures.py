"""What a figure is, and where all of them are listed.

The command line, the report, the model card, the comparison of exports and the JSON read the one table
`blemish.plugins.FIGURES`. A figure is added by a module with a `Figure` in it and a line in that table; another package
adds its own by an entry point of the group `blemish.figures`, without a change to Blemish.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from blemish.errors import BlemishError
from blemish.evaluation.results import ScoredSplit
from blemish.io.text import figure as three_decimals
from blemish.plugins import FIGURES

if TYPE_CHECKING:
    from blemish.evaluation.confidence import Resamples
    from blemish.evaluation.results import Evaluation

Interval = tuple[float, float]
Place = Literal["text", "page", "aside", "card", "export", "defects"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a detector on a test split.

    Example:
        The share of defective images whose p-value is below 0.001:

        >>> from blemish.evaluation.figures import Figure
        >>> from blemish.io.text import percent
        >>> def certain(split):
        ...     defects = [image for image in split.images if image.sample.anomalous]
        ...     return sum(image.scored.p_value < 0.001 for image in defects) / len(defects) if defects else None
        >>> CERTAIN = Figure(name="certain_rate", label="certain", compute=certain, format=percent)

    Attributes:
        name: its key in JSON and in the model file.
        label: its name for people.
        compute: its value, None where the images cannot say.
        format: its value as text; it has to take None.
        interval: its 95 % confidence interval; None for a figure that has none.
        places: where it is shown, beside the JSON, where all are: in the text of `blemish evaluate`; as a big number on
            the page of a report, or beside the table of defects ("aside"); on the model card, if the file was measured
            with `--save`; as a comparison of an export with its model; and in the tables by type of defect.
        heading: what its line of the text begins with; None: the label.
        sentence: the value in that line, with {} for it.
        beside: the name of the figure whose line it continues; None: it has a line of its own.
        note: the words below a big number.
    """

    name: str
    label: str
    compute: Callable[[ScoredSplit], Any]
    format: Callable[[Any], str] = three_decimals
    interval: "Callable[[Resamples], Interval | None] | None" = None
    places: frozenset[Place] = frozenset({"text", "page", "card"})
    heading: str | None = None
    sentence: str = "{}"
    beside: str | None = None
    note: "Callable[[Evaluation], str]" = lambda evaluation: ""

    def as_words(self, metrics: Mapping[str, Any]) -> str:
        """The figure in the text of an evaluation, such as "94.1 % of the defective images"."""
        return self.sentence.format(self.format(metrics[self.name]))


@dataclass(frozen=True)
class SavedFigure:
    """A figure that a model file holds, as a card shows it."""

    label: str
    value: str
    interval: str | None


def all_figures() -> list[Figure]:
    """The figures in the order in which they are shown.

    Raises:
        BlemishError: a figure of another package cannot be imported, is no `Figure` or has another name than its entry.
    """
    loaded = FIGURES.load_all()
    for name, figure in loaded.items():
        if not isinstance(figure, Figure) or figure.name != name:
            raise BlemishError(f"{FIGURES[name]} is no Figure with the name {name!r}: correct its entry point")
    return list(loaded.values())


def figures_in(place: Place) -> list[Figure]:
    """The figures that are shown in a place, see `Figure`."""
    return [figure for figure in all_figures() if place in figure.places]


def defect_columns() -> list[Figure]:
    """The columns of the tables by type of defect, after the number of images and the detection rate."""
    return [figure for figure in figures_in("defects") if figure.name != "detection_rate"]


def measure(split: ScoredSplit) -> dict[str, Any]:
    """All figures of a test split by name, and those of each type of defect against all nominal images.

    Raises:
        BlemishError: a figure is NaN or infinite.
    """
    figures = all_figures()
    per_defect = {}
    for defect in split.defects:
        images = split.of_defect(defect)
        per_defect[defect] = {
            "images": int(images.anomalous.sum()),
            "detected": int(images.alarms[images.anomalous].sum()),
            **{figure.name: _value(figure, images) for figure in figures if "defects" in figure.places},
        }
    return {figure.name: _value(figure, split) for figure in figures} | {"per_defect": per_defect}


def _value(figure: Figure, split: ScoredSplit) -> Any:
    """A figure as JSON can hold it."""
    value = figure.compute(split)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        raise BlemishError(f"the figure {figure.name!r} is {value}: let it be None where the images cannot say")
    return value


def text_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The figures as lines of text: "image AUROC  0.987   average precision 0.991, best F1 0.950"."""
    figures = figures_in("text")
    for line in figures:
        if line.beside is None:
            continued = [figure.as_words(metrics) for figure in figures if figure.beside == line.name]
            words = "   ".join([line.as_words(metrics), *([", ".join(continued)] if continued else [])])
            yield f"{line.heading or line.label:<12} {words}"


def saved_figures(saved: Mapping[str, Any]) -> list[SavedFigure]:
    """The figures of a model card, from what `blemish evaluate --save` left in the file.

    A figure that the file does not hold is left out: it was measured without it.
    """
    shown = []
    for figure in figures_in("card"):
        if isinstance(saved.get(figure.name, ""), int | float | None):
            interval = saved["intervals"].get(figure.name)
            words = None if interval is None else " to ".join(map(figure.format, interval))
            shown.append(SavedFigure(figure.label, figure.format(saved[figure.name]), words))
    return shown
