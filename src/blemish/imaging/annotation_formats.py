"""Annotation files, read as masks: labelme, COCO and YOLO, outlines as well as boxes."""

import base64
import binascii
import io
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.resizing import resize_mask
from blemish.imaging.shapes import (
    Mask,
    Points,
    box_corners,
    decode_runs,
    draw_line,
    fill_circle,
    fill_polygon,
    unpack_runs,
)
from blemish.imaging.types import Size
from blemish.io.files import read_fault
from blemish.io.text import printable

MAX_BYTES = 500_000_000  # of a file: as text in memory it takes some ten times as much
_MAX_POINTS = 1_000_000  # of an image
_OUTSIDE = 0.01  # of a side: outlines drawn a little over the border are cut off
_LABELME = ("shapes", "imagePath", "imageData")
_NO_DEFECT = ("_background_", "__ignore__")  # labelme's own words

Kind = Literal["labelme", "COCO"]


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


class _FaultError(Exception):
    """What is wrong with an annotation, without its name."""


def draw(annotation: Annotation, *, size: Size | None) -> Drawn:
    """The annotation of an image of `size` = (height, width); without, at the size that the file names.

    Raises ImageError, in one sentence, where the file cannot be read, is no annotation or does not fit the image.
    """
    name = printable(annotation.file) + (f" ({printable(annotation.key)})" if annotation.key else "")
    with _faults(name):
        if annotation.file.suffix.lower() == ".txt":
            return _draw_yolo(_read_text(annotation.file), size)
        content = _read_json(annotation.file)
        if annotation.key or kind_of(content) == "COCO":
            return _draw_coco(_coco(annotation.file), annotation.key, size)
        return _draw_labelme(content, size)


def kind_of(content: object) -> Kind | None:
    """The format of a JSON file's content; None where it is no annotation."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("images"), list) and "annotations" in content:
        return "COCO"
    return "labelme" if any(field in content for field in _LABELME) else None


def read_json(file: Path) -> object:
    """A JSON file's content. Raises ImageError in one sentence."""
    with _faults(printable(file)):
        return _read_json(file)


def is_yolo(file: Path) -> bool:
    """Whether a text file begins as YOLO's do: with a class and at least four numbers, or not at all."""
    try:
        with open(file, "rb") as stream:
            words = next((line.split() for line in stream.read(1 << 16).splitlines() if line.strip()), [])
    except OSError:
        return False
    return not words or (len(words) >= 5 and all(_is_number(word) for word in words[:5]))


@contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except (_FaultError, BlemishError) as error:
        raise ImageError(f"{name}: {error}; mend the annotation or remove it") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for this machine's memory; split it") from error


def _read_text(file: Path) -> str:
    try:
        if not file.is_file():
            raise _FaultError("no such file" if not file.exists() else "not a regular file")
        if file.stat().st_size > MAX_BYTES:
            raise _FaultError(f"larger than {MAX_BYTES // 1_000_000} MB")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _FaultError(read_fault(error)) from error
    except UnicodeDecodeError as error:
        raise _FaultError("not UTF-8 text") from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(_read_text(file))
    except ValueError as error:
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise _FaultError(f"not valid JSON{place}") from error
    except RecursionError as error:
        raise _FaultError("nested too deeply") from error


# YOLO


def _draw_yolo(text: str, size: Size | None) -> Drawn:
    """Lines "class x y width height" or "class x1 y1 x2 y2 x3 y3 ...", all as shares of the image's sides."""
    if size is None:
        raise _FaultError("it holds shares of an image's sides, and no image is given")
    mask = np.zeros(size, bool)
    boxes = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if not all(map(_is_number, words)):
            raise _FaultError(f"line {number} is not a class with numbers")
        values = np.array(words[1:], np.float64)
        if (np.abs(values) > 1 + _OUTSIDE).any():
            raise _FaultError(f"line {number} has a number above 1, where shares of the image's sides are expected")
        if len(values) in (4, 5):  # a fifth is how sure a detector was
            left, top = values[:2] - values[2:4] / 2
            points = box_corners(left, top, *values[2:4].tolist())
            boxes += 1
        elif len(values) >= 6 and len(values) % 2 == 0:
            points = values.reshape(-1, 2)
        else:
            raise _FaultError(f"line {number} has {len(values)} numbers after the class, neither a box nor an outline")
        fill_polygon(mask, _inside(points * (size[1], size[0]), size))
    return Drawn(mask, boxes)


def _is_number(word: str | bytes) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


# labelme


def _draw_labelme(content: Any, size: Size | None) -> Drawn:
    if kind_of(content) != "labelme":
        raise _FaultError("neither labelme's nor COCO's fields are in it")
    if not isinstance(content.get("shapes"), list):
        raise _FaultError("it has no list of shapes")
    own = _own_size(content.get("imageHeight"), content.get("imageWidth"), size)
    mask = np.zeros(size or own, bool)
    scale = _scale(own, mask.shape)
    for shape in content["shapes"]:
        if not isinstance(shape, dict):
            raise _FaultError("one of its shapes is no object")
        label = shape.get("label")
        if label == "__ignore__":
            continue
        drawn = np.zeros(mask.shape, bool)
        _draw_shape(drawn, shape, own, scale)
        if label == "_background_":  # a hole in what was drawn before
            mask &= ~drawn
        else:
            mask |= drawn
    return Drawn(mask)


def _draw_shape(mask: Mask, shape: Mapping[str, Any], own: Size, scale: Points) -> None:
    kind = shape.get("shape_type") or "polygon"
    points = _inside(_points(shape.get("points")), own, closed=kind != "circle") * scale
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}.get(kind, 1)
    if len(points) < least:
        raise _FaultError(f"a {kind} of {len(points)} points is in it")
    if kind == "polygon" or (kind == "rectangle" and len(points) > 2) or kind == "oriented_rectangle":
        fill_polygon(mask, points)
    elif kind == "rectangle":
        (left, top), (right, bottom) = points.min(0), points.max(0)
        fill_polygon(mask, box_corners(left, top, right - left, bottom - top))
    elif kind == "circle":
        fill_circle(mask, points[0], float(np.hypot(*(points[1] - points[0]))))
    elif kind in ("line", "linestrip"):
        draw_line(mask, points)
    elif kind in ("point", "points"):
        for point in points:
            draw_line(mask, point[None])
    elif kind == "mask":
        _lay(mask, _embedded(shape.get("mask")), points.min(0), scale)
    else:
        raise _FaultError(f"shapes of the kind {printable(str(kind))} cannot be read")


def _embedded(text: object) -> Mask:
    """labelme's own masks: a PNG in base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _FaultError("a mask in it is too large")
            return np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error) as error:
        raise _FaultError("a mask in it is damaged") from error


def _lay(mask: Mask, part: Mask, corner: npt.NDArray[np.float64], scale: Points) -> None:
    """Marks what a smaller mask marks, with its upper left corner at a place."""
    if (scale != 1).any():
        width, height = np.maximum(1, np.rint(np.array(part.shape[::-1]) * scale)).astype(int).tolist()
        part = resize_mask(part, (height, width), rule="nearest")
    left, top = np.floor(corner).astype(int)
    place = mask[top : top + part.shape[0], left : left + part.shape[1]]
    place |= part[: place.shape[0], : place.shape[1]]


# COCO


@dataclass(frozen=True)
class Coco:
    """A file of COCO.

    Attributes:
        sizes: height and width of each image by its `file_name`; None where the file does not say.
        annotations: those of each image.
    """

    sizes: Mapping[str, Size | None]
    annotations: Mapping[str, Sequence[Mapping[str, Any]]]


def read_coco(file: Path) -> Coco:
    """The images and annotations of a file. Raises ImageError in one sentence."""
    with _faults(printable(file)):
        return _coco(file)


_reading_coco = threading.Lock()  # a large file is not to be read by eight threads at once


def _coco(file: Path) -> Coco:
    with _reading_coco:
        try:
            status = file.stat()
        except OSError as error:
            raise _FaultError(read_fault(error)) from error
        return _read_coco(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_coco(file: Path, changed: int, length: int) -> Coco:
    """Read once for all its images, and again where it changed."""
    content = _read_json(file)
    if kind_of(content) != "COCO" or not isinstance(content["annotations"], list):
        raise _FaultError("it has no lists of images and annotations")
    names: dict[Any, str] = {}
    sizes: dict[str, Size | None] = {}
    for image in content["images"]:
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(image.get("id"), int | str):
            raise _FaultError("an image in it has no file_name or no id")
        names[image["id"]] = name
        height, width = image.get("height"), image.get("width")
        known = _is_side(height) and _is_side(width)
        sizes[name] = (int(height), int(width)) if known else None
    annotations: dict[str, list[Mapping[str, Any]]] = {name: [] for name in sizes}
    for annotation in content["annotations"]:
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(image_id, int | str) or image_id not in names:
            raise _FaultError("an annotation in it has no image_id, or one of no image")
        annotations[names[image_id]].append(annotation)
    return Coco(sizes, annotations)


def _draw_coco(coco: Coco, key: str, size: Size | None) -> Drawn:
    if key not in coco.sizes:
        raise _FaultError("no such image in it")
    height, width = coco.sizes[key] or (None, None)
    own = _own_size(height, width, size)
    mask = np.zeros(size or own, bool)
    scale = _scale(own, mask.shape)
    boxes = 0
    for annotation in coco.annotations[key]:
        outline = annotation.get("segmentation")
        if isinstance(outline, dict):
            _lay(mask, _runs(outline, own), np.zeros(2), scale)
        elif isinstance(outline, list) and outline:
            for polygon in outline:
                points = _points(polygon)
                if len(points) < 3:
                    raise _FaultError(f"an outline of {len(points)} points is in it")
                fill_polygon(mask, _inside(points, own) * scale)
        else:
            box = _points(annotation.get("bbox") or [])
            if box.shape != (2, 2) or (box[1] < 0).any():
                raise _FaultError("an annotation in it has neither a segmentation nor a box of four numbers")
            fill_polygon(mask, _inside(box_corners(*box.ravel().tolist()), own) * scale)
            boxes += 1
    return Drawn(mask, boxes)


def _runs(outline: Mapping[str, Any], own: Size) -> Mask:
    size, counts = outline.get("size"), outline.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
        raise _FaultError("run lengths in it have no size")
    if (size[0], size[1]) != own:
        raise _FaultError(f"run lengths in it are of {size[0]} x {size[1]} pixels, the image of {own[0]} x {own[1]}")
    if isinstance(counts, str):
        return decode_runs(unpack_runs(counts), own)
    numbers = isinstance(counts, list) and all(type(count) is int and abs(count) <= MAX_PIXELS for count in counts)
    if not numbers:
        raise _FaultError("run lengths in it are no whole numbers")
    return decode_runs(np.array(counts, np.int64), own)


# Sizes and points


def _is_side(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_PIXELS


def _own_size(height: object, width: object, size: Size | None) -> Size:
    """The size in which an annotation's points are, which must have the image's shape."""
    if not (_is_side(height) and _is_side(width)):
        if size is None:
            raise _FaultError("it does not say how large its image is")
        return size
    own = (int(height), int(width))  # type: ignore[call-overload]
    if own[0] * own[1] > MAX_PIXELS:
        raise _FaultError(f"it is of an image of {own[0] * own[1]:,} pixels, above the limit of {MAX_PIXELS:,}")
    if size is not None:
        stretch = (own[0] * size[1]) / (own[1] * size[0])
        if max(stretch, 1 / stretch) > 1.02:
            raise _FaultError(f"it is of an image {own[0]} x {own[1]}, but the image is {size[0]} x {size[1]} pixels")
    return own


def _scale(own: Size, size: tuple[int, ...]) -> Points:
    """What brings points (x, y) from one size to another."""
    return np.array([size[1] / own[1], size[0] / own[0]])


def _points(values: object) -> Points:
    """Points (N, 2) from a list of pairs or a flat list."""
    if isinstance(values, list) and len(values) > _MAX_POINTS:
        raise _FaultError(f"a shape in it has more than {_MAX_POINTS:,} points")
    try:
        points = np.array(values, np.float64)
        points = points.reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise _FaultError("points in it are no pairs of numbers") from error
    if not np.isfinite(points).all():
        raise _FaultError("points in it are no finite numbers")
    return points


def _inside(points: Points, size: Size, *, closed: bool = True) -> Points:
    """The points, moved onto the border where they lie a little over it."""
    if not closed:  # a circle may reach over the border, and the point on it as well
        return points
    sides = np.array([size[1], size[0]], np.float64)
    margin = np.maximum(1, _OUTSIDE * sides)
    outside = ((points < -margin) | (points > sides + margin)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        raise _FaultError(f"a point in it, x {x:.6g} and y {y:.6g}, lies outside of the image {size[0]} x {size[1]}")
    return np.clip(points, 0, sides)
