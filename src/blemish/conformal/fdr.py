"""Control of the false-discovery rate over a batch: the share of nominal images among those called anomalous.

A false-alarm rate of 1 % means that 1 % of the nominal images are called anomalous; where defects are rare these may be
most of the alarms. The false-discovery rate limits their expected share among the alarms instead. The procedure of
Benjamini and Hochberg (1995) controls it for p-values that are independent or positively dependent (PRDS; Benjamini and
Yekutieli 2001, theorem 1.2). Conformal p-values of one batch share their calibration scores and so are not independent,
but they are PRDS (Bates, Candès, Lei, Romano and Sesia 2023, theorem 2): the procedure holds with no correction, on
average over calibration sets and batches.

For cross-conformal p-values no such theorem is known, nor for those of a model file of release 0.1.0 that holds a refit
model: its minimum makes each p-value larger, by an amount that depends on the calibration images. There the proven rate
is that of Benjamini and Yekutieli (2001, theorem 1.3); docs/guarantees.md has the measured rates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from blemish.conformal.split import Calibration
from blemish.errors import BlemishError

_ROUNDING = 1e-9  # relative: an adjusted p-value of 0.10000000000000002 is at most 0.1


@dataclass(frozen=True)
class Discoveries:
    """The discoveries among a batch of N images at a false-discovery rate.

    Attributes:
        q_values: adjusted p-values, float64 (N,): the least false-discovery rate at which each image is discovered.
        discovered: bool (N,), the images called anomalous; the expected share of nominal ones among them is at most
            the rate times the share of nominal images in the batch (0 where there is no discovery).
        false_discovery_rate: the rate asked.
    """

    q_values: npt.NDArray[np.float64]
    discovered: npt.NDArray[np.bool_]
    false_discovery_rate: float


def control_fdr(
    p_values: Sequence[float] | npt.NDArray[np.float64], *, false_discovery_rate: float = 0.1
) -> Discoveries:
    """The step-up procedure of Benjamini and Hochberg (1995) on the conformal p-values of a batch.

    Args:
        p_values: (N,), of one calibration set.
        false_discovery_rate: the bound on the expected share of nominal images among the discoveries.

    Raises:
        BlemishError: no p-values, one outside [0, 1], or a rate outside (0, 1).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise BlemishError("false-discovery control needs the p-values of a batch: give one for each image")
    if not ((values >= 0) & (values <= 1)).all():
        raise BlemishError("a p-value lies outside 0 to 1: leave out images that could not be scored")
    _check_rate(false_discovery_rate)
    q_values = false_discovery_control(values, method="bh")
    return Discoveries(q_values, q_values <= false_discovery_rate * (1 + _ROUNDING), false_discovery_rate)


def min_rejections(images: int, *, calibration_images: int, false_discovery_rate: float = 0.1) -> int:
    """The smallest number of discoveries that is possible in a batch; above `images` none is possible.

    No p-value is below 1/(n + 1), so few calibration images cannot distinguish a few defects in a large batch from
    chance.
    """
    _check_rate(false_discovery_rate)
    return max(1, math.ceil(images / ((calibration_images + 1) * false_discovery_rate) * (1 - _ROUNDING)))


def check_fdr_supported(calibration: Calibration, false_discovery_rate: float) -> None:
    """Raises BlemishError for a cross-conformal calibration, for which there is no theorem, and for an invalid rate."""
    _check_rate(false_discovery_rate)
    if calibration.folds:
        raise BlemishError(
            "nothing is proven about the false-discovery rate of a cross-conformal model: leave out "
            "false_discovery_rate (--false-discovery-rate), or train without cross_conformal (--cross-conformal)"
        )


def _check_rate(false_discovery_rate: float) -> None:
    if not 0 < false_discovery_rate < 1:
        raise BlemishError(
            f"the false-discovery rate must lie between 0 and 1, such as 0.1, not {false_discovery_rate:g}"
        )
