"""Whether images are still distributed as in calibration: a running share of small p-values, and the drift test."""

import math
from collections import deque

from blemish.conformal.drift import DriftMonitor
from blemish.model.detector import Detector
from blemish.model.scored_image import ScoredImage
from blemish.serving.schemas import ScoreAnswer

SMALL_P_VALUE = 0.1
WINDOW = 1000


class SmallPValues:
    """The share of the last 1,000 images with p <= 0.1.

    While images are nominal and distributed as in calibration, it stays near 0.1 or below. It comes without an
    error rate; `DriftStream` has one.
    """

    def __init__(self) -> None:
        self._small: deque[bool] = deque(maxlen=WINDOW)

    def observe(self, p_value: float) -> None:
        """Takes the next image in."""
        self._small.append(p_value <= SMALL_P_VALUE)

    def value(self) -> float:
        """The share, in [0, 1]; NaN before the first image."""
        return sum(self._small) / len(self._small) if self._small else math.nan


class DriftStream:
    """The drift check over all images that one model has scored since the server started.

    Args:
        detector: the model; one whose file has no reference values is never checked.
    """

    def __init__(self, detector: Detector) -> None:
        self._check: DriftMonitor | None = detector.drift_check() if detector.metadata.drift_reference else None

    def observe(self, answer: ScoreAnswer | ScoredImage) -> None:
        """Takes the next image in, until there is an alarm, which stays."""
        if self._check is not None and self._check.drift is None:
            features = answer.drift_features if isinstance(answer, ScoredImage) else answer.light
            self._check.add({"score": answer.score, **features})

    def alarm(self) -> float:
        """1 after an alarm, 0 before; NaN without a check."""
        return math.nan if self._check is None else float(self._check.drift is not None)

    def p_value(self) -> float:
        """The least false-alarm rate at which there would have been an alarm by now; NaN without a check."""
        return math.nan if self._check is None else self._check.p_value
