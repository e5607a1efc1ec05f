"""Search: does the same pattern lie at one place in many images? It needs no detector.

A watermark need not be bright in a heatmap to be a cue: a detector may use it nevertheless, or the next training may.
So the search compares images window by window, at the same place of the frame. In each window it finds, for every
image, the few images that resemble it and each other most (`_Cores`). Where they are more alike than in any of
`REPEATS` copies of the set, in which every image was shifted by a random offset, they are a candidate. The pattern is
their mean. An image carries it where it resembles that mean more than one shifted image in a thousand does; this is
repeated once with the mean of all carriers, as six images alone give a rough mean. The search does not know which side
an image is on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_propagation, gaussian_filter

from blemish.auditing.association import SharedCue, distinct
from blemish.auditing.data import COMPARED_SIDE as SIDE
from blemish.auditing.data import Images, Indices, Mask
from blemish.datasets.sampling import evenly

BLOCK = 16  # pixels
BLOCKS = SIDE // BLOCK
WINDOWS = ((2, 4), (4, 2))  # blocks down and across
JITTER = 24  # pixels that copies are moved by, either way
REPEATS = 3  # moved copies of the set
CORE_IMAGES = 6  # images
CHUNK = 32  # images computed at a time
MAX_SEARCHED = 480  # images, evenly chosen
FAINT_EDGE, FAINT_SPOT = 6.0, 12.0  # grey levels: what is weaker counts for little
SPOT = 4.0  # pixels: a spot is what differs from its surroundings of this size
MIN_ENERGY_SHARE = 0.1  # of the energy a window can have: an emptier one resembles nothing
MIN_ENERGY = MIN_ENERGY_SHARE * 8 * BLOCK**2  # of windows, all of them of eight blocks
MIN_SPREAD = 0.02  # of cosines, so that no cue is strong by rounding alone
CARRIER_LEVEL = 1e-3  # share of moved images that resemble a pattern as much
MIN_RESEMBLANCE = 0.6  # of what the core's own images resemble it by
MAX_CANDIDATES = 8  # of each field
MAX_UNSEEN = 0.25  # of a pattern's region: an image of which so much is not to be compared does not count

Value = TypeVar("Value", bound=np.generic)
Field = npt.NDArray[np.float32]  # (N, SIDE, SIDE, C)


def find_patterns(pixels: Images, *, unseen: Mask, seed: int = 0) -> list[SharedCue]:
    """The patterns that images share, the strongest first.

    Args:
        pixels: uint8 (N, SIDE, SIDE, 3).
        unseen: bool (N, SIDE, SIDE), pixels that are not to be compared.
        seed: decides the offsets.
    """
    rng = np.random.default_rng(seed)
    searched = np.array(evenly(range(len(pixels)), MAX_SEARCHED))
    found: list[SharedCue] = []
    for field in (edges(pixels), spots(pixels)):
        field[unseen] = 0
        cores = _Cores(field[searched])
        chance = [_Cores(moved(field[searched], rng)) for _ in range(REPEATS)]
        for candidate in _beyond_chance(cores, chance):
            carriers, region = _carriers(field, searched[candidate.members], candidate, rng)
            if not carriers.any():
                continue
            seen = unseen[:, region].mean(axis=1) < MAX_UNSEEN
            if (carriers & seen).any():
                found.append(
                    SharedCue("pattern", "show the same pattern", carriers & seen, seen, region, candidate.excess)
                )
    return distinct(found)


def edges(pixels: Images) -> Field:
    """Edge vectors (N, S, S, 2), shorter than one: the direction of an edge, whatever its contrast."""

    def steps(batch: Images) -> Field:
        return np.stack(np.gradient(batch.mean(axis=3, dtype=np.float32), axis=(1, 2)), axis=-1)

    return _saturated(pixels, steps, channels=2, faint=FAINT_EDGE)


def spots(pixels: Images) -> Field:
    """How the colour differs from its surroundings' (N, S, S, 3), shorter than one."""

    def differences(batch: Images) -> Field:
        colours = batch.astype(np.float32)
        return colours - gaussian_filter(colours, (0, SPOT, SPOT, 0))

    return _saturated(pixels, differences, channels=3, faint=FAINT_SPOT)


def _saturated(pixels: Images, vectors: Callable[[Images], Field], *, channels: int, faint: float) -> Field:
    """Vectors v of all images as v / (|v| + faint), `CHUNK` images at a time: intermediate results are large."""
    field = np.empty((*pixels.shape[:3], channels), np.float32)
    for start in range(0, len(pixels), CHUNK):
        batch = vectors(pixels[start : start + CHUNK])
        length = np.sqrt((batch**2).sum(axis=-1, keepdims=True))
        field[start : start + CHUNK] = batch / (length + faint)
    return field


class _Cores:
    """In every window, from every image, the `CORE_IMAGES` images that are most like it, and how alike they are.

    Attributes:
        likeness: per window shape (rows, columns, N), the mean cosine between two of them.
        members: per window shape (rows, columns, N, CORE_IMAGES), which images they are.
    """

    def __init__(self, field: Field) -> None:
        n, _, _, channels = field.shape
        blocks = field.reshape(n, BLOCKS, BLOCK, BLOCKS, BLOCK, channels).transpose(1, 3, 0, 2, 4, 5)
        blocks = blocks.reshape(BLOCKS * BLOCKS, n, -1)
        products = np.matmul(blocks, blocks.transpose(0, 2, 1)).reshape(BLOCKS, BLOCKS, n, n)
        self.likeness: list[npt.NDArray[np.float32]] = []
        self.members: list[Indices] = []
        for shape in WINDOWS:
            rows, columns = (BLOCKS - extent + 1 for extent in shape)
            likeness, members = zip(*(_search(window) for window in _windows(products, shape)), strict=True)
            self.likeness.append(np.stack(likeness).reshape(rows, columns, n))
            self.members.append(np.stack(members).reshape(rows, columns, n, CORE_IMAGES))


def _windows(products: Field, shape: tuple[int, int]) -> Iterator[Field]:
    """Products (N, N) over whole windows, row by row, from those of blocks (BLOCKS, BLOCKS, N, N)."""
    down, across = shape
    for top in range(BLOCKS - down + 1):
        strip = products[top : top + down].sum(axis=0)
        for left in range(BLOCKS - across + 1):
            yield strip[left : left + across].sum(axis=0)


def _search(products: Field) -> tuple[npt.NDArray[np.float32], Indices]:
    """Likeness (N,) and members (N, CORE_IMAGES) of every image's core in a window, from products (N, N)."""
    norms = np.sqrt(np.maximum(np.diagonal(products), MIN_ENERGY))
    cosines = products / norms[:, None]
    cosines /= norms
    np.fill_diagonal(cosines, 2)  # an image is always of its own core
    members = np.argpartition(cosines, len(cosines) - CORE_IMAGES, axis=1)[:, -CORE_IMAGES:]
    pairs = cosines[members[:, :, None], members[:, None, :]]  # (N, CORE_IMAGES, CORE_IMAGES)
    likeness = (pairs.sum(axis=(1, 2)) - 2 * CORE_IMAGES) / (CORE_IMAGES * (CORE_IMAGES - 1))
    return likeness, members


def moved(field: npt.NDArray[Value], rng: np.random.Generator) -> npt.NDArray[Value]:
    """Every image of a field rolled by a chance offset of its own, `JITTER` pixels at most."""
    offsets = rng.integers(-JITTER, JITTER + 1, (len(field), 2))
    return np.stack([np.roll(image, tuple(offset), (0, 1)) for image, offset in zip(field, offsets, strict=True)])


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A core that is more alike than chance makes it.

    Attributes:
        excess: how much more, in standard deviations of moved copies.
        shape: of its window, blocks down and across.
        place: of its window, the upper left block.
        members: the images of the core.
    """

    excess: float
    shape: tuple[int, int]
    place: tuple[int, int]
    members: Indices

    def repeats(self, before: "_Candidate") -> bool:
        """Whether the windows overlap and the cores have a member in common."""
        overlap = all(
            self.place[axis] < before.place[axis] + before.shape[axis]
            and before.place[axis] < self.place[axis] + self.shape[axis]
            for axis in (0, 1)
        )
        return overlap and bool(np.intersect1d(self.members, before.members).size)


def _beyond_chance(cores: _Cores, moved: list[_Cores]) -> list[_Candidate]:
    """Cores more alike than any of the moved ones, the strongest first, without repetitions."""
    listed = []
    for number, shape in enumerate(WINDOWS):
        chance = np.stack([copy.likeness[number] for copy in moved])  # (REPEATS, rows, columns, N)
        mean = chance.mean(axis=(0, 3), keepdims=True)[0]
        spread = np.maximum(chance.std(axis=(0, 3), keepdims=True)[0], MIN_SPREAD)
        highest = ((chance - mean) / spread).max()
        excess = (cores.likeness[number] - mean) / spread
        for row, column, start in np.argwhere(excess > highest):
            members = cores.members[number][row, column, start]
            beyond = float(excess[row, column, start] - highest)
            listed.append(_Candidate(beyond, shape, (int(row), int(column)), members))
    kept: list[_Candidate] = []
    for candidate in sorted(listed, key=lambda candidate: -candidate.excess):
        if len(kept) == MAX_CANDIDATES:
            break
        if not any(candidate.repeats(before) for before in kept):
            kept.append(candidate)
    return kept


def _carriers(field: Field, core: Indices, candidate: _Candidate, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Which images (N,) carry the core's pattern, and where it lies, (SIDE, SIDE)."""
    sides = zip(candidate.place, candidate.shape, strict=True)
    window = tuple(slice(BLOCK * start, BLOCK * (start + extent)) for start, extent in sides)
    carriers = _resembling(field, core, window, rng)
    if carriers.sum() > len(core):
        carriers = _resembling(field, np.flatnonzero(carriers), window, rng)
    return carriers, _extent(field, carriers, window)


def _resembling(field: Field, core: Indices, window: tuple[slice, ...], rng: np.random.Generator) -> Mask:
    """Images (N,) that resemble the core's mean in a window as moved images hardly do."""
    alike = _resemblance(field[:, window[0], window[1]], core)
    chance = float(np.quantile(_moved_resemblance(field, core, window, rng), 1 - CARRIER_LEVEL))
    carriers: Mask = alike > max(chance, MIN_RESEMBLANCE * float(np.median(alike[core])))
    return carriers


def _resemblance(inside: Field, core: Indices) -> npt.NDArray[np.float32]:
    """Cosines (N,) with the core's mean; a member of the core is compared with the others' mean."""
    flat = inside.reshape(len(inside), -1)
    total = flat[core].sum(axis=0)
    alike = _cosines(flat, total)
    for member in core:
        alike[member] = _cosines(flat[member : member + 1], total - flat[member])[0]
    return alike


def _moved_resemblance(
    field: Field, core: Indices, window: tuple[slice, ...], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """The same of images outside the core when they are moved, a few offsets each."""
    template = field[core][:, window[0], window[1]].sum(axis=0).ravel()
    outside = np.setdiff1d(np.arange(len(field)), core)
    if not len(outside):  # an aligned part: all carry it
        outside = core
    alike = []
    for _ in range(REPEATS):
        offsets = rng.integers(-JITTER, JITTER + 1, (len(outside), 2))
        offsets[np.abs(offsets).max(axis=1) < 3] = JITTER  # a move of a pixel or two is none
        rows = [(np.arange(window[0].start, window[0].stop) - down) % SIDE for down in offsets[:, 0]]
        columns = [(np.arange(window[1].start, window[1].stop) - right) % SIDE for right in offsets[:, 1]]
        flat = np.stack(
            [field[image][np.ix_(r, c)].ravel() for image, r, c in zip(outside, rows, columns, strict=True)]
        )  # (N, D)
        alike.append(_cosines(flat, template))
    return np.concatenate(alike)


def _cosines(flat: Field, template: Field) -> npt.NDArray[np.float32]:
    least = MIN_ENERGY_SHARE * flat.shape[1] / 2
    norms = np.sqrt(np.maximum((flat**2).sum(axis=1), least))
    cosines: npt.NDArray[np.float32] = flat @ template / (norms * max(float(np.linalg.norm(template)), 1e-6))
    return cosines


def _extent(field: Field, carriers: Mask, window: tuple[slice, ...]) -> Mask:
    """The window with the neighbouring blocks in which the carriers' mean stands out as it does in the window."""
    if not carriers.any():
        return np.zeros(field.shape[1:3], dtype=bool)
    energy = (field[carriers].mean(axis=0) ** 2).sum(axis=2)  # (S, S)
    blocks = energy.reshape(BLOCKS, BLOCK, BLOCKS, BLOCK).mean(axis=(1, 3))
    inside = np.zeros((BLOCKS, BLOCKS), dtype=bool)
    inside[tuple(slice(side.start // BLOCK, side.stop // BLOCK) for side in window)] = True
    level = 0.25 * blocks[inside].max()
    strong = blocks >= level
    grown = binary_propagation(inside & strong, mask=strong)
    return np.kron(grown, np.ones((BLOCK, BLOCK), dtype=bool))
