"""Outlines, boxes and run lengths as pixels: a pixel belongs to an outline whose inside holds the pixel's centre.

Coordinates are x, y in pixels from the upper left corner, so that the first pixel reaches from 0 to 1. What is too
thin to hold any centre becomes the pixels that its outline passes through.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.imaging.types import Mask, Size

Points = npt.NDArray[np.float64]  # (N, 2), x and y


def fill_polygon(mask: Mask, points: Points) -> None:
    """Marks a polygon, by the even-odd rule where it crosses itself. Parts outside of the mask are cut off."""
    height, width = mask.shape
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # An edge crosses the rows whose centres lie from its upper end on to before its lower end.
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(int)
    stop = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(int)
    if (stop > first).any():
        top = int(first[stop > first].min())
        toggled = np.zeros((int(stop.max()) - top, width + 1), np.uint8)
        for edge in np.flatnonzero(stop > first):
            rows = np.arange(first[edge], stop[edge])
            share = (rows + 0.5 - y[edge]) / (next_y[edge] - y[edge])
            crossed = x[edge] + share * (next_x[edge] - x[edge])
            toggled[rows - top, np.clip(np.ceil(crossed - 0.5), 0, width).astype(int)] ^= 1
        inside = np.bitwise_xor.accumulate(toggled, axis=1)[:, :width].astype(bool)
        if inside.any():
            mask[top : top + len(inside)] |= inside
            return
    draw_line(mask, np.concatenate([points, points[:1]]))


def draw_line(mask: Mask, points: Points) -> None:
    """Marks the pixels that a line from point to point passes through; one point is one pixel."""
    passed = [points[:1]]
    for start, end in pairwise(points):
        steps = int(np.ceil(4 * np.abs(end - start).max())) + 1
        passed.append(start + np.linspace(0, 1, steps)[:, None] * (end - start))
    # On the border counts as inside: annotations reach up to the width.
    columns, rows = np.floor(np.concatenate(passed)).astype(int).T
    mask[np.clip(rows, 0, mask.shape[0] - 1), np.clip(columns, 0, mask.shape[1] - 1)] = True


def fill_circle(mask: Mask, centre: Points, radius: float) -> None:
    """Marks a disc."""
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    inside = (columns + 0.5 - centre[0]) ** 2 + (rows + 0.5 - centre[1]) ** 2 <= radius**2
    if inside.any():
        mask |= inside
    else:
        draw_line(mask, centre[None])


def box_corners(left: float, top: float, width: float, height: float) -> Points:
    """The corners of an upright box, (4, 2)."""
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def decode_runs(counts: npt.NDArray[np.int64], size: Size) -> Mask:
    """Run lengths, down column by column and beginning with background, as COCO has them. Raises BlemishError."""
    height, width = size
    if (counts < 0).any() or counts.sum() != height * width:
        raise BlemishError(f"its run lengths do not add up to {height} x {width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def unpack_runs(text: str) -> npt.NDArray[np.int64]:
    """COCO's compressed run lengths: five bits a character, lowest first, each but three as the difference to the
    last but one. Raises BlemishError where the text is none.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 40:
            raise BlemishError("its compressed run lengths are damaged")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise BlemishError("its compressed run lengths are cut off")
    return np.array(counts, np.int64)
