"""P-values of single regions by cluster mass: how often a nominal image has a region of this mass anywhere.

The statistic of a region is its cluster mass (Bullmore et al. 1999): the sum over its pixels of how far the anomaly map
exceeds a level, so that a faint wide stain counts as well as a small bright spot. The p-value of a region of mass m is

    p = (1 + #{calibration images whose largest mass >= m}) / (n + 1).

It is the conformal p-value (Vovk et al. 2005) of the largest mass in an image. So, for a nominal image that is
exchangeable with the n calibration images, p <= alpha happens to *any* of its regions with probability at most alpha,
however many regions it has: the family-wise error rate is controlled. (With the region's peak as the statistic the same
is `Calibration.p_value` of the peak: nothing more is needed.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from blemish.errors import BlemishError
from blemish.imaging.anomaly_maps import check_anomaly_map
from blemish.imaging.regions import EIGHT_CONNECTED

# Of the scores of images fitted to. Lower levels join separate regions, and the mass of noise drowns small defects.
LEVEL_QUANTILE = 0.9

AnomalyMap = npt.NDArray[Any]


@dataclass(frozen=True)
class RegionCalibration:
    """The largest cluster mass of each of n calibration images, over one level of the anomaly map.

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
            raise BlemishError(
                "region p-values need a finite cluster mass of each calibration image: train the model again"
            )

    @classmethod
    def from_maps(cls, fit_scores: Sequence[float], calibration_maps: Iterable[AnomalyMap]) -> Self:
        """Chooses the level from the images that the detector was fitted to.

        The level is independent of the calibration images because those images are.

        Args:
            fit_scores: scores of images the detector was fitted to; 64 are enough.
            calibration_maps: the anomaly maps (h, w) of the n calibration images.
        """
        level = float(np.quantile(fit_scores, LEVEL_QUANTILE))
        return cls(level, tuple(float(_cluster_masses(each, level)[1].max()) for each in calibration_maps))

    def p_values(self, anomaly_map: AnomalyMap, threshold: float) -> list[float]:
        """A p-value in [1/(n+1), 1] for each region of `find_regions(anomaly_map, threshold)`, in its order.

        A region's mass is that of the cluster around it at the level, which it may share with other regions; where the
        threshold is below the level, it is the largest mass within the region.
        """
        check_anomaly_map(anomaly_map)
        values = anomaly_map.astype(np.float64)  # as in `find_regions`, so that the same pixels reach the threshold
        inside = values >= threshold
        labels, found = ndimage.label(inside, structure=EIGHT_CONNECTED)
        clusters, masses = _cluster_masses(values, self.level)
        # Over the pixels of regions only: a maximum by label over the whole map would sort it.
        regions = labels[inside] - 1  # (pixels,)
        largest, peaks = np.zeros(found), np.full(found, -np.inf)
        np.maximum.at(largest, regions, masses[clusters[inside]])
        np.maximum.at(peaks, regions, values[inside])
        return [self._p_value(largest[region]) for region in np.argsort(-peaks, kind="stable")]

    def _p_value(self, mass: float) -> float:
        return (1 + sum(calibration >= mass for calibration in self.largest)) / (len(self.largest) + 1)


def _cluster_masses(anomaly_map: AnomalyMap, level: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels (h, w) of the 8-connected regions at the level and the mass of each; label 0, all below it, has 0."""
    above = anomaly_map.astype(np.float64) - level
    labels, found = ndimage.label(above >= 0, structure=EIGHT_CONNECTED)
    masses = np.bincount(labels.ravel(), weights=above.ravel(), minlength=found + 1)
    masses[0] = 0.0
    return labels, masses
