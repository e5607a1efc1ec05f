"""Split conformal calibration: decisions with a false-alarm rate, from nominal images held out of training.

With n calibration scores the p-value of a score s is

    p = (1 + #{calibration scores >= s}) / (n + 1).

If a new nominal image is exchangeable with the calibration images, its p-value is at most alpha with probability at
most alpha, for every n and every detector (Vovk et al. 2005, chapter 2; Lei et al. 2018, theorem 2.2). So the
decision "anomalous where p <= alpha" gives at most the share alpha of false alarms, on average over calibration sets.
No p-value is below 1/(n + 1): n images support no smaller rate than that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from blemish.conformal.cross import cross_conformal_bound
from blemish.errors import BlemishError
from blemish.process.deprecation import renamed_attribute

Verdict = Literal["ok", "unsure", "anomalous"]

CONFIDENCE = 0.95
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999... in binary, and is meant as 29


@dataclass(frozen=True)
class Calibration:
    """Calibration scores of held-back nominal images and the false-alarm rate that was asked for.

    Attributes:
        scores: at least one finite float32 score; the order does not matter.
        false_alarm_rate: asked share of nominal images called anomalous, between 0 and 1.
        folds: the number of scores of each fold, in their order, where the calibration is cross-conformal (see
            `blemish.conformal.cross`): what is proven then is `guaranteed_rate`. Empty where it is split conformal.

    Raises:
        BlemishError: no score, a score that is not finite, a rate outside (0, 1), or folds of other scores.
    """

    scores: Sequence[float]
    false_alarm_rate: float = 0.01
    folds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(self.scores))  # a list could change under what is cached
        if len(self.scores) == 0:
            raise BlemishError("no calibration scores: hold at least one good image back from training")
        if not np.isfinite(self._descending).all():
            raise BlemishError("a calibration score is not a finite number: train the model again")
        if not 0 < self.false_alarm_rate < 1:
            raise BlemishError(
                f"the false-alarm rate must lie between 0 and 1, such as 0.01, not {self.false_alarm_rate:g}"
            )
        if self.folds and (min(self.folds) < 1 or sum(self.folds) != len(self.scores)):
            raise BlemishError(
                f"folds of {sum(self.folds):,} calibration scores, but there are {len(self.scores):,}: "
                "train the model again"
            )

    @cached_property
    def _descending(self) -> npt.NDArray[np.float32]:
        with np.errstate(over="ignore"):  # a score beyond float32 becomes infinite, which is refused
            return np.sort(np.asarray(self.scores, dtype=np.float32))[::-1]

    held_rate = renamed_attribute("held_rate", "effective_rate")
    supported_rate = renamed_attribute("supported_rate", "min_rate")
    proven_rate = renamed_attribute("proven_rate", "guaranteed_rate")

    @property
    def images(self) -> int:
        """Number of calibration images n."""
        return len(self.scores)

    @property
    def min_rate(self) -> float:
        """The smallest false-alarm rate that n images support, 1/(n+1)."""
        return 1 / (self.images + 1)

    @property
    def effective_rate(self) -> float:
        """The false-alarm rate of the threshold: the asked one, or the smallest supported one if that is larger."""
        return max(self.false_alarm_rate, self.min_rate)

    @property
    def guaranteed_rate(self) -> float:
        """The proven bound on the share of false alarms, on average over calibration sets."""
        return cross_conformal_bound(self.effective_rate, self.folds) if self.folds else self.effective_rate

    @cached_property
    def threshold(self) -> float:
        """The smallest float32 score that is called anomalous: p(score) <= effective_rate exactly from here on."""
        allowed = math.floor(self.effective_rate * (self.images + 1) + _ROUNDING) - 1
        if allowed >= self.images:  # a rate so high that every p-value is below it
            return float(np.finfo(np.float32).min)
        return float(np.nextafter(self._descending[allowed], np.float32(np.inf)))

    @cached_property
    def unsure_threshold(self) -> float:
        """The smallest score that is not called ok; at most `threshold`. See `verdict`."""
        exceeding = np.arange(1, self.images + 1)
        at_least = beta.ppf(1 - CONFIDENCE, exceeding, self.images - exceeding + 1)  # Clopper-Pearson
        enough = np.flatnonzero(at_least > self.effective_rate)
        if len(enough) == 0:
            return float(np.finfo(np.float32).min)
        return min(float(np.nextafter(self._descending[enough[0]], np.float32(np.inf))), self.threshold)

    def p_value(self, score: float) -> float:
        """Share of nominal images expected to score at least this high, in [1/(n+1), 1]."""
        return (1 + int((self._descending >= np.float32(score)).sum())) / (self.images + 1)

    def verdict(self, score: float) -> Verdict:
        """What the calibration images support for a score.

        ``anomalous``
            p <= effective_rate: at most that share of nominal images is called so.
        ``ok``
            With 95 % confidence more than effective_rate of all nominal images score at least as high
            (Clopper-Pearson's lower bound on that share, from the calibration scores).
        ``unsure``
            Neither: too few calibration images lie above the score to call it ordinary, too many to call it
            anomalous at this rate. More calibration images make this band narrower.
        """
        if score >= self.threshold:
            return "anomalous"
        return "unsure" if score >= self.unsure_threshold else "ok"

    def statement(self) -> str:
        """In one sentence, which rate was asked and which one the threshold holds."""
        asked, held, proven = (
            f"{100 * rate:.2g} %" for rate in (self.false_alarm_rate, self.effective_rate, self.guaranteed_rate)
        )
        if self.folds:
            images = f"{self.images:,} images in {len(self.folds)} folds that train and calibrate"
            rate = f"{asked}, by {images}" if held == asked else f"asked {asked}: {images} support {held}"
            return f"false-alarm rate {rate}; that or less in practice, {proven} at most is proven"
        images = f"{self.images:,} calibration image{'s' * (self.images != 1)}"
        if self.effective_rate == self.false_alarm_rate:
            return f"false-alarm rate {asked}, held by {images}"
        needed = images_needed(self.false_alarm_rate)
        return (
            f"false-alarm rate asked {asked}: {images} can promise {held}; that is what the threshold holds "
            f"({needed:,} would give {asked})"
        )


def images_needed(false_alarm_rate: float) -> int:
    """The fewest calibration images that support this false-alarm rate."""
    return math.ceil(1 / false_alarm_rate - 1 - _ROUNDING)
