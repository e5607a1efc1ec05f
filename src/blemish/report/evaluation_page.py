"""The page to look at after an evaluation: one HTML file that needs nothing beside it."""

import platform
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from blemish.errors import BlemishError
from blemish.evaluation.figures import defect_columns, figures_in
from blemish.evaluation.results import Evaluation
from blemish.evaluation.standard_figures import missing_kind
from blemish.imaging.masks import mask_files
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.report.environment import KeyFigure, write_page
from blemish.report.gallery import Outcome, make_cards
from blemish.report.plots import roc_curve, score_histogram

if TYPE_CHECKING:
    from blemish.faithfulness.study import Study

PACKAGES = ("blemish", "onnxruntime", "numpy", "Pillow")


def write_report(evaluation: Evaluation, path: Path, *, faithfulness: "Study | None" = None) -> None:
    """Writes an evaluation as one self-contained HTML file of less than 20 MB.

    At most 400 images are shown, all misses and false alarms before any other.

    Args:
        evaluation: what `evaluate` returned; its images are read again for their pictures.
        path: the file to write, with the suffix .html or .htm.
        faithfulness: what `study` returned; adds its table.

    Raises:
        BlemishError: no image was evaluated, an image is gone or has changed, or the file cannot be written, is an
            input, or has a name that is not that of a page.

    Example:
        >>> from blemish import Detector, evaluate, read_data_set
        >>> evaluation = evaluate(Detector.load("screws.onnx"), read_data_set("screws/"))
        >>> write_report(evaluation, Path("report.html"))
    """
    if not evaluation.images:
        raise BlemishError(f"there is nothing to report: no image of {evaluation.data} could be evaluated")
    check_overwriting(path, _files(evaluation), kind=PAGE)
    write_page(path, "evaluation.html.j2", **_content(evaluation), faithfulness=faithfulness)


def _files(evaluation: Evaluation) -> Iterator[Path]:
    for item in evaluation.images:
        yield item.sample.path
        yield from () if item.sample.mask is None else mask_files(item.sample.mask)


def _content(evaluation: Evaluation) -> dict[str, Any]:
    """What the template refers to by name."""
    nominal = [item.scored.score for item in evaluation.images if not item.sample.anomalous]
    anomalous = [item.scored.score for item in evaluation.images if item.sample.anomalous]
    threshold = evaluation.scale.threshold
    cards = make_cards(evaluation)
    return {
        "evaluation": evaluation,
        "date": date.today().isoformat(),
        "key_figures": key_figures(evaluation),
        "secondary": [(figure.label, figure.format(evaluation.metrics[figure.name])) for figure in figures_in("aside")],
        "defect_columns": defect_columns(),
        "histogram": Markup(score_histogram(nominal, anomalous, threshold)),
        "roc": Markup(roc_curve(nominal, anomalous, threshold)) if nominal and anomalous else None,
        "one_sided": missing_kind(evaluation),
        "cards": cards,
        "left_out": len(evaluation.images) - len(cards),
        "counts": {
            "all": len(cards),
            "missed": sum(card.outcome is Outcome.MISSED for card in cards),
            "false-alarm": sum(card.outcome is Outcome.FALSE_ALARM for card in cards),
            "unsure": sum(card.verdict == "unsure" for card in cards),
        },
        "versions": {name: version(name) for name in PACKAGES} | {"Python": platform.python_version()},
    }


def key_figures(evaluation: Evaluation) -> list[KeyFigure]:
    """The big numbers; one that does not exist is a dash with the reason under it."""
    return [
        KeyFigure(figure.label, figure.format(evaluation.metrics[figure.name]), figure.note(evaluation))
        for figure in figures_in("page")
    ]
