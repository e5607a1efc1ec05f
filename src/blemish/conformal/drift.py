"""Drift: a running test of whether incoming images still look exchangeable with the calibration images.

The promise on false alarms rests on one assumption: a new nominal image is to the detector what a calibration image
was. Let n calibration values cut the line into n + 1 cells. If n + t values are exchangeable, the next one falls into
a cell that holds c of the t values seen so far with probability (1 + c) / (n + 1 + t), whatever the distribution: a
Pólya urn. The urn learns the cells as the stream goes on, so nothing is gained from n being small, as there would be
if p-values from one calibration set were taken for independent. (These are the online conformal p-values of Vovk et
al. 2005, chapter 8, each rounded to the cell it falls into; memory does not grow with the stream.)

Against the urn we bet. A bet is a density f on ranks, such as one that favours high ranks; a capital put on it is
multiplied by f(cell) / E[f(cell)] with each image and stays the same on average as long as the urn is right. Capital is
spread over a few bets, and over all images as the moment when betting begins: image t with the share 1 / (t (t + 1)),
as the moment of a drift is unknown. By Ville's inequality the sum ever reaches 1/alpha with probability at most alpha:
one alarm in 1/alpha detectors, however many images they see.
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

# Densities on ranks from 0 (below all calibration values) to 1, as parameters of the beta distribution: weak and
# strong ones, since nobody knows how strong a drift will be.
BETS = {
    "higher": ((2, 1), (4, 1), (12, 1)),
    "lower": ((1, 2), (1, 4), (1, 12)),
    "more spread": ((0.5, 0.5),),
    "less spread": ((3, 3),),
}


LIGHT = ("brightness", "sharpness")  # statistics that no model has a part in


@dataclass(frozen=True)
class Drift:
    """An alarm: which image raised it, in which statistic, and how incoming values differ from calibration's."""

    image: int
    statistic: str
    direction: str


class DriftCheck:
    """The running test over one stream of images, for one or several statistics of an image; not thread-safe.

    With S statistics each has 1/S of the false-alarm rate, so the rate holds for all of them together: a sum of their
    capitals would need more, as each bets with its own past only. Anomalous images are drift too where they come much
    more often than one in n: feed it the line as it comes, not a folder of defects.

    Args:
        calibration: values of each statistic over calibration images, by the names of `drift_statistics`; those of
            brightness and sharpness may come from all good training images, as no model has touched them.
        false_alarm_rate: probability of an alarm ever, on a stream that is exchangeable with the calibration images.
        higher_only: names of statistics of which only higher values are drift, because incoming ones may be lower than
            calibration's by their making.
        seed: decides between values that are equal.
        state: what `state` of a check like this one gave, to go on from there.

    Attributes:
        images: images seen.
        drift: the first alarm; None as long as there is none. It stays.

    Raises:
        BlemishError: nothing to watch, a value that is not finite, a rate outside (0, 1), another check's state.
    """

    def __init__(
        self,
        calibration: Mapping[str, Sequence[float]],
        *,
        false_alarm_rate: float = 0.01,
        higher_only: Collection[str] = (),
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
            name: _Martingale(values, name, seed, bets=["higher"] if name in higher_only else list(BETS))
            for name, values in calibration.items()
        }
        self._identity = _digest(calibration, false_alarm_rate, higher_only, seed)
        if state is not None:
            self._resume(state)

    @property
    def p_value(self) -> float:
        """The least false-alarm rate at which there would have been an alarm by now: valid at any time, in (0, 1]."""
        highest = max(one.highest for one in self._martingales.values())
        return min(1.0, len(self._martingales) * math.exp(-highest))

    def add(self, values: Mapping[str, float]) -> Drift | None:
        """Counts one more image by its value of each statistic; returns the alarm if this image raises the first one.

        Raises BlemishError for a value that is missing or not finite.
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
        name, loudest = max(self._martingales.items(), key=lambda pair: pair[1].highest)
        self.drift = Drift(self.images, name, loudest.direction)
        return self.drift

    def statement(self) -> str:
        """In one sentence, what the check has found."""
        images = f"{self.images:,} image{'s' * (self.images != 1)}"
        rate = f"{100 * self.false_alarm_rate:g} %"
        if self.drift is None:
            return f"no drift in {images} (a false alarm would come with probability {rate} at most)"
        of_all = f" of {self.images:,}" if self.images > self.drift.image else ""
        return (
            f"drift at image {self.drift.image:,}{of_all}: {self.drift.statistic} {self.drift.direction} "
            "than in calibration, so the promised false-alarm rate may no longer hold "
            f"(such an alarm comes without cause with probability {rate} at most)"
        )

    def state(self) -> dict[str, Any]:
        """Everything about the stream so far, as plain numbers for JSON; a few numbers a calibration image."""
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
    """What is worth watching of one image: its score, and light and focus, which move before scores do.

    Args:
        pixels: the image (H, W, 3) at network size.
        score: the detector's score.
        ignored: bool (H, W), pixels without a say in light and focus.

    Returns:
        "score"; "brightness", the mean value, 0..255; "sharpness", the mean step between neighbouring pixels, 0..255.
    """
    green = pixels[:, :, 1].astype(np.int16)  # (H, W); most of what eyes call light, in a third of the time
    steps = [np.abs(np.diff(green, axis=axis)) for axis in (0, 1)]
    if ignored is not None:
        pixels = pixels[~ignored]
        between = (ignored[1:] | ignored[:-1], ignored[:, 1:] | ignored[:, :-1])
        steps = [step[~without] for step, without in zip(steps, between, strict=True)]
    sharpness = np.mean([step.mean() if step.size else 0.0 for step in steps])
    return {"score": float(score), "brightness": float(pixels.mean()), "sharpness": float(sharpness)}


class _Martingale:
    """Capital betting against the urn of one statistic."""

    def __init__(self, values: Sequence[float], name: str, seed: int, *, bets: Sequence[str]) -> None:
        calibration = np.asarray(values, dtype=np.float64)
        if len(calibration) == 0 or not np.isfinite(calibration).all():
            raise BlemishError(
                f"the drift check needs finite calibration values of {name}: train the model again with good images"
            )
        # Equal values are told apart by a random key each, which makes all orders equally likely again.
        keys = np.random.default_rng(seed).random(len(calibration))
        order = np.lexsort((keys, calibration))
        self._values, self._keys, self._seed = calibration[order], keys[order], seed
        cells = len(calibration) + 1
        ranks = (np.arange(cells) + 0.5) / cells
        shapes = np.array([shape for direction in bets for shape in BETS[direction]])  # (bets, 2)
        self._directions = [direction for direction in bets for _ in BETS[direction]]
        self._densities = beta.pdf(ranks, *shapes.T[:, :, None])  # (bets, cells)
        self._counts = np.zeros(cells, dtype=np.int64)
        self._log_capitals = np.full(len(shapes), -np.inf)  # (bets,), what has been put on each
        self._images = 0
        self.highest = 0.0  # logarithm of the highest wealth so far

    @property
    def direction(self) -> str:
        """What the bet that holds most says of incoming values."""
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
            "log_capitals": self._log_capitals.tolist() if self._images else None,  # JSON knows no infinity
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
    calibration: Mapping[str, Sequence[float]], false_alarm_rate: float, higher_only: Collection[str], seed: int
) -> str:
    text = repr(
        (
            false_alarm_rate,
            sorted(higher_only),
            seed,
            [(name, [float(value) for value in calibration[name]]) for name in calibration],
        )
    )
    return sha256(text.encode()).hexdigest()[:16]
