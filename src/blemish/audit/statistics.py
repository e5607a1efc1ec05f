"""Do many images of one side share a look as a whole, another lamp say? Asked of the images, not of the detector.

Good and anomalous images may well differ in brightness or colour by nature. What gives a cue away is that a number of
images agree in it more closely than nature makes them: a lamp or a camera setting moves all of them alike. So for each
simple statistic, among them the darkest and the lightest level of each colour, all narrow ranges of values are tried:
one that holds many images of one side, few of the other, and far more than the ranges beside it is a suspect. The
largest of all such contrasts is compared with what it is when the sides are dealt out anew by chance (`SHUFFLES`
times): one p-value for all statistics, ranges and both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from blemish.audit.material import Images, Mask

WIDTHS = (1.5, 3.0, 6.0, 12.0)  # of a range, in grey levels
SHUFFLES = 999
FEWEST = 4  # images
MOST_OF_ALL = 0.6  # of all images: what most have is no exception
ONE_SIDED = 4  # times as frequent on one side as on the other
BESIDE = 3  # times as many images of that side as in the range beside it
DARKEST, LIGHTEST = 0.002, 0.998  # shares of the pixels
SHARP_UNITS = 30.0  # grey levels that one unit of log sharpness counts as

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Look:
    """A range of one statistic, and the images in it.

    Attributes:
        name: of the statistic, in words.
        low, high: the range.
        carriers: bool (N,).
        counts: carriers on the good and on the anomalous side.
        totals: images on either side.
        p_value: of so one-sided a range anywhere.
    """

    name: str
    low: float
    high: float
    carriers: Mask
    counts: tuple[int, int]
    totals: tuple[int, int]
    p_value: float

    @property
    def anomalous_side(self) -> bool:
        """Whether it is more frequent in anomalous images."""
        return self.counts[1] * self.totals[0] > self.counts[0] * self.totals[1]


def measure(pixels: Images, *, ignored: Mask) -> dict[str, Floats]:
    """Statistics (N,) of images (N, H, W, 3) by name, in grey levels or what counts as them.

    Pixels that are `ignored` (H, W) do not count.
    """
    flat = pixels[:, ~ignored]  # (N, D, 3)
    dark, light = ends(flat)
    mean = flat.mean(axis=1)
    grey = pixels.mean(axis=3, dtype=np.float32)
    slopes = np.sqrt(sum(step**2 for step in np.gradient(grey, axis=(1, 2))))
    names = ("red", "green", "blue")
    return {
        "brightness": mean.mean(axis=1),
        "contrast": grey[:, ~ignored].std(axis=1).astype(np.float64),
        "sharpness": SHARP_UNITS * np.log1p(slopes[:, ~ignored].mean(axis=1, dtype=np.float64)),
        "warmth": mean[:, 0] - mean[:, 2],
        "warmth of the shadows": dark[:, 0] - dark[:, 2],
        "warmth of the lights": light[:, 0] - light[:, 2],
        **{f"darkest {name}": dark[:, number] for number, name in enumerate(names)},
        **{f"lightest {name}": light[:, number] for number, name in enumerate(names)},
    }


def ends(flat: Images) -> tuple[Floats, Floats]:
    """The darkest and the lightest level of each colour, (N, 3) each, of pixels (N, D, 3)."""
    dark, light = np.quantile(flat, (DARKEST, LIGHTEST), axis=1, method="nearest").astype(np.float64)
    return dark, light


def relight(pixels: Images, carriers: Mask, *, ignored: Mask, give: bool) -> Images:
    """Images (n, H, W, 3) relit by the change that makes the carriers' darkest and lightest levels those of the others.

    The levels are medians over `carriers` (N,) and over the others of `pixels`, a colour at a time. Returned are the
    carriers with the look taken away, or with `give` the others with the look put on.
    """
    dark, light = ends(pixels[:, ~ignored])
    source, target = (~carriers, carriers) if give else (carriers, ~carriers)
    low, high = np.median(dark[source], axis=0), np.median(light[source], axis=0)
    new_low, new_high = np.median(dark[target], axis=0), np.median(light[target], axis=0)
    gain = (new_high - new_low) / np.maximum(high - low, 1)
    changed: Images = np.rint((pixels[source] - low) * gain + new_low).clip(0, 255).astype(np.uint8)
    return changed


def find_look(statistics: Mapping[str, Floats], anomalous: Mask, *, seed: int = 0) -> Look | None:
    """The range that tells the sides apart most strikingly; None where no range is a suspect at all."""
    n, bad = len(anomalous), int(anomalous.sum())
    if min(bad, n - bad) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    sides = np.stack([anomalous, *(rng.permutation(anomalous) for _ in range(SHUFFLES))])  # (1 + SHUFFLES, N)
    lowest = np.zeros(len(sides))  # log p-values
    best: tuple[float, str, float, float] | None = None
    for name, values in statistics.items():
        log_p, starts, ends, order = _scan(values, sides)
        if log_p.size == 0:
            continue
        lowest = np.minimum(lowest, log_p.min(axis=1))
        at = int(log_p[0].argmin())
        if log_p[0, at] < (best[0] if best else 0):
            best = (log_p[0, at], name, values[order[starts[at]]], values[order[ends[at] - 1]])
    if best is None:
        return None
    _, name, low, high = best
    carriers = (statistics[name] >= low) & (statistics[name] <= high)
    return Look(
        name=name,
        low=float(low),
        high=float(high),
        carriers=carriers,
        counts=(int((carriers & ~anomalous).sum()), int((carriers & anomalous).sum())),
        totals=(n - bad, bad),
        p_value=(1 + int((lowest[1:] <= lowest[0]).sum())) / (SHUFFLES + 1),
    )


def _scan(
    values: Floats, sides: Mask
) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Log p-values (sides, ranges) with the ranges as places in the order of the values."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    n = len(ranked)
    firsts = np.flatnonzero(np.concatenate([[True], np.diff(ranked) > 0]))
    starts = np.concatenate([firsts] * len(WIDTHS))
    widths = np.repeat(WIDTHS, len(firsts))
    low = ranked[starts]

    def place(edge: Floats) -> npt.NDArray[np.intp]:
        return np.searchsorted(ranked, edge, side="left")

    ends, below, above = place(low + widths), place(low - widths), place(low + 2 * widths)
    held = ends - starts
    kept = (held >= FEWEST) & (held <= MOST_OF_ALL * n)
    kept &= (low > 0) & (ranked[ends - 1] < 255)  # black and white are where all images end
    starts, ends, below, above, held = (one[kept] for one in (starts, ends, below, above, held))
    sums = np.concatenate([np.zeros((len(sides), 1), np.int64), np.cumsum(sides[:, order], axis=1)], axis=1)
    bad = sums[:, ends] - sums[:, starts]  # (sides, ranges)
    good = held - bad
    # The same side's images in the ranges of the same width below and above.
    bad_beside = np.maximum(sums[:, starts] - sums[:, below], sums[:, above] - sums[:, ends])
    good_beside = np.maximum(
        starts - below - (sums[:, starts] - sums[:, below]), above - ends - (sums[:, above] - sums[:, ends])
    )
    total = int(sides[0].sum())
    upper, lower = _tails(n, total)
    rate_bad, rate_good = bad / total, good / (n - total)
    of_bad = (rate_bad >= ONE_SIDED * rate_good) & (bad >= BESIDE * bad_beside)
    of_good = (rate_good >= ONE_SIDED * rate_bad) & (good >= BESIDE * good_beside)
    log_p = np.where(of_bad, upper[held, bad], np.where(of_good, lower[held, bad], 0.0))
    return log_p, starts, ends, order


@lru_cache(maxsize=2)
def _tails(n: int, bad: int) -> tuple[Floats, Floats]:
    """Log hypergeometric tails [drawn, of them bad]: at least so many, and at most so many."""
    drawn, found = np.arange(n + 1)[:, None], np.arange(bad + 1)[None]
    possible = (found <= drawn) & (drawn - found <= n - bad)

    def log_binomial(total: npt.NDArray[np.int64] | int, part: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(gammaln(np.add(total, 1)) - gammaln(part + 1) - gammaln(np.subtract(total, part) + 1))

    safe = np.clip(found, drawn - (n - bad), drawn)
    mass = np.where(
        possible, np.exp(log_binomial(bad, safe) + log_binomial(n - bad, drawn - safe) - log_binomial(n, drawn)), 0.0
    )
    tails = mass[:, ::-1].cumsum(axis=1)[:, ::-1], mass.cumsum(axis=1)
    upper, lower = (np.log(np.clip(tail, 1e-300, 1)) for tail in tails)
    return upper, lower
