"""Which training images are fitted to, which of these weigh what was learned from labels, and which calibrate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from blemish.calibration import images_needed
from blemish.errors import BlemishError

Thing = TypeVar("Thing")

CALIBRATION_SHARE = 0.2
VALIDATION_SHARE = 0.25  # of the images fitted to: what is learned from labels alone goes without them
MOST_VALIDATION = 250  # which tell the scale of what was learned to 2 %
# Beyond ten times what the asked rate needs, more calibration images no longer move the threshold to speak of.
MOST_CALIBRATION = 10


@dataclass(frozen=True)
class Split:
    """Index lists into the nominal training images.

    Attributes:
        fit: those fitted to.
        validation: some of these, which nothing learns from beside labels; may be empty.
        calibration: all the others.
    """

    fit: tuple[int, ...]
    validation: tuple[int, ...]
    calibration: tuple[int, ...]

    @classmethod
    def of(cls, fit: Sequence[int], calibration: Sequence[int], *, validate: bool) -> Self:
        """Of shuffled indices: where asked the first quarter of those to fit to validates, 1 to `MOST_VALIDATION`."""
        share = min(max(round(VALIDATION_SHARE * len(fit)), 1), MOST_VALIDATION)
        validation = fit[:share] if validate and len(fit) > 1 else ()
        return cls(*(tuple(sorted(part)) for part in (fit, validation, calibration)))


def fold_nominal(images: int, *, folds: int, seed: int, validate: bool) -> list[Split]:
    """Deals `images` nominal images to K folds by chance, of sizes that differ by one at most: each calibrates once.

    All the others are fitted to; see `Split.of`. Raises BlemishError where folds cannot be filled.
    """
    if not 2 <= folds <= images:
        raise BlemishError(
            f"{images} distinct good training images that can be read do not make {folds} folds: give 2 to {images}"
        )
    order = np.random.default_rng(seed).permutation(images)
    dealt = [(np.delete(order, np.s_[fold::folds]).tolist(), order[fold::folds].tolist()) for fold in range(folds)]
    return [Split.of(rest, calibration, validate=validate) for rest, calibration in dealt]


def split_nominal(images: int, *, false_alarm_rate: float, seed: int, validate: bool) -> Split:
    """Splits `images` nominal images by chance: a fifth calibrates, the rest is fitted to; see `Split.of`.

    Raises BlemishError with fewer than two images.
    """
    if images < 2:
        raise BlemishError(
            f"{images} distinct good training image{'s' * (images != 1)} that can be read: training needs at least "
            "two, one to learn from and one to calibrate with"
        )
    order: Sequence[int] = np.random.default_rng(seed).permutation(images).tolist()
    calibration = calibration_images(images, false_alarm_rate)
    return Split.of(order[calibration:], order[:calibration], validate=validate)


def calibration_images(images: int, false_alarm_rate: float) -> int:
    """How many of so many nominal images calibrate."""
    most = MOST_CALIBRATION * images_needed(false_alarm_rate)
    return max(1, min(round(CALIBRATION_SHARE * images), most))


def fold_sizes(images: int, folds: int) -> tuple[int, ...]:
    """The sizes of the folds that so many images are dealt to."""
    return tuple(len(range(fold, images, folds)) for fold in range(folds))


def evenly(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most so many of them, spread evenly from the first to the last."""
    return [things[place] for place in np.linspace(0, len(things) - 1, min(most, len(things))).round().astype(int)]
