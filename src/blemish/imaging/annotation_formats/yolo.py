"""YOLO: a text file for each image, a line for each box or outline."""

import math
from pathlib import Path

import numpy as np

from blemish.imaging.annotation_formats.common import MARGIN, AnnotationError, Drawn, clip_to_image
from blemish.imaging.shapes import box_corners, fill_polygon
from blemish.imaging.types import Size


def is_yolo(file: Path) -> bool:
    """Whether a text file begins as YOLO's do: with a class and at least four numbers, or not at all."""
    try:
        with open(file, "rb") as stream:
            words = next((line.split() for line in stream.read(1 << 16).splitlines() if line.strip()), [])
    except OSError:
        return False
    return not words or (len(words) >= 5 and all(_is_number(word) for word in words[:5]))


def draw_yolo(text: str, size: Size | None) -> Drawn:
    """Lines "class x y width height" or "class x1 y1 x2 y2 x3 y3 ...", all as shares of the image's sides."""
    if size is None:
        raise AnnotationError("it holds shares of an image's sides, and no image is given")
    mask = np.zeros(size, bool)
    boxes = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if not all(map(_is_number, words)):
            raise AnnotationError(f"line {number} is not a class with numbers")
        values = np.array(words[1:], np.float64)
        if (np.abs(values) > 1 + MARGIN).any():
            raise AnnotationError(f"line {number} has a number above 1, where shares of the image's sides are expected")
        if len(values) in (4, 5):  # a fifth is how sure a detector was
            left, top = values[:2] - values[2:4] / 2
            points = box_corners(left, top, *values[2:4].tolist())
            boxes += 1
        elif len(values) >= 6 and len(values) % 2 == 0:
            points = values.reshape(-1, 2)
        else:
            raise AnnotationError(
                f"line {number} has {len(values)} numbers after the class, neither a box nor an outline"
            )
        fill_polygon(mask, clip_to_image(points * (size[1], size[0]), size))
    return Drawn(mask, boxes)


def _is_number(word: str | bytes) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
