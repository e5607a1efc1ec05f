"""Which training images are fitted to, which weigh what was learned from labels, and which are kept for calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from blemish.calibration import images_needed
from blemish.errors import BlemishError

Thing = TypeVar("Thing")

CALIBRATION_SHARE = 0.2
VALIDATION_SHARE = 0.1
# Beyond ten times what the asked rate needs, more calibration images no longer move the threshold to speak of.
MOST_CALIBRATION = 10


@dataclass(frozen=True)
class Split:
    """Disjoint index lists into the nominal training images; `validation` may be empty."""

    fit: tuple[int, ...]
    validation: tuple[int, ...]
    calibration: tuple[int, ...]


def fold_nominal(images: int, *, folds: int, seed: int, validate: bool) -> list[Split]:
    """Deals `images` nominal images to K folds by chance, of sizes that differ by one at most: each calibrates once.

    Of the others a tenth validates where asked, the rest fits. Raises BlemishError where folds cannot be filled.
    """
    if not 2 <= folds <= images:
        raise BlemishError(
            f"{images} good training images that can be read do not make {folds} folds: give 2 to {images}"
        )
    order = np.random.default_rng(seed).permutation(images)
    splits = []
    for fold in range(folds):
        rest = np.delete(order, np.s_[fold::folds])
        validation = round(VALIDATION_SHARE * len(rest)) if validate else 0
        parts = (rest[validation:], rest[:validation], order[fold::folds])
        splits.append(Split(*(tuple(sorted(part.tolist())) for part in parts)))
    return splits


def split_nominal(images: int, *, false_alarm_rate: float, seed: int, validate: bool) -> Split:
    """Splits `images` nominal images by chance: a fifth calibrates, a tenth validates where asked, the rest fits.

    Raises BlemishError with fewer than two images.
    """
    if images < 2:
        raise BlemishError(
            f"{images} good training image{'s' * (images != 1)} that can be read: training needs at least two, "
            "one to learn from and one to calibrate with"
        )
    order: Sequence[int] = np.random.default_rng(seed).permutation(images).tolist()
    most = MOST_CALIBRATION * images_needed(false_alarm_rate)
    calibration = max(1, min(round(CALIBRATION_SHARE * images), most))
    validation = round(VALIDATION_SHARE * images) if validate else 0
    return Split(
        fit=tuple(sorted(order[calibration + validation :])),
        validation=tuple(sorted(order[calibration : calibration + validation])),
        calibration=tuple(sorted(order[:calibration])),
    )


def evenly(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most so many of them, spread evenly from the first to the last."""
    return [things[place] for place in np.linspace(0, len(things) - 1, min(most, len(things))).round().astype(int)]
