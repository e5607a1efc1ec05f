"""A running figure of how today's scores sit in the calibration scores."""

import math
from collections import deque

SMALL_P_VALUE = 0.1
WINDOW = 1000


class SmallPValues:
    """The share of the last 1,000 images with p <= 0.1.

    While images are nominal and look as those of the calibration did, it stays near 0.1 or below. It says
    nothing about chance: a test with a stated false-alarm rate can take this class's place in `Metrics`.
    """

    def __init__(self) -> None:
        self._small: deque[bool] = deque(maxlen=WINDOW)

    def observe(self, p_value: float) -> None:
        """Takes the next image in."""
        self._small.append(p_value <= SMALL_P_VALUE)

    def value(self) -> float:
        """The share, in [0, 1]; NaN before the first image."""
        return sum(self._small) / len(self._small) if self._small else math.nan
