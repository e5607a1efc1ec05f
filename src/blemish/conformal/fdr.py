"""False-discovery control over a batch: of the images called anomalous, which share may be nominal.

A false-alarm rate of 1 % promises that 1 % of the nominal images are called anomalous; where defects are rare these
may be most of the alarms. The false-discovery rate limits their expected share among the alarms instead. Benjamini
and Hochberg's procedure (1995) needs p-values that are independent or positively dependent (PRDS; Benjamini and
Yekutieli 2001). Conformal p-values of one batch share their calibration scores and so are not independent, but they
are PRDS (Bates, Candès, Lei, Romano and Sesia 2023): the procedure holds as it is, with no correction, on
average over calibration sets and batches. For cross-conformal p-values no such theorem is known, nor for those of a
detector of an earlier release with a second opinion: they are larger one by one, which of them depends on the
calibration images. There the proven rate is Benjamini and Yekutieli's; docs/guarantees.md has what was measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from blemish.conformal.split import Calibration
from blemish.errors import BlemishError

_ROUNDING = 1e-9  # relative; so that an adjusted p-value of 0.1 computed as 0.10000000000000002 counts


@dataclass(frozen=True)
class Discoveries:
    """What a batch of N images holds at a false-discovery rate.

    Attributes:
        q_values: adjusted p-values, float64 (N,): the least false-discovery rate at which each image is discovered.
        discovered: bool (N,), the images called anomalous; the expected share of nominal ones among them is at most
            the rate times the share of nominal images in the batch (0 where there is no discovery).
        false_discovery_rate: the rate asked.
    """

    q_values: npt.NDArray[np.float64]
    discovered: npt.NDArray[np.bool_]
    false_discovery_rate: float


def discover(p_values: Sequence[float] | npt.NDArray[np.float64], *, false_discovery_rate: float = 0.1) -> Discoveries:
    """Benjamini and Hochberg's discoveries in a batch of conformal p-values (N,) from one calibration set.

    Raises BlemishError for no p-values, one outside [0, 1], or a rate outside (0, 1).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise BlemishError("false-discovery control needs the p-values of a batch: give one for each image")
    if not ((values >= 0) & (values <= 1)).all():
        raise BlemishError("a p-value lies outside 0 to 1: leave out images that could not be scored")
    _check_rate(false_discovery_rate)
    q_values = false_discovery_control(values, method="bh")
    return Discoveries(q_values, q_values <= false_discovery_rate * (1 + _ROUNDING), false_discovery_rate)


def fewest_discoveries(images: int, *, calibration_images: int, false_discovery_rate: float = 0.1) -> int:
    """The smallest number of discoveries that is possible in a batch; above `images` none is.

    No p-value is below 1/(n+1), so a few defects in a large batch cannot be told from chance by few calibration images.
    """
    _check_rate(false_discovery_rate)
    return max(1, math.ceil(images / ((calibration_images + 1) * false_discovery_rate) * (1 - _ROUNDING)))


def check_fdr_supported(calibration: Calibration, false_discovery_rate: float) -> None:
    """Raises BlemishError where nothing is proven of discoveries: for cross-conformal p-values, and for a rate that is
    none.
    """
    _check_rate(false_discovery_rate)
    if calibration.folds:
        raise BlemishError(
            "nothing is proven of the false-discovery rate of a cross-conformal model: leave out "
            "--false-discovery-rate, or train without --cross-conformal"
        )


def _check_rate(false_discovery_rate: float) -> None:
    if not 0 < false_discovery_rate < 1:
        raise BlemishError(
            f"the false-discovery rate must lie between 0 and 1, such as 0.1, not {false_discovery_rate:g}"
        )
