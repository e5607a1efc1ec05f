"""The false-alarm rates that few good images support, by split and by cross-conformal calibration."""

import numpy as np

from blemish.conformal.split import Calibration
from blemish.datasets.splits import DEFAULT_SIZES, SplitSizes, calibration_images, fold_sizes
from blemish.io.text import percent

MIN_ADVISED = 20  # good images: with fewer, training says what they can promise
MAX_FOLDS = 8  # advised: each is one more network to run


def advised_folds(images: int) -> int:
    """The number of folds for so many images: of one size where possible, since the bound is lower for them."""
    if images <= MAX_FOLDS:
        return images
    return next((folds for folds in range(MAX_FOLDS, 3, -1) if images % folds == 0), 5)


def advice(
    images: int, *, false_alarm_rate: float = 0.01, grouped: bool = False, sizes: SplitSizes = DEFAULT_SIZES
) -> str | None:
    """Advice for few good images: the rates that split and cross-conformal calibration support.

    Args:
        images: the number of distinct good images, or of groups of them.
        false_alarm_rate: the rate asked.
        grouped: whether `images` is a number of groups.
        sizes: how many images calibrate.

    Returns:
        A sentence; None where split conformal calibration supports the rate asked, or there are enough images.
    """
    if not 2 <= images < MIN_ADVISED:
        return None
    calibrate, folds = calibration_images(images, false_alarm_rate, sizes=sizes), advised_folds(images)
    split = _calibration(calibrate, false_alarm_rate)
    crossed = _calibration(images, false_alarm_rate, fold_sizes(images, folds))
    things = "groups" if grouped else "good images"
    alone = f"{calibrate} of {images} {things} {'calibrates' if calibrate == 1 else 'calibrate'}"
    if split.effective_rate == false_alarm_rate and _says_ok(split):
        return None
    unsure = "" if _says_ok(split) else ", and no image can be called ok, only unsure"
    then = ", and images can be called ok" if unsure and _says_ok(crossed) else ""
    return (
        f"{alone} and can promise a false-alarm rate of {percent(split.effective_rate, digits=2)}{unsure}; with "
        f"--cross-conformal {folds} all {images} do: {percent(crossed.effective_rate, digits=2)} in practice, "
        f"{percent(crossed.guaranteed_rate, digits=2)} at most is proven{then}"
    )


def _calibration(images: int, rate: float, folds: tuple[int, ...] = ()) -> Calibration:
    """A calibration by so many images, whatever their scores."""
    return Calibration([float(score) for score in range(images)], rate, folds=folds)


def _says_ok(calibration: Calibration) -> bool:
    """Whether a low score is called ok, and not unsure for want of images."""
    return bool(calibration.unsure_threshold > np.finfo(np.float32).min)
