"""The figures that Blemish has built in. `blemish.plugins.FIGURES` lists them in the order in which they are shown."""

from typing import Any

import numpy as np

from blemish.evaluation import confidence
from blemish.evaluation.figures import Figure
from blemish.evaluation.metrics import auroc, average_precision, f1_max
from blemish.evaluation.results import Evaluation, ScoredSplit
from blemish.imaging.heatmaps import short
from blemish.io.text import MISSING, counted, percent


def _image_auroc(split: ScoredSplit) -> float | None:
    return auroc(split.anomalous, split.scores) if split.has_both_kinds else None


def _image_ap(split: ScoredSplit) -> float | None:
    return average_precision(split.anomalous, split.scores) if split.has_both_kinds else None


def _f1_max(split: ScoredSplit) -> float | None:
    return f1_max(split.anomalous, split.scores).f1 if split.has_both_kinds else None


def _pixel_auroc(split: ScoredSplit) -> float | None:
    return None if split.pixels is None else split.pixels.auroc


def _aupro(split: ScoredSplit) -> float | None:
    return None if split.pixels is None else split.pixels.aupro


def _detection_rate(split: ScoredSplit) -> float | None:
    return float(split.alarms[split.anomalous].mean()) if split.anomalous.any() else None


def _false_alarm_rate(split: ScoredSplit) -> float | None:
    return float(split.alarms[~split.anomalous].mean()) if not split.anomalous.all() else None


def _unsure(split: ScoredSplit) -> int:
    return sum(image.scored.verdict == "unsure" for image in split.images)


def _images_per_second(split: ScoredSplit) -> float | None:
    return len(split.images) / split.seconds if split.seconds else None


def _ignored(split: ScoredSplit) -> float:
    shares = [0 if image.scored.ignored is None else image.scored.ignored.mean() for image in split.images]
    return float(np.mean(shares))


def missing_kind(evaluation: Evaluation) -> str:
    """Why a figure that needs nominal and anomalous images has no value; empty where it has one."""
    good, bad = _counts(evaluation)
    return "" if good and bad else "no good test images" if bad else "no defective test images"


def _missing_masks(evaluation: Evaluation) -> str:
    return "" if any(image.sample.mask for image in evaluation.images) else "no masks in the test set"


def _counts(evaluation: Evaluation, *, alarms_only: bool = False) -> tuple[int, int]:
    """How many good and how many defective images there are, or how many of these are alarms."""
    kinds = [
        image.sample.anomalous for image in evaluation.images if not alarms_only or image.scored.verdict == "anomalous"
    ]
    return kinds.count(False), kinds.count(True)


def _detected_of(evaluation: Evaluation) -> str:
    bad, detected = _counts(evaluation)[1], _counts(evaluation, alarms_only=True)[1]
    return f"{detected} of {bad} defective images" if bad else missing_kind(evaluation)


def _alarms_of(evaluation: Evaluation) -> str:
    good, alarms = _counts(evaluation)[0], _counts(evaluation, alarms_only=True)[0]
    if not good:
        return missing_kind(evaluation)
    return f"{alarms} of {good} good images; asked {percent(evaluation.false_alarm_rate)}"


def _good_and_defective(evaluation: Evaluation) -> str:
    good, bad = _counts(evaluation)
    return f"{good:,} good, {bad:,} defective"


def _rate(value: Any) -> str:
    return MISSING if value is None else short(value)


IMAGE_AUROC = Figure(
    name="image_auroc",
    label="image AUROC",
    compute=_image_auroc,
    interval=confidence.image_auroc,
    places=frozenset({"text", "page", "card", "export", "defects"}),
    note=missing_kind,
)
IMAGE_AP = Figure(
    name="image_ap",
    label="image AP",
    compute=_image_ap,
    places=frozenset({"text", "aside"}),
    sentence="average precision {}",
    beside="image_auroc",
)
F1_MAX = Figure(
    name="f1_max",
    label="best F1",
    compute=_f1_max,
    places=frozenset({"text", "aside"}),
    sentence="best F1 {}",
    beside="image_auroc",
)
PIXEL_AUROC = Figure(
    name="pixel_auroc",
    label="pixel AUROC",
    compute=_pixel_auroc,
    interval=confidence.pixel_auroc,
    places=frozenset({"text", "page", "card", "export", "defects"}),
    note=_missing_masks,
)
AUPRO = Figure(
    name="aupro",
    label="AUPRO",
    compute=_aupro,
    interval=confidence.aupro,
    sentence="AUPRO {}",
    beside="pixel_auroc",
    note=_missing_masks,
)
DETECTION_RATE = Figure(
    name="detection_rate",
    label="detection rate",
    compute=_detection_rate,
    format=percent,
    interval=confidence.detection_rate,
    places=frozenset({"text", "page", "card", "export", "defects"}),
    heading="detected",
    sentence="{} of the defective images",
    note=_detected_of,
)
FALSE_ALARM_RATE = Figure(
    name="false_alarm_rate",
    label="false-alarm rate",
    compute=_false_alarm_rate,
    format=percent,
    interval=confidence.false_alarm_rate,
    places=frozenset({"text", "page", "card", "export"}),
    heading="false alarms",
    sentence="{} of the good images",
    note=_alarms_of,
)
UNSURE = Figure(
    name="unsure",
    label="unsure",
    compute=_unsure,
    format=lambda number: counted(number, "image"),
    places=frozenset({"text"}),
)
IMAGES = Figure(
    name="images",
    label="images",
    compute=lambda split: len(split.images),
    format=lambda number: f"{number:,}",
    places=frozenset({"page"}),
    note=_good_and_defective,
)
IMAGES_PER_SECOND = Figure(
    name="images_per_second",
    label="images a second",
    compute=_images_per_second,
    format=_rate,
    places=frozenset({"page"}),
)
IGNORED = Figure(
    name="ignored",
    label="ignored",
    compute=_ignored,
    format=percent,
    places=frozenset(),
)
