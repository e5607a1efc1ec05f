"""Compares the decisions of an export with those of its model, on the calibration images of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.conformal.split import Calibration


@dataclass(frozen=True)
class Agreement:
    """What an export makes of the calibration images, each runtime with its own calibration.

    A shift or stretch of all scores changes nothing: p-values and verdicts depend on their order alone.

    Attributes:
        calibration_images: how many there are.
        tolerance: how far p-values may move: that of an image whose verdict becomes another, and all on average.
        verdicts_moved: images with another verdict at the model's own false-alarm rate.
        moved_beyond_tolerance: those of them whose p-value moves by more than the tolerance.
        mean_p_value_change: over all images: the share of verdicts that move, averaged over all false-alarm rates.
        largest_p_value_change: over all images.
        largest_score_difference: over all images, in units of the score.
        relative_score_difference: median over all images, relative to the score.
    """

    calibration_images: int
    tolerance: float
    verdicts_moved: int
    moved_beyond_tolerance: int
    mean_p_value_change: float
    largest_p_value_change: float
    largest_score_difference: float
    relative_score_difference: float

    @property
    def holds(self) -> bool:
        """Whether the export decides as the model does, within the tolerance.

        Verdicts alone would not do: nearly all calibration images have the same one, whatever their order.
        """
        return self.moved_beyond_tolerance == 0 and self.mean_p_value_change <= self.tolerance

    def statement(self) -> str:
        """In one clause, how many verdicts and how far p-values move."""
        return (
            f"{self.verdicts_moved:,} of {self.calibration_images:,} verdicts on calibration images move, "
            f"{self.moved_beyond_tolerance:,} of them far, and p-values by {self.mean_p_value_change:.3f} on average "
            f"({self.tolerance:g} is allowed)"
        )


def agreement(
    before: Sequence[float], after: Sequence[float], *, false_alarm_rate: float, tolerance: float
) -> Agreement:
    """Compares the scores of the same calibration images before and after, in the same order."""
    old, new = Calibration(before, false_alarm_rate), Calibration(after, false_alarm_rate)
    pairs = list(zip(before, after, strict=True))
    moved = np.array([old.verdict(a) != new.verdict(b) for a, b in pairs])
    shifts = np.array([abs(old.p_value(a) - new.p_value(b)) for a, b in pairs])
    differences = np.abs(np.subtract(after, before))
    return Agreement(
        calibration_images=len(pairs),
        tolerance=tolerance,
        verdicts_moved=int(moved.sum()),
        moved_beyond_tolerance=int((moved & (shifts > tolerance)).sum()),
        mean_p_value_change=float(shifts.mean()),
        largest_p_value_change=float(shifts.max()),
        largest_score_difference=float(differences.max()),
        relative_score_difference=float(np.median(differences / np.maximum(np.abs(before), 1e-6))),
    )
