"""Masks: which pixels of an image are anomalous, from a mask file, several of them, or an annotation."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.files import printable
from blemish.images import (
    _ASPECT_TOLERANCE,
    ImageError,
    ImagePath,
    Size,
    _in_rgb,
    _read_upright,
    _to_8_bit,
    _wide_values,
)
from blemish.imaging.annotations import Annotation

_LARGEST_LABEL = 15  # a mask no brighter than this holds label numbers, not grey levels

MaskSource = Path | tuple[Path, ...] | Annotation
"""Where a mask comes from: a file, several files whose union it is, or an annotation of one image."""


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


def read_mask(source: MaskSource | ImagePath, *, size: Size | None = None) -> npt.NDArray[np.bool_]:
    """Reads a mask for an image of `size` = (height, width), or at its own: bool (H, W), true where anomalous.

    A pixel is anomalous above half of full scale, by its brightest channel (a red stroke counts), a
    transparent one never. A mask with no value above 15 holds label numbers: all but 0 are anomalous. A
    16-bit mask with no value above 255 counts as an 8-bit one. The mask's own EXIF orientation is applied.
    Another size of the same shape (within 2 %) is brought to `size` by nearest neighbour. Raises ImageError.
    """
    if isinstance(source, Annotation):
        raise ImageError(f"{mask_name(source)}: annotations cannot be read yet")
    if isinstance(source, tuple):
        masks = [read_mask(file, size=size) for file in source]
        if len({mask.shape for mask in masks}) > 1:
            raise ImageError(f"{mask_name(source)}: its masks differ in size; save all in the image's shape")
        return np.logical_or.reduce(masks)
    mask = _anomalous(_read_upright(source), name=printable(source))
    return mask if size is None else _at_size(mask, size, name=printable(source))


def _at_size(mask: npt.NDArray[np.bool_], size: Size, *, name: str) -> npt.NDArray[np.bool_]:
    height, width = mask.shape
    if (height, width) == size:
        return mask
    stretch = (height * size[1]) / (width * size[0])
    if max(stretch, 1 / stretch) > 1 + _ASPECT_TOLERANCE:
        raise ImageError(
            f"{name}: the mask is {height} x {width} but its image is {size[0]} x {size[1]} "
            "(height x width); save the mask in the image's shape"
        )
    resized = Image.fromarray(mask.astype(np.uint8)).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(resized, dtype=bool)


def _anomalous(image: Image.Image, *, name: str) -> npt.NDArray[np.bool_]:
    """A mask image's anomalous pixels (H, W), by the rules of `read_mask`."""
    values: npt.NDArray[Any]
    if image.mode.startswith("I"):
        values = _wide_values(image, name)
        full_scale = 65535 if values.max() > 255 else 255
    else:
        values = np.asarray(_in_rgb(_to_8_bit(image, name=name, background="black"))).max(axis=2)
        full_scale = 255
    threshold = 0.0 if values.max() <= _LARGEST_LABEL else full_scale / 2
    return values > threshold
