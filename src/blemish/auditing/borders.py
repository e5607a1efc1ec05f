"""Search: do images have the same plain border along an edge, as of a frame that was not cut off? It needs no detector.

A border is several lines of one colour, after which the image begins at once. Few photographs have one by nature, and
few of those have the same width and colour. So the images with the same border are counted; there is no further test.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from blemish.auditing.association import SharedCue
from blemish.auditing.data import Images, Mask

MAX_DIFFERENCE = 8  # grey levels between a pixel of the border and the border's colour
MIN_SHARE_OF_LINE = 0.95  # of a line's pixels within that difference
MIN_CONTRAST = 16  # grey levels between the border's colour and a pixel of the image itself
MIN_CONTRAST_SHARE = 0.5  # of the pixels of the image's first line with that contrast
MIN_LINES, MAX_SHARE_OF_SIDE = 2, 1 / 6  # of a border
DEPTH_TOLERANCE = 1  # lines by which borders of one kind may differ
MIN_IMAGES = 5

Depths = npt.NDArray[np.intp]
Colours = npt.NDArray[np.float64]


def find_borders(pixels: Images, *, unseen: Mask) -> list[SharedCue]:
    """The borders of one colour and one width, along one edge, that images (N, S, S, 3) share.

    What lies under `unseen`, bool (N, S, S), does not count. The more images have a border, the stronger it is.
    """
    found = []
    for turns in range(4):  # each edge becomes the upper one
        depths, colours = border_depths(np.rot90(pixels, turns, axes=(1, 2)))
        for group in _groups(depths, colours):
            region = np.zeros(pixels.shape[1:3], dtype=bool)
            region[: int(np.median(depths[group]))] = True
            region = np.rot90(region, -turns)
            seen = np.logical_not(unseen[:, region].any(axis=1))
            if (group & seen).any():
                what = "have the same plain border"
                found.append(SharedCue("frame", what, group & seen, seen, region, float(group.sum())))
    return found


def border_depths(pixels: Images) -> tuple[Depths, Colours]:
    """How many lines of the upper border of each image (N, S, S, 3) are plain, 0 without one, and its colour (N, 3)."""
    deepest = int(pixels.shape[1] * MAX_SHARE_OF_SIDE)
    lines = pixels[:, : deepest + 3].astype(np.int16)
    colours: Colours = np.median(lines[:, 0], axis=1)
    off = np.abs(lines - colours[:, None, None]).max(axis=3)  # (N, deepest + 3, S)
    depths = ((off <= MAX_DIFFERENCE).mean(axis=2) >= MIN_SHARE_OF_LINE).cumprod(axis=1).sum(axis=1)
    # The line after the last may lie across the border's end; the next one is the image's own.
    own = off[np.arange(len(off)), np.minimum(depths + 1, deepest + 2)]
    there = (depths >= MIN_LINES) & (depths <= deepest) & ((own > MIN_CONTRAST).mean(axis=1) >= MIN_CONTRAST_SHARE)
    return np.where(there, depths, 0), colours


def _groups(depths: Depths, colours: Colours) -> Iterator[Mask]:
    """Images (N,) with borders alike, the largest group first; none is in two."""
    alike = np.abs(depths[:, None] - depths) <= DEPTH_TOLERANCE
    alike &= (np.abs(colours[:, None] - colours) <= MAX_DIFFERENCE).all(axis=2)
    left = depths > 0
    while True:
        sizes = (alike & left).sum(axis=1) * left
        if sizes.max(initial=0) < MIN_IMAGES:
            return
        group = alike[sizes.argmax()] & left
        yield group
        left = left & ~group
