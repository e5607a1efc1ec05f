"""Search: do alarms share a place of the frame? A jitter test with a stated error rate.

A defect may lie anywhere; a watermark always lies at the same place. Null hypothesis: at scales below `JITTER` the
position of evidence is random, so that an alarm's evidence could as well lie a little way off. The test shifts every
evidence map by a random offset of its own, many times, and compares how many maps overlap with and without the shift.
The statistic is the largest over the frame, so the p-value holds for the whole frame at once (as jitter tests of
coincident nerve impulses do; Amarasingham et al., J. Neurophysiology 107, 2012).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import poisson

from blemish.auditing.data import Images, Maps, Mask
from blemish.auditing.patterns import edges, moved
from blemish.imaging.regions import EIGHT_CONNECTED

GRID = 32  # cells along either side of the frame
JITTER = 5  # cells: a sixth of the frame either way
REPEATS = 999
MIN_ALARMS = 3  # that share a place
MIN_COMMON_ENERGY = 0.1  # share of the edges' energy in the mean image: then parts are aligned
MIN_MEMBER_SHARE = 0.25  # of the alarms at a place: what so many have in common is its region


@dataclass(frozen=True, eq=False)
class Location:
    """A place of the frame where alarms have evidence.

    Attributes:
        members: indices into the maps that were given.
        region: bool (H, W), what they have in common there.
        expected: how many would have evidence at the place's centre if it were chance.
        p_value: of so many anywhere in the frame.
    """

    members: npt.NDArray[np.intp]
    region: Mask
    expected: float
    p_value: float

    @property
    def narrow(self) -> bool:
        """Whether it is narrower, one way at least, than what evidence is moved by.

        A wider one may be nature's: photographers put their subjects in the middle.
        """
        extents = (np.ptp(places) + 1 for places in np.nonzero(self.region))
        shares = [float(extent) / side for extent, side in zip(extents, self.region.shape, strict=True)]
        return min(shares) <= (2 * JITTER + 1) / GRID


def shared_locations(maps: Maps, threshold: float, *, level: float, seed: int = 0) -> list[Location]:
    """The places that alarms share beyond chance, the strongest first.

    A place that was found is removed from all maps, and the rest is tested again until a p-value is above `level`. So
    the chance of a single wrong place stays below the level. Around a wide place nothing more is tested: what is left
    there lies at its rim.

    Args:
        maps: float (N, H, W), of alarms; evidence is where a map reaches the threshold.
        threshold: from here on a value is evidence.
        level: of the test.
        seed: decides the offsets.

    Returns:
        The significant places; without any, the place with the lowest p-value alone.
    """
    left = maps >= threshold  # (N, H, W)
    places: list[Location] = []
    rng = np.random.default_rng(seed)
    while left.any(axis=(1, 2)).sum() >= MIN_ALARMS:
        place = _most_shared(left, rng)
        if place.p_value > level and places:
            break
        places.append(place)
        if place.p_value > level or not place.narrow:
            break
        left = left & ~with_fringe(place.region)
    return places


def with_fringe(region: Mask) -> Mask:
    """A region (H, W) with what the evidence in it lights up around it, a sixteenth of the image."""
    fringe: Mask = ndimage.binary_dilation(region, EIGHT_CONNECTED, iterations=max(region.shape) // 16)
    return fringe


def _most_shared(evidence: Mask, rng: np.random.Generator) -> Location:
    cells = _to_cells(evidence)  # (N, g, g)
    observed = cells.sum(axis=0)
    # What moving by chance makes of the count on average is a mean over all offsets.
    expected = ndimage.uniform_filter(observed.astype(np.float64), 2 * JITTER + 1, mode="wrap")
    surprise = _surprise(observed, expected)
    highest = np.sort([_surprise(_moved(cells, rng), expected).max() for _ in range(REPEATS)])
    p_value = (1 + int((highest >= surprise.max()).sum())) / (REPEATS + 1)
    centre = np.unravel_index(int(surprise.argmax()), surprise.shape)
    members = np.flatnonzero(cells[:, centre[0], centre[1]])
    return Location(
        members=members,
        region=_region(evidence[members], centre),
        expected=float(expected[centre]),
        p_value=p_value,
    )


def _to_cells(evidence: Mask) -> Mask:
    """Whether there is any in each cell: (N, H, W) to (N, g, g)."""
    rows, columns = (np.linspace(0, side, GRID + 1)[:-1].astype(int) for side in evidence.shape[1:])
    return np.logical_or.reduceat(np.logical_or.reduceat(evidence, rows, axis=1), columns, axis=2)


def _moved(cells: Mask, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The count of evidence a cell (g, g) when each map is moved by its own offset, round the frame's edge."""
    offsets = rng.integers(-JITTER, JITTER + 1, (len(cells), 2, 1))
    rows, columns = ((np.arange(GRID) + offsets[:, axis]) % GRID for axis in (0, 1))  # (N, g)
    moved = cells[np.arange(len(cells))[:, None, None], rows[:, :, None], columns[:, None, :]]
    counts: npt.NDArray[np.int64] = moved.sum(axis=0)
    return counts


def _surprise(counts: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Minus the logarithm of the Poisson probability of at least so many."""
    return -np.asarray(poisson.logsf(counts - 1, np.maximum(expected, 1e-9)))


def _region(evidence: Mask, centre: tuple[np.intp, ...]) -> Mask:
    """Where at least a quarter of the maps (n, H, W) have evidence, the part around the centre's cell."""
    size = evidence.shape[1:]
    labels, _ = ndimage.label(evidence.mean(axis=0) >= MIN_MEMBER_SHARE, structure=EIGHT_CONNECTED)
    edges = [np.linspace(0, side, GRID + 1).astype(int) for side in size]
    cell = np.zeros(size, dtype=bool)
    cell[tuple(slice(along[c], along[c + 1]) for along, c in zip(edges, centre, strict=True))] = True
    inside = np.unique(labels[cell])
    region: Mask = np.isin(labels, inside[inside > 0]) | cell
    return region


def fixed_frame(pixels: Images, region: Mask, *, seed: int = 0) -> bool:
    """Whether images (N, S, S, 3) show the same thing in the region (S, S), as pictures of one aligned part do.

    Their mean edges are stronger there than in any of 19 copies in which every image was moved by a chance offset, and
    hold a tenth of the energy that single images have. Then the null hypothesis of `shared_locations` does not hold.
    """
    field = edges(pixels)
    rng = np.random.default_rng(seed)

    def energy(copy: npt.NDArray[np.float32]) -> float:
        return float((copy[:, region].mean(axis=0) ** 2).sum())

    single = float((field[:, region] ** 2).sum()) / len(field)
    observed = energy(field)
    return observed > MIN_COMMON_ENERGY * single and observed > max(energy(moved(field, rng)) for _ in range(19))
