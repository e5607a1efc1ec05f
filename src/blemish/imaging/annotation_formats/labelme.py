"""labelme: a JSON file for each image, with outlines, boxes, circles, lines, points and masks."""

import base64
import binascii
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from blemish.imaging.annotation_formats.common import (
    AnnotationError,
    Drawn,
    clip_to_image,
    lay_mask,
    own_size,
    points_of,
    scale_to,
)
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.shapes import Points, box_corners, draw_line, fill_circle, fill_polygon
from blemish.imaging.types import Mask, Size
from blemish.io.text import printable

FIELDS = ("shapes", "imagePath", "imageData")


def draw_labelme(content: Any, size: Size | None) -> Drawn:
    """The shapes in a file's content. Raises AnnotationError."""
    if not isinstance(content.get("shapes"), list):
        raise AnnotationError("it has no list of shapes")
    own = own_size(content.get("imageHeight"), content.get("imageWidth"), size)
    mask = np.zeros(size or own, bool)
    scale = scale_to(own, mask.shape)
    for shape in content["shapes"]:
        if not isinstance(shape, dict):
            raise AnnotationError("one of its shapes is no object")
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
    points = clip_to_image(points_of(shape.get("points")), own, closed=kind != "circle") * scale
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}.get(kind, 1)
    if len(points) < least:
        raise AnnotationError(f"a {kind} of {len(points)} points is in it")
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
        lay_mask(mask, _embedded(shape.get("mask")), points.min(0), scale)
    else:
        raise AnnotationError(f"shapes of the kind {printable(str(kind))} cannot be read")


def _embedded(text: object) -> Mask:
    """labelme's own masks: a PNG in base64."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise AnnotationError("a mask in it is too large")
            return np.asarray(picture.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error) as error:
        raise AnnotationError("a mask in it is damaged") from error
