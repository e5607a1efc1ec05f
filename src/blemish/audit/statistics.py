"""Do many images of one side share a look as a whole, another lamp say? Asked of the images, not of the detector.

Good and anomalous images may well differ in brightness or colour by nature. What gives a cue away is that a number of
images agree more closely than nature makes them, set apart from all others: a lamp or a camera setting moves all of
them alike. So for each simple statistic, the colours of the darkest and of the lightest pixels among them, the
neighbourhood of every image is looked at: one that holds many images of one side, few of the other, and few of any
just around it is a suspect. The most striking is compared with what it is when the sides are dealt out anew by chance
(`SHUFFLES` times): one p-value for all statistics, neighbourhoods and both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.special import gammaln

from blemish.audit.material import Images, Mask

RADII = (1.5, 3.0, 6.0)  # of a neighbourhood, in grey levels
SHUFFLES = 999
FEWEST = 5  # images
MOST_OF_ALL = 0.6  # of all images: what most have is no exception
ONE_SIDED = 4  # times as frequent on one side as on the other
APART = 4  # times as many images as in the ring around, up to twice the radius
TILES, THIRD = 4, 2  # tiles along a side; the third of sixteen
SHARP_UNITS = 30.0  # grey levels that one unit of log sharpness counts as

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Look:
    """What some images agree in.

    Attributes:
        name: of the statistic, in words.
        centre: (D,), its value in the middle.
        radius: how far off an image may be, in grey levels.
        carriers: bool (N,).
        counts: carriers on the good and on the anomalous side.
        totals: images on either side.
        p_value: of so one-sided a neighbourhood anywhere.
    """

    name: str
    centre: Floats
    radius: float
    carriers: Mask
    counts: tuple[int, int]
    totals: tuple[int, int]
    p_value: float

    @property
    def anomalous_side(self) -> bool:
        """Whether it is more frequent in anomalous images."""
        return self.counts[1] * self.totals[0] > self.counts[0] * self.totals[1]


def measure(pixels: Images, *, ignored: Mask) -> dict[str, Floats]:
    """Statistics (N, D) of images (N, H, W, 3) by name, in grey levels or what counts as them.

    Pixels that are `ignored` (H, W) do not count.
    """
    flat = pixels[:, ~ignored]  # (N, P, 3)
    dark, light = ends(pixels, ignored=ignored)
    mean = flat.mean(axis=1)
    grey = pixels.mean(axis=3, dtype=np.float32)
    slopes = np.sqrt(sum(step**2 for step in np.gradient(grey, axis=(1, 2))))
    sharpness = SHARP_UNITS * np.log1p(slopes[:, ~ignored].mean(axis=1, dtype=np.float64))
    return {
        "brightness": mean.mean(axis=1)[:, None],
        "contrast": grey[:, ~ignored].std(axis=1).astype(np.float64)[:, None],
        "sharpness": sharpness[:, None],
        "warmth, red less blue": (mean[:, 0] - mean[:, 2])[:, None],
        "mean colour": mean,
        "colour of the darkest pixels": dark,
        "colour of the lightest pixels": light,
    }


def ends(pixels: Images, *, ignored: Mask) -> tuple[Floats, Floats]:
    """The darkest and the lightest level of each colour, (N, 3) each, of images (N, H, W, 3).

    Images are cut into 4 x 4 tiles, and the third darkest and the third lightest tile count: a small dark defect does
    not make an image a dark one.
    """
    n, height, width, _ = pixels.shape
    rows, columns = (np.linspace(0, side, TILES + 1)[:-1].astype(int) for side in (height, width))
    extremes = []
    for extreme, nothing in ((np.minimum, 255), (np.maximum, 0)):
        counted = np.where(ignored[..., None], np.uint8(nothing), pixels)
        tiles = extreme.reduceat(extreme.reduceat(counted, rows, axis=1), columns, axis=2)
        ranked = np.sort(tiles.reshape(n, -1, 3), axis=1).astype(np.float64)
        extremes.append(ranked[:, THIRD] if extreme is np.minimum else ranked[:, -1 - THIRD])
    return extremes[0], extremes[1]


def relight(pixels: Images, carriers: Mask, *, ignored: Mask, give: bool) -> Images:
    """Images (n, H, W, 3) relit by the change that makes the carriers' darkest and lightest levels those of the others.

    The levels are medians over `carriers` (N,) and over the others of `pixels`, a colour at a time. Returned are the
    carriers with the look taken away, or with `give` the others with the look put on.
    """
    dark, light = ends(pixels, ignored=ignored)
    source, target = (~carriers, carriers) if give else (carriers, ~carriers)
    low, high = np.median(dark[source], axis=0), np.median(light[source], axis=0)
    new_low, new_high = np.median(dark[target], axis=0), np.median(light[target], axis=0)
    gain = (new_high - new_low) / np.maximum(high - low, 1)
    changed: Images = np.rint((pixels[source] - low) * gain + new_low).clip(0, 255).astype(np.uint8)
    return changed


def find_look(statistics: Mapping[str, Floats], anomalous: Mask, *, seed: int = 0) -> Look | None:
    """The neighbourhood that tells the sides apart most strikingly; None where none is a suspect at all."""
    n, bad = len(anomalous), int(anomalous.sum())
    if min(bad, n - bad) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    sides = np.stack([anomalous, *(rng.permutation(anomalous) for _ in range(SHUFFLES))])  # (1 + SHUFFLES, N)
    lowest = np.zeros(len(sides))  # log p-values
    best: tuple[str, Floats, float, Mask] | None = None
    for name, values in statistics.items():
        for radius in RADII:
            centres, inside = _set_apart(values, radius)
            if not len(centres):
                continue
            log_p = _one_sidedness(sides, inside)  # (1 + SHUFFLES, K)
            if log_p[0].min() < lowest[0]:
                at = int(log_p[0].argmin())
                best = (name, values[centres[at]], radius, inside[at])
            lowest = np.minimum(lowest, log_p.min(axis=1))
    if best is None:
        return None
    name, centre, radius, carriers = best
    return Look(
        name=name,
        centre=centre,
        radius=radius,
        carriers=carriers,
        counts=(int((carriers & ~anomalous).sum()), int((carriers & anomalous).sum())),
        totals=(n - bad, bad),
        p_value=(1 + int((lowest[1:] <= lowest[0]).sum())) / (SHUFFLES + 1),
    )


def _set_apart(values: Floats, radius: float) -> tuple[npt.NDArray[np.intp], Mask]:
    """Images (K,) around which others lie, but few just outside; and which lie inside, (K, N)."""
    distances = cdist(values, values)
    inside = distances <= radius
    held, ring = inside.sum(axis=1), ((distances > radius) & (distances <= 2 * radius)).sum(axis=1)
    kept = (held >= FEWEST) & (held <= MOST_OF_ALL * len(values)) & (held >= APART * ring)
    if values.shape[1] == 3:  # black and white are where all images end
        clipped = (values.max(axis=1) <= 0) | (values.min(axis=1) >= 255)
        kept &= ~inside[:, clipped].any(axis=1)
    centres = np.flatnonzero(kept)
    _, first = np.unique(inside[centres], axis=0, return_index=True)
    return centres[first], inside[centres[first]]


def _one_sidedness(sides: Mask, inside: Mask) -> Floats:
    """Log p-values (S, K) of neighbourhoods (K, N) with sides (S, N); 0 for one that is not one-sided."""
    held = inside.sum(axis=1)
    bad = np.rint(sides.astype(np.float32) @ inside.T.astype(np.float32)).astype(np.int64)  # (S, K)
    total, n = int(sides[0].sum()), sides.shape[1]
    rate_bad, rate_good = bad / total, (held - bad) / (n - total)
    upper, lower = _tails(n, total)
    log_p = np.where(rate_bad >= ONE_SIDED * rate_good, upper[held, bad], 0.0)
    return np.where(rate_good >= ONE_SIDED * rate_bad, lower[held, bad], log_p)


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
