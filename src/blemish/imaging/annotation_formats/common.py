"""What all formats share: reading a file, sizes, points, and the words for what is wrong with an annotation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.resizing import resize_mask, same_shape
from blemish.imaging.shapes import Points
from blemish.imaging.types import Mask, Size
from blemish.io.files import read_fault

MAX_BYTES = 500_000_000  # of a file: as text in memory it takes some ten times as much
_MAX_POINTS = 1_000_000  # of an image
MARGIN = 0.01  # of a side: outlines drawn a little over the border are cut off


@dataclass(frozen=True)
class Annotation:
    """What an annotation file marks in one image.

    Attributes:
        file: a .json file of labelme or COCO, or a .txt file of YOLO.
        key: the image's `file_name` in a file of COCO; empty where the file is of one image alone.
    """

    file: Path
    key: str = ""


@dataclass(frozen=True)
class Drawn:
    """An annotation as pixels.

    Attributes:
        pixels: bool (H, W), true where anomalous.
        boxes: how many of the shapes are bounding boxes, filled.
    """

    pixels: Mask
    boxes: int = 0


class AnnotationError(Exception):
    """What is wrong with an annotation, without its name."""


@contextmanager
def annotation_faults(name: str) -> Iterator[None]:
    """Makes of an AnnotationError inside an ImageError whose sentence begins with the annotation's name."""
    try:
        yield
    except (AnnotationError, BlemishError) as error:
        raise ImageError(f"{name}: {error}; mend the annotation or remove it") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for this machine's memory; split it") from error


def read_text(file: Path) -> str:
    """The text of a file. Raises AnnotationError."""
    try:
        if not file.is_file():
            raise AnnotationError("no such file" if not file.exists() else "not a regular file")
        if file.stat().st_size > MAX_BYTES:
            raise AnnotationError(f"larger than {MAX_BYTES // 1_000_000} MB")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(read_fault(error)) from error
    except UnicodeDecodeError as error:
        raise AnnotationError("not UTF-8 text") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises AnnotationError."""
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise AnnotationError(f"not valid JSON{place}") from error
    except RecursionError as error:
        raise AnnotationError("nested too deeply") from error


def lay_mask(mask: Mask, part: Mask, corner: npt.NDArray[np.float64], scale: Points) -> None:
    """Marks what a smaller mask marks, with its upper left corner at a place."""
    if (scale != 1).any():
        width, height = np.maximum(1, np.rint(np.array(part.shape[::-1]) * scale)).astype(int).tolist()
        part = resize_mask(part, (height, width), rule="nearest")
    left, top = np.floor(corner).astype(int)
    place = mask[top : top + part.shape[0], left : left + part.shape[1]]
    place |= part[: place.shape[0], : place.shape[1]]


def is_side(value: object) -> bool:
    """Whether a value can be the height or the width of an image."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_PIXELS


def own_size(height: object, width: object, size: Size | None) -> Size:
    """The size in which an annotation's points are, which must have the image's shape."""
    if not (is_side(height) and is_side(width)):
        if size is None:
            raise AnnotationError("it does not say how large its image is")
        return size
    own = (int(height), int(width))  # type: ignore[call-overload]
    if own[0] * own[1] > MAX_PIXELS:
        raise AnnotationError(f"it is of an image of {own[0] * own[1]:,} pixels, above the limit of {MAX_PIXELS:,}")
    if size is not None and not same_shape(own, size):
        raise AnnotationError(f"it is of an image {own[0]} x {own[1]}, but the image is {size[0]} x {size[1]} pixels")
    return own


def scale_to(own: Size, size: tuple[int, ...]) -> Points:
    """What brings points (x, y) from one size to another."""
    return np.array([size[1] / own[1], size[0] / own[0]])


def points_of(values: object) -> Points:
    """Points (N, 2) from a list of pairs or a flat list."""
    if isinstance(values, list) and len(values) > _MAX_POINTS:
        raise AnnotationError(f"a shape in it has more than {_MAX_POINTS:,} points")
    try:
        points = np.array(values, np.float64)
        points = points.reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError("points in it are no pairs of numbers") from error
    if not np.isfinite(points).all():
        raise AnnotationError("points in it are no finite numbers")
    return points


def clip_to_image(points: Points, size: Size, *, closed: bool = True) -> Points:
    """The points, moved onto the border where they lie a little over it."""
    if not closed:  # a circle may reach over the border, and the point on it as well
        return points
    sides = np.array([size[1], size[0]], np.float64)
    margin = np.maximum(1, MARGIN * sides)
    outside = ((points < -margin) | (points > sides + margin)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        raise AnnotationError(
            f"a point in it, x {x:.6g} and y {y:.6g}, lies outside of the image {size[0]} x {size[1]}"
        )
    return np.clip(points, 0, sides)
