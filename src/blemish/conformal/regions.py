"""P-values of single regions: how often a nominal image holds a region this large anywhere.

The statistic of a region is its excess: the sum over its pixels of how far the map exceeds a level, so that a faint
wide stain counts as well as a small bright spot. A calibration image gives its largest one. The p-value of a region
with excess e is (1 + #{calibration images whose largest excess >= e}) / (n + 1). Because the largest is counted,
p <= alpha happens to *any* region of a nominal image with probability at most alpha, however many regions it has.
(With the region's peak as the statistic the same is `Calibration.p_value` of the peak: nothing more is needed.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from blemish.errors import BlemishError
from blemish.imaging.regions import EIGHT_CONNECTED, check_anomaly_map

# Of the scores of images fitted to. Lower levels join what is apart, and the volume of noise drowns small defects.
LEVEL_QUANTILE = 0.9

AnomalyMap = npt.NDArray[Any]


@dataclass(frozen=True)
class RegionCalibration:
    """The largest excess of each of n calibration images over one level of the anomaly map.

    Attributes:
        level: in units of the map. It must not depend on the calibration images, or the guarantee is lost.
        largest: at least one finite value, in units of the map times pixels at network size; 0 where none exceeds.

    Raises:
        BlemishError: no value, or one that is not finite.
    """

    level: float
    largest: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "largest", tuple(self.largest))  # a list could change under what is cached
        if len(self.largest) == 0 or not np.isfinite([self.level, *self.largest]).all():
            raise BlemishError("region p-values need a finite excess of each calibration image: train the model again")

    @classmethod
    def from_maps(cls, fit_scores: Sequence[float], calibration_maps: Iterable[AnomalyMap]) -> Self:
        """Takes the level from scores of images the detector was fitted to, the excesses from calibration maps (h, w).

        The images fitted to know nothing of the calibration images, which is what the level needs to be: some, such
        as 64, are enough.
        """
        level = float(np.quantile(fit_scores, LEVEL_QUANTILE))
        return cls(level, tuple(float(_excesses(one, level)[1].max()) for one in calibration_maps))

    def p_values(self, anomaly_map: AnomalyMap, threshold: float) -> list[float]:
        """A p-value in [1/(n+1), 1] for each region of `find_regions(anomaly_map, threshold)`, in its order.

        A region's excess is that of the region around it at the level, which others may share; where the threshold is
        below the level, the largest within it.
        """
        check_anomaly_map(anomaly_map)
        values = anomaly_map.astype(np.float64)  # as in `find_regions`, so that the same pixels reach the threshold
        inside = values >= threshold
        labels, found = ndimage.label(inside, structure=EIGHT_CONNECTED)
        around, excesses = _excesses(values, self.level)
        # Over the pixels of regions only: a maximum by label over the whole map would sort it.
        regions = labels[inside] - 1  # (pixels,)
        largest, peaks = np.zeros(found), np.full(found, -np.inf)
        np.maximum.at(largest, regions, excesses[around[inside]])
        np.maximum.at(peaks, regions, values[inside])
        return [self._p_value(largest[region]) for region in np.argsort(-peaks, kind="stable")]

    def _p_value(self, excess: float) -> float:
        return (1 + sum(one >= excess for one in self.largest)) / (len(self.largest) + 1)


def _excesses(anomaly_map: AnomalyMap, level: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels (h, w) of the 8-connected regions at the level and the excess of each; label 0, all below it, has none."""
    above = anomaly_map.astype(np.float64) - level
    labels, found = ndimage.label(above >= 0, structure=EIGHT_CONNECTED)
    excesses = np.bincount(labels.ravel(), weights=above.ravel(), minlength=found + 1)
    excesses[0] = 0.0
    return labels, excesses
