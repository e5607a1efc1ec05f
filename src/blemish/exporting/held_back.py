"""Finding the held-back calibration images of a model again, in the folder it was trained on."""

from collections import Counter
from pathlib import Path

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.splits import split_nominal
from blemish.errors import BlemishError
from blemish.files import fingerprint, printable
from blemish.model_file import FINGERPRINT_DIGITS, ModelMetadata


def held_back_images(metadata: ModelMetadata, data: DataSet) -> list[Path]:
    """The calibration images, in the order of the calibration scores.

    The split is drawn again from the settings in the model file. Images that training could not read, or that came
    into the folder later, have no part in it.

    Raises:
        BlemishError: the training images are not those the model knows, or cannot be read.
    """
    if metadata.calibration.folds:
        raise BlemishError(
            "a cross-conformal model was calibrated by several networks, each on images new to it, and cannot be "
            "calibrated anew: train one without --cross-conformal to export it"
        )
    used = _used(metadata, data)
    good = [sample for sample in used if not sample.anomalous]
    settings = metadata.settings
    split = split_nominal(
        len(good),
        false_alarm_rate=settings["false_alarm_rate"],
        seed=settings["seed"],
        validate=len(good) < len(used) or settings["outliers"] is not None,
    )
    return [good[index].path for index in split.calibration]


def _used(metadata: ModelMetadata, data: DataSet) -> list[Sample]:
    """The training samples that the model was made from, in their order."""
    known = Counter(metadata.used_images)
    digests = [fingerprint(sample.path)[:FINGERPRINT_DIGITS] for sample in data.train]
    missing = known - Counter(digests)
    if missing or not known:
        raise BlemishError(
            f"{printable(data.root)} is not what the model was trained on: {missing.total():,} of {known.total():,} "
            "training images are not in it; give the folder as it was"
        )
    return [sample for sample, digest in zip(data.train, digests, strict=True) if digest in known]
