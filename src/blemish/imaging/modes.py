"""Pillow's modes: any image as RGB or grey in 8 bits, and the values of a 16-bit image."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from blemish.imaging.bit_depth import depth_remark, to_8_bit
from blemish.imaging.errors import ImageError, decoding_errors
from blemish.imaging.reading import Reading


def to_rgb_or_grey(
    image: Image.Image,
    *,
    name: str,
    background: Literal["white", "black"],
    reading: Reading | None = None,
    remarks: list[str] | None = None,
) -> Image.Image:
    """Mode RGB, or L for a grey image, from any mode.

    Args:
        image: decoded.
        name: of the image, for sentences.
        background: what transparency is laid over.
        reading: the depth of 16-bit values.
        remarks: gets a sentence where values do not fit that depth.

    Raises:
        ImageError: values are floating-point, or more than 16 bits.
    """
    with decoding_errors(name, byte_count=None):
        if image.mode == "F":
            raise ImageError(f"{name}: its values are floating-point; save it as 8 bit or 16 bit")
        if image.mode.startswith("I"):
            values, reading = wide_values(image, name), reading or Reading()
            remark_on_depth([] if remarks is None else remarks, name, values, reading)
            image = Image.fromarray(to_8_bit(values, reading.bits))
        if image.mode == "LAB":
            lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
            assert converted is not None  # None only for inPlace=True
            return converted
        if image.mode == "La":
            image = image.convert("LA")  # the one way out of La that Pillow has
        if image.has_transparency_data:
            canvas = Image.new("RGBA", image.size, background)
            canvas.alpha_composite(image.convert("RGBA"))
            image = canvas
        return image if image.mode == "L" else in_rgb(image)


def in_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB; itself where it has that mode, as `convert` would copy it."""
    return image if image.mode == "RGB" else image.convert("RGB")


def wide_values(image: Image.Image, name: str) -> npt.NDArray[np.int32]:
    """The values (H, W) of a 16-bit grey image, which Pillow holds as I;16, I;16B, … or as 32-bit I.

    Raises ImageError where a value lies outside 0 to 65,535.
    """
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name}: its values run from {values.min()} to {values.max()}; save it as 8 bit or 16 bit")
    return values


def remark_on_depth(remarks: list[str], name: str, values: npt.NDArray[Any], reading: Reading) -> None:
    """Adds a sentence to the remarks where 16-bit values do not fit the depth of `reading`."""
    if remark := depth_remark(name, int(values.max()), reading):
        remarks.append(remark)
