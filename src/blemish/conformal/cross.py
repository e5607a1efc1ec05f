"""Cross-conformal p-values (Vovk 2015): every nominal image both trains and calibrates.

The nominal images are dealt to K folds by chance; model k learns from all folds but the k-th and scores the k-th. With
n left-out scores R_i the p-value of a new image, whose score by model k is s_k, is

    p = (1 + sum over folds k of #{i in fold k: R_i >= s_k}) / (n + 1).

In practice p <= alpha happens to at most the share alpha of nominal images. What is *proven* is less, because a new
image meets K models while a calibration image met one; see `CrossCalibration.false_alarm_bound`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from blemish.conformal.split import Calibration, cross_conformal_bound
from blemish.errors import BlemishError


@dataclass(frozen=True)
class CrossCalibration:
    """Left-out scores of n nominal images in K folds.

    Attributes:
        folds: K sequences, each the scores of one fold's images by the model that has not learned from them.

    Raises:
        BlemishError: fewer than two folds, an empty one, or a score that is not finite.
    """

    folds: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if len(self.folds) < 2 or not all(len(fold) for fold in self.folds):
            raise BlemishError("cross-calibration needs two folds or more with an image in each: give more good images")
        if not np.isfinite(self.pooled).all():
            raise BlemishError("a left-out score is not a finite number: train the model again")

    @cached_property
    def pooled(self) -> npt.NDArray[np.float32]:
        """All left-out scores, float32 (n,), fold by fold."""
        return np.concatenate([np.asarray(fold, dtype=np.float32) for fold in self.folds])

    @property
    def images(self) -> int:
        """Number of nominal images n in all folds."""
        return len(self.pooled)

    def p_value(self, scores: Sequence[float]) -> float:
        """The cross-conformal p-value, in [1/(n+1), 1], of a new image from its K scores by the K models.

        Raises BlemishError where there is not one score for each fold.
        """
        if len(scores) != len(self.folds):
            raise BlemishError(
                f"{len(scores)} scores for {len(self.folds)} folds: score the image by every fold's model"
            )
        of_fold = np.repeat(np.asarray(scores, dtype=np.float32), [len(fold) for fold in self.folds])  # (n,)
        return (1 + int((self.pooled >= of_fold).sum())) / (self.images + 1)

    def calibration(self, false_alarm_rate: float) -> Calibration:
        """All left-out scores as one calibration, for a detector whose map is the smallest of the K models' maps.

        The maximum of that map is at most each s_k, so its p-value is at least the cross-conformal one: one score, one
        threshold, and `false_alarm_bound` holds for them. With the score of any other model, such as one that learned
        from all n images, nothing is proven.
        """
        return Calibration(self.pooled.tolist(), false_alarm_rate, folds=tuple(len(fold) for fold in self.folds))

    def false_alarm_bound(self, rate: float) -> float:
        """The proven bound on P(p <= rate) for a new image that is exchangeable with the n images."""
        return cross_conformal_bound(rate, [len(fold) for fold in self.folds])
