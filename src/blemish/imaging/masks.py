"""Masks: which pixels of an image are anomalous, from a mask file, several of them, or an annotation."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.imaging.annotation_formats.common import Annotation
from blemish.imaging.annotation_formats.drawing import draw
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_upright
from blemish.imaging.mask_values import Marked, WithoutBlack, marked
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask, same_shape
from blemish.imaging.types import ImagePath, Mask, Size
from blemish.io.text import printable

MaskSource = Path | tuple[Path, ...] | Annotation
"""Where a mask comes from: a file, several files whose union it is, or an annotation of one image."""

# Small numbers in 16-bit colours are classes too.
_AS_THEY_ARE = Reading(bits=8)


@dataclass(frozen=True)
class MaskFacts:
    """What may be unusual about a mask.

    Attributes:
        share: the anomalous share of the pixels, 0 to 1; 0 only where none is anomalous.
        lost: whether an area of another value than the background does not count, being below half of full scale.
        even: whether one value, which is not black, is everywhere in a file: all is taken as anomalous.
        boxes: how many shapes are bounding boxes, filled.
    """

    share: float
    lost: bool = False
    even: bool = False
    boxes: int = 0


@dataclass(frozen=True, eq=False)
class MaskReading:
    """A mask, bool (H, W), true where anomalous, and what is unusual about it."""

    pixels: Mask
    facts: MaskFacts


def mask_files(source: MaskSource) -> tuple[Path, ...]:
    """The files that a mask is read from."""
    if isinstance(source, Annotation):
        return (source.file,)
    return source if isinstance(source, tuple) else (source,)


def mask_name(source: MaskSource) -> str:
    """A mask's name for one line of text: its file; of several files the folder; the annotation file and the image."""
    if isinstance(source, Annotation):
        return printable(source.file) + (f" ({printable(source.key)})" if source.key else "")
    if isinstance(source, tuple):
        return printable(source[0]) if len(source) == 1 else printable(source[0].parent)
    return printable(source)


def read_mask(
    source: MaskSource | ImagePath, *, size: Size | None = None, without_black: WithoutBlack = "commonest"
) -> Mask:
    """Reads a mask for an image of `size` = (height, width), or at its own: bool (H, W), true where anomalous.

    In a file of few values all but the background is anomalous, however dark: classes, labels of 16 bits, colours,
    palettes. Background is what is black or transparent, and where nothing is, the commonest value. A file of one
    value that is not black is anomalous everywhere. In a file of many grades (JPEG, antialiased edges) a pixel is
    anomalous above half of full scale, by its brightest channel; see `blemish.imaging.mask_values`.

    The mask's own EXIF orientation is applied. Another size of the same shape (within 2 %) is brought to `size` by
    nearest neighbour.

    Args:
        source: a file, several whose union it is, or an annotation.
        size: of the image; annotations of YOLO need it.
        without_black: "darkest" takes the darkest value for background where nothing is black, as is right for
            pictures in which white may prevail.

    Raises:
        ImageError: the mask cannot be read or has another shape than the image.
    """
    return read_mask_with_notes(source, size=size, without_black=without_black).pixels


def read_mask_with_notes(
    source: MaskSource | ImagePath, *, size: Size | None = None, without_black: WithoutBlack = "commonest"
) -> MaskReading:
    """The same as `read_mask`, with what is unusual about the mask."""
    if isinstance(source, Annotation):
        drawn = draw(source, size=size)
        return _reading(drawn.pixels, boxes=drawn.boxes)
    if not isinstance(source, tuple):
        found = _read_file(source, without_black)
        pixels = found.pixels if size is None else _at_size(found.pixels, size, name=printable(source))
        return _reading(pixels, lost=found.lost, even=found.even)
    readings = [read_mask_with_notes(file, size=size, without_black=without_black) for file in source]
    if len({reading.pixels.shape for reading in readings}) != 1:
        raise ImageError(f"{mask_name(source)}: its masks differ in size; save all in the image's shape")
    return _reading(
        np.logical_or.reduce([reading.pixels for reading in readings]),
        lost=any(reading.facts.lost for reading in readings),
        even=any(reading.facts.even for reading in readings),
    )


def _reading(pixels: Mask, *, lost: bool = False, even: bool = False, boxes: int = 0) -> MaskReading:
    return MaskReading(pixels, MaskFacts(float(pixels.mean()), lost=lost, even=even, boxes=boxes))


def _read_file(path: ImagePath, without_black: WithoutBlack) -> Marked:
    return marked(
        read_upright(path, _AS_THEY_ARE), name=printable(path), lossy=_is_lossy(path), without_black=without_black
    )


def _is_lossy(path: ImagePath) -> bool:
    """Whether a file is a JPEG or a lossy WebP, whatever its name says."""
    try:
        with open(os.fspath(path), "rb") as file:
            start = file.read(1024)
    except OSError:  # a URL; its values show it
        return False
    return start.startswith(b"\xff\xd8\xff") or (start[:4] == b"RIFF" and b"VP8 " in start)


def _at_size(mask: Mask, size: Size, *, name: str) -> npt.NDArray[np.bool_]:
    height, width = mask.shape
    if (height, width) == size:
        return mask
    if not same_shape((height, width), size):
        raise ImageError(
            f"{name}: the mask is {height} x {width} but its image is {size[0]} x {size[1]} "
            "(height x width); save the mask in the image's shape"
        )
    nearest = resize_mask(mask, size, rule="nearest")
    if mask.any() and not nearest.any():  # all of it is thinner than a pixel
        return resize_mask(mask, size, rule="any")
    return nearest
