"""Finds the calibration images of a model in the folder that it was trained on."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.splits import split_nominal
from blemish.errors import BlemishError
from blemish.io.files import fingerprint
from blemish.io.text import printable
from blemish.model.metadata import FINGERPRINT_DIGITS, ModelMetadata


def find_calibration_images(metadata: ModelMetadata, data: DataSet) -> list[Path]:
    """The calibration images, in the order of the calibration scores.

    The model file holds the role of each image, by the fingerprint of its content: names and order of the files do not
    matter. Files of early releases hold no roles; for these alone the split is drawn again from the seed. Images that
    training could not read, and images that were added later, are left out.

    Args:
        metadata: those of the model file.
        data: the data set that it was trained on.

    Raises:
        BlemishError: the images are not those of the model, or cannot be read.
    """
    if metadata.calibration.folds:
        raise BlemishError(
            "a cross-conformal model was calibrated by several networks, each on images it was not fitted to, and "
            "cannot be calibrated again: train one without cross_conformal (--cross-conformal) to export it"
        )
    if metadata.roles:
        return _by_role(metadata.roles["calibration"], data)
    return _by_redrawing_the_split(metadata, data)


def _by_role(fingerprints: Sequence[str], data: DataSet) -> list[Path]:
    """Files of the training images with these fingerprints, one for each."""
    files: dict[str, list[Path]] = defaultdict(list)
    for sample, digest in zip(data.train, _digests(data), strict=True):
        files[digest].append(sample.path)
    missing = Counter(fingerprints) - Counter({digest: len(paths) for digest, paths in files.items()})
    if missing:
        raise BlemishError(
            f"{printable(data.root)} is not what the model was trained on: {missing.total():,} of "
            f"{len(fingerprints):,} images that calibrated it are not in it; give the folder as it was"
        )
    return [files[digest].pop(0) for digest in fingerprints]


def _by_redrawing_the_split(metadata: ModelMetadata, data: DataSet) -> list[Path]:
    settings = metadata.settings
    if missing := [name for name in ("false_alarm_rate", "seed", "outliers") if name not in settings]:
        raise BlemishError(f"the model file does not say with which {missing[0]} it was trained: train it again")
    used = _used(metadata, data)
    good = [sample for sample in used if not sample.anomalous]
    split = split_nominal(
        len(good),
        false_alarm_rate=settings["false_alarm_rate"],
        seed=settings["seed"],
        validate=len(good) < len(used) or settings["outliers"] is not None,
    )
    return [good[index].path for index in split.calibration]


def _used(metadata: ModelMetadata, data: DataSet) -> list[Sample]:
    """The training samples that the model used, in the order of the data set."""
    known = Counter(metadata.used_images)
    digests = _digests(data)
    missing = known - Counter(digests)
    if missing or not known:
        raise BlemishError(
            f"{printable(data.root)} is not what the model was trained on: {missing.total():,} of {known.total():,} "
            "training images are not in it; give the folder as it was"
        )
    return [sample for sample, digest in zip(data.train, digests, strict=True) if digest in known]


def _digests(data: DataSet) -> list[str]:
    return [fingerprint(sample.path)[:FINGERPRINT_DIGITS] for sample in data.train]
