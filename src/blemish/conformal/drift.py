"""Drift: a sequential test of whether incoming images are still exchangeable with the calibration images.

The bound on false alarms rests on one assumption: a new nominal image and the calibration images are exchangeable. The
test is a conformal test martingale (Vovk, Gammerman and Shafer 2005, chapter 8; Vovk 2021).

The null hypothesis. n calibration values cut the line into n + 1 cells. If n + t values are exchangeable, the next one
falls into a cell that holds c of the t values seen so far with probability (1 + c) / (n + 1 + t), whatever the
distribution: a Pólya urn. These are online conformal p-values, each rounded to the cell it falls into, so that memory
does not grow with the stream. As the urn learns the cells from the stream, a small n does no harm, as it would if
p-values from one calibration set were taken for independent.

The martingale. A betting density f on ranks, such as one that favours high ranks, has a capital that is multiplied by
f(cell) / E[f(cell)] with each image: under the null hypothesis its expectation stays the same. The capital is divided
among a few densities, and among all images as the start of betting, because the moment of a drift is unknown: betting
starts at image t with the share 1 / (t (t + 1)). By Ville's inequality the sum of the capitals ever reaches 1/alpha
with probability at most alpha: one false alarm in 1/alpha detectors, however many images they see.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from blemish.errors import BlemishError

# Densities on ranks from 0 (below all calibration values) to 1, as parameters (a, b) of the beta distribution: weak and
# strong ones, since the strength of a drift is unknown.
BETTING_DENSITIES = {
    "higher": ((2, 1), (4, 1), (12, 1)),
    "lower": ((1, 2), (1, 4), (1, 12)),
    "more spread": ((0.5, 0.5),),
    "less spread": ((3, 3),),
}


IMAGE_STATISTICS = ("brightness", "sharpness")  # those that do not depend on the model


@dataclass(frozen=True)
class Drift:
    """An alarm: which image raised it, in which statistic, and how incoming values differ from calibration's."""

    image: int
    statistic: str
    direction: str


class DriftMonitor:
    """The test on one stream of images, for one or several statistics of an image; not thread-safe.

    Each of S statistics has 1/S of the false-alarm rate (Bonferroni), so the rate holds for all of them together.
    Anomalous images are drift too where they come much more often than one in n: add the images of a line as they come,
    not a folder of defects.

    Args:
        calibration: values of each statistic over calibration images, by the names of `drift_statistics`; those of
            brightness and sharpness may come from all good training images, as no model has touched them.
        false_alarm_rate: probability of an alarm ever, on a stream that is exchangeable with the calibration images.
        one_sided: names of statistics of which only higher values are drift, because incoming values are expected to be
            lower than those of calibration.
        seed: breaks ties between equal values.
        state: the result of `state()` of a monitor with the same arguments, to continue its stream.

    Attributes:
        images: images seen.
        drift: the first alarm; None as long as there is none. It stays.

    Raises:
        BlemishError: no statistic, a value that is not finite, a rate outside (0, 1), or the state of another monitor.
    """

    def __init__(
        self,
        calibration: Mapping[str, Sequence[float]],
        *,
        false_alarm_rate: float = 0.01,
        one_sided: Collection[str] = (),
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 < false_alarm_rate < 1:
            raise BlemishError(f"the drift check's false-alarm rate must lie between 0 and 1, not {false_alarm_rate:g}")
        if not calibration:
            raise BlemishError("the drift check has nothing to watch: name at least one statistic, such as score")
        self.false_alarm_rate = false_alarm_rate
        self.images = 0
        self.drift: Drift | None = None
        self._martingales = {
            name: _Martingale(values, name, seed, bets=["higher"] if name in one_sided else list(BETTING_DENSITIES))
            for name, values in calibration.items()
        }
        self._identity = _digest(calibration, false_alarm_rate, one_sided, seed)
        if state is not None:
            self._resume(state)

    @property
    def p_value(self) -> float:
        """The smallest false-alarm rate at which there would have been an alarm so far: anytime-valid, in (0, 1]."""
        highest = max(martingale.highest for martingale in self._martingales.values())
        return min(1.0, len(self._martingales) * math.exp(-highest))

    def add(self, values: Mapping[str, float]) -> Drift | None:
        """Adds the next image of the stream.

        Args:
            values: the image's value of each statistic.

        Returns:
            The alarm if this image raises the first one, else None.

        Raises:
            BlemishError: a value is missing or not finite.
        """
        missing = self._martingales.keys() - values.keys()
        if missing or not all(math.isfinite(values[name]) for name in self._martingales):
            raise BlemishError(
                f"the drift check needs a finite value of {', '.join(self._martingales)} for every image: "
                "leave out images that could not be scored"
            )
        self.images += 1
        for name, martingale in self._martingales.items():
            martingale.add(values[name])
        if self.drift is not None or self.p_value > self.false_alarm_rate:
            return None
        name, martingale = max(self._martingales.items(), key=lambda named: named[1].highest)
        self.drift = Drift(self.images, name, martingale.direction)
        return self.drift

    def statement(self) -> str:
        """The result so far, in one sentence."""
        images = f"{self.images:,} image{'s' * (self.images != 1)}"
        rate = f"{100 * self.false_alarm_rate:g} %"
        if self.drift is None:
            return f"no drift in {images} (without drift an alarm has a probability of {rate} at most)"
        of_all = f" of {self.images:,}" if self.images > self.drift.image else ""
        return (
            f"drift at image {self.drift.image:,}{of_all}: {self.drift.statistic} {self.drift.direction} "
            "than in calibration, so the promised false-alarm rate may no longer hold "
            f"(without drift such an alarm has a probability of {rate} at most)"
        )

    def state(self) -> dict[str, Any]:
        """All that the test knows of the stream, as plain numbers for JSON: a few for each calibration image."""
        return {
            "check": self._identity,
            "images": self.images,
            "drift": asdict(self.drift) if self.drift else None,
            "statistics": {name: martingale.state() for name, martingale in self._martingales.items()},
        }

    def _resume(self, state: Mapping[str, Any]) -> None:
        try:
            if state["check"] != self._identity:
                raise BlemishError("the saved drift check belongs to another model or rate: start a new one")
            self.images = int(state["images"])
            self.drift = Drift(**state["drift"]) if state["drift"] else None
            for name, martingale in self._martingales.items():
                martingale.resume(state["statistics"][name], images=self.images)
        except (KeyError, TypeError, ValueError) as error:
            raise BlemishError("the saved drift check is damaged: start a new one") from error


def drift_statistics(
    pixels: npt.NDArray[np.uint8], score: float, *, ignored: npt.NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """The statistics of one image that are tested for drift: score, brightness and sharpness.

    Args:
        pixels: the image (H, W, 3) at network size.
        score: the detector's score.
        ignored: bool (H, W), pixels that are left out of brightness and sharpness.

    Returns:
        "score"; "brightness", the mean value, 0..255; "sharpness", the mean step between neighbouring pixels, 0..255.
    """
    green = pixels[:, :, 1].astype(np.int16)  # (H, W); most of the luminance, in a third of the time
    steps = [np.abs(np.diff(green, axis=axis)) for axis in (0, 1)]
    if ignored is not None:
        pixels = pixels[~ignored]
        left_out = (ignored[1:] | ignored[:-1], ignored[:, 1:] | ignored[:, :-1])
        steps = [step[~without] for step, without in zip(steps, left_out, strict=True)]
    sharpness = np.mean([step.mean() if step.size else 0.0 for step in steps])
    return {"score": float(score), "brightness": float(pixels.mean()), "sharpness": float(sharpness)}


class _Martingale:
    """The conformal test martingale of one statistic: capitals bet against its urn."""

    def __init__(self, values: Sequence[float], name: str, seed: int, *, bets: Sequence[str]) -> None:
        calibration = np.asarray(values, dtype=np.float64)
        if len(calibration) == 0 or not np.isfinite(calibration).all():
            raise BlemishError(
                f"the drift check needs finite calibration values of {name}: train the model again with good images"
            )
        # A random key breaks ties between equal values, so that all orders are equally likely.
        keys = np.random.default_rng(seed).random(len(calibration))
        order = np.lexsort((keys, calibration))
        self._values, self._keys, self._seed = calibration[order], keys[order], seed
        cells = len(calibration) + 1
        ranks = (np.arange(cells) + 0.5) / cells
        shapes = np.array([shape for direction in bets for shape in BETTING_DENSITIES[direction]])  # (bets, 2)
        self._directions = [direction for direction in bets for _ in BETTING_DENSITIES[direction]]
        self._densities = beta.pdf(ranks, *shapes.T[:, :, None])  # (bets, cells)
        self._counts = np.zeros(cells, dtype=np.int64)
        self._log_capitals = np.full(len(shapes), -np.inf)  # (bets,), the capital of each
        self._images = 0
        self.highest = 0.0  # logarithm of the largest sum of capitals so far

    @property
    def direction(self) -> str:
        """How incoming values differ, by the density with the largest capital."""
        return self._directions[int(self._log_capitals.argmax())]

    def add(self, value: float) -> None:
        cell = self._cell(value)
        self._images += 1
        entering = -math.log(self._images * (self._images + 1)) - math.log(len(self._log_capitals))
        expected = self._densities @ (1 + self._counts) / (len(self._counts) + self._images - 1)  # (bets,)
        self._log_capitals = np.logaddexp(self._log_capitals, entering) + np.log(self._densities[:, cell] / expected)
        self._counts[cell] += 1
        idle = -math.log(self._images + 1)
        self.highest = max(self.highest, float(np.logaddexp.reduce(self._log_capitals, initial=idle)))

    def _cell(self, value: float) -> int:
        low, high = (int(self._values.searchsorted(value, side)) for side in ("left", "right"))
        if low == high:
            return low
        key = np.random.default_rng((self._seed, self._images + 1)).random()
        return low + int(self._keys[low:high].searchsorted(key))

    def state(self) -> dict[str, Any]:
        return {
            "counts": self._counts.tolist(),
            "log_capitals": self._log_capitals.tolist() if self._images else None,  # JSON has no infinity
            "highest": self.highest,
        }

    def resume(self, state: Mapping[str, Any], *, images: int) -> None:
        counts = np.array(state["counts"], dtype=np.int64)
        if counts.shape != self._counts.shape or counts.sum() != images:
            raise ValueError("counts of another stream")
        self._counts, self._images, self.highest = counts, images, float(state["highest"])
        if images:
            self._log_capitals = np.array(state["log_capitals"], dtype=np.float64)


def _digest(
    calibration: Mapping[str, Sequence[float]], false_alarm_rate: float, one_sided: Collection[str], seed: int
) -> str:
    text = repr(
        (
            false_alarm_rate,
            sorted(one_sided),
            seed,
            [(name, [float(value) for value in calibration[name]]) for name in calibration],
        )
    )
    return sha256(text.encode()).hexdigest()[:16]
