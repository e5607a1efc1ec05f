"""COCO: one JSON file for many images, with outlines, run lengths and boxes."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from blemish.imaging.annotation_formats.common import (
    AnnotationError,
    Drawn,
    annotation_faults,
    clip_to_image,
    is_side,
    lay_mask,
    own_size,
    points_of,
    read_json,
    scale_to,
)
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.shapes import box_corners, decode_runs, fill_polygon, unpack_runs
from blemish.imaging.types import Mask, Size
from blemish.io.files import read_fault
from blemish.io.text import printable


def is_coco(content: object) -> bool:
    """Whether a JSON file's content has COCO's fields."""
    return isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content


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
    with annotation_faults(printable(file)):
        return load_coco(file)


_reading_coco = threading.Lock()  # a large file is not to be read by eight threads at once


def load_coco(file: Path) -> Coco:
    """The same, raising AnnotationError; read once for all images of the file, and again where it has changed."""
    with _reading_coco:
        try:
            status = file.stat()
        except OSError as error:
            raise AnnotationError(read_fault(error)) from error
        return _read_coco(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_coco(file: Path, changed: int, length: int) -> Coco:
    content = read_json(file)
    if not is_coco(content) or not isinstance(content["annotations"], list):
        raise AnnotationError("it has no lists of images and annotations")
    names: dict[Any, str] = {}
    sizes: dict[str, Size | None] = {}
    for image in content["images"]:
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(image.get("id"), int | str):
            raise AnnotationError("an image in it has no file_name or no id")
        names[image["id"]] = name
        height, width = image.get("height"), image.get("width")
        known = is_side(height) and is_side(width)
        sizes[name] = (int(height), int(width)) if known else None
    annotations: dict[str, list[Mapping[str, Any]]] = {name: [] for name in sizes}
    for annotation in content["annotations"]:
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(image_id, int | str) or image_id not in names:
            raise AnnotationError("an annotation in it has no image_id, or one of no image")
        annotations[names[image_id]].append(annotation)
    return Coco(sizes, annotations)


def draw_coco(coco: Coco, key: str, size: Size | None) -> Drawn:
    """The annotations of the image called `key`. Raises AnnotationError."""
    if key not in coco.sizes:
        raise AnnotationError("no such image in it")
    height, width = coco.sizes[key] or (None, None)
    own = own_size(height, width, size)
    mask = np.zeros(size or own, bool)
    scale = scale_to(own, mask.shape)
    boxes = 0
    for annotation in coco.annotations[key]:
        outline = annotation.get("segmentation")
        if isinstance(outline, dict):
            lay_mask(mask, _runs(outline, own), np.zeros(2), scale)
        elif isinstance(outline, list) and outline:
            for polygon in outline:
                points = points_of(polygon)
                if len(points) < 3:
                    raise AnnotationError(f"an outline of {len(points)} points is in it")
                fill_polygon(mask, clip_to_image(points, own) * scale)
        else:
            box = points_of(annotation.get("bbox") or [])
            if box.shape != (2, 2) or (box[1] < 0).any():
                raise AnnotationError("an annotation in it has neither a segmentation nor a box of four numbers")
            fill_polygon(mask, clip_to_image(box_corners(*box.ravel().tolist()), own) * scale)
            boxes += 1
    return Drawn(mask, boxes)


def _runs(outline: Mapping[str, Any], own: Size) -> Mask:
    size, counts = outline.get("size"), outline.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(map(is_side, size))):
        raise AnnotationError("run lengths in it have no size")
    if (size[0], size[1]) != own:
        raise AnnotationError(
            f"run lengths in it are of {size[0]} x {size[1]} pixels, the image of {own[0]} x {own[1]}"
        )
    if isinstance(counts, str):
        return decode_runs(unpack_runs(counts), own)
    numbers = isinstance(counts, list) and all(type(count) is int and abs(count) <= MAX_PIXELS for count in counts)
    if not numbers:
        raise AnnotationError("run lengths in it are no whole numbers")
    return decode_runs(np.array(counts, np.int64), own)
