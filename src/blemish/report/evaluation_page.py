"""The page to look at after an evaluation: one HTML file that needs nothing beside it."""

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blemish.errors import BlemishError
from blemish.imaging.heatmaps import LEGEND, short
from blemish.imaging.masks import mask_files
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.io.files import atomic_write
from blemish.io.text import MISSING, figure, percent
from blemish.report.gallery import Outcome, make_cards
from blemish.report.plots import roc_curve, score_histogram

if TYPE_CHECKING:
    from blemish.evaluation.run import Evaluation
    from blemish.faithfulness.study import Study

PACKAGES = ("blemish", "onnxruntime", "numpy", "Pillow")


@dataclass(frozen=True)
class KeyFigure:
    """One big number of the page, with the words under it."""

    label: str
    value: str
    note: str


def write_report(evaluation: "Evaluation", path: Path, *, faithfulness: "Study | None" = None) -> None:
    """Writes an evaluation as one self-contained HTML file of less than 20 MB.

    At most 400 images are shown, all misses and false alarms before any other; `faithfulness` adds its table.
    Raises BlemishError when no image was evaluated, when an image has gone since, or when the file cannot be
    written, is an input, or has a name that is not that of a page.
    """
    if not evaluation.images:
        raise BlemishError(f"there is nothing to report: no image of {evaluation.data} could be evaluated")
    check_overwriting(path, _files(evaluation), kind=PAGE)
    page = page_environment().get_template("template.html.j2").render(_content(evaluation), faithfulness=faithfulness)
    with atomic_write(path, mode="w") as file:
        file.write(page)


def _files(evaluation: "Evaluation") -> Iterator[Path]:
    for item in evaluation.images:
        yield item.sample.path
        yield from () if item.sample.mask is None else mask_files(item.sample.mask)


def page_environment() -> Environment:
    """Jinja with the templates of this package and the filters that they use."""
    environment = Environment(
        loader=PackageLoader("blemish", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "figure": figure, "setting": setting, "short": short}
    return environment


def _content(evaluation: "Evaluation") -> dict[str, Any]:
    """What the template refers to by name."""
    nominal = [item.scored.score for item in evaluation.images if not item.sample.anomalous]
    anomalous = [item.scored.score for item in evaluation.images if item.sample.anomalous]
    threshold = evaluation.scale.threshold
    cards = make_cards(evaluation)
    return {
        "evaluation": evaluation,
        "date": date.today().isoformat(),
        "key_figures": key_figures(evaluation),
        "secondary": {"image AP": evaluation.metrics["image_ap"], "best F1": evaluation.metrics["f1_max"]},
        "histogram": Markup(score_histogram(nominal, anomalous, threshold)),
        "roc": Markup(roc_curve(nominal, anomalous, threshold)) if nominal and anomalous else None,
        "one_sided": _why_missing(evaluation)["both"],
        "cards": cards,
        "left_out": len(evaluation.images) - len(cards),
        "counts": {
            "all": len(cards),
            "missed": sum(card.outcome is Outcome.MISSED for card in cards),
            "false-alarm": sum(card.outcome is Outcome.FALSE_ALARM for card in cards),
            "unsure": sum(card.verdict == "unsure" for card in cards),
        },
        "legend": ", ".join(f"rgb({r} {g} {b})" for r, g, b in LEGEND[::15].tolist()),
        "versions": {name: version(name) for name in PACKAGES} | {"Python": platform.python_version()},
    }


def key_figures(evaluation: "Evaluation") -> list[KeyFigure]:
    """The big numbers; one that does not exist is a dash with the reason under it."""
    metrics, why = evaluation.metrics, _why_missing(evaluation)
    anomalous = [item for item in evaluation.images if item.sample.anomalous]
    nominal = [item for item in evaluation.images if not item.sample.anomalous]
    detected = sum(item.scored.verdict == "anomalous" for item in anomalous)
    alarms = sum(item.scored.verdict == "anomalous" for item in nominal)
    asked = percent(evaluation.false_alarm_rate)
    return [
        KeyFigure("image AUROC", figure(metrics["image_auroc"]), why["both"]),
        KeyFigure("pixel AUROC", figure(metrics["pixel_auroc"]), why["masks"]),
        KeyFigure("AUPRO", figure(metrics["aupro"]), why["masks"]),
        KeyFigure(
            "detection rate",
            percent(metrics["detection_rate"]),
            f"{detected} of {len(anomalous)} defective images" if anomalous else why["both"],
        ),
        KeyFigure(
            "false-alarm rate",
            percent(metrics["false_alarm_rate"]),
            f"{alarms} of {len(nominal)} good images; asked {asked}" if nominal else why["both"],
        ),
        KeyFigure("images", f"{metrics['images']:,}", f"{len(nominal):,} good, {len(anomalous):,} defective"),
        KeyFigure(
            "images a second",
            MISSING if metrics["images_per_second"] is None else short(metrics["images_per_second"]),
            "",
        ),
    ]


def _why_missing(evaluation: "Evaluation") -> dict[str, str]:
    """Why a figure that needs both kinds of images, or masks, has no value; empty where it has one."""
    kinds = {item.sample.anomalous for item in evaluation.images}
    both = {frozenset({False}): "no defective test images", frozenset({True}): "no good test images"}
    masks = any(item.sample.mask for item in evaluation.images)
    reason = both.get(frozenset(kinds), "")
    return {"both": reason, "masks": "" if masks else "no masks in the test set"}


def setting(value: object) -> str:
    """A value of the model's settings as text; lists and tables as JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
