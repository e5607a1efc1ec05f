"""Reading images: a path, a picture or an array as an upright 8-bit image, the one way in for every command."""

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from blemish.imaging.bit_depth import is_wide, read_wide_colour, to_8_bit
from blemish.imaging.decoding import open_image, recheck
from blemish.imaging.errors import ImageError, check_pixel_count, decoding_errors
from blemish.imaging.frames import Frame, frames_remark
from blemish.imaging.modes import in_rgb, remark_on_depth, to_rgb_or_grey, wide_values
from blemish.imaging.opening import opened_frame, opened_image
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import to_network_size
from blemish.imaging.types import ImagePath, ImageSource, Size
from blemish.io.text import printable


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as it was read.

    Attributes:
        image: upright, 8 bits a channel, mode RGB or L.
        remarks: what was lost in reading it, a sentence each that begins with its name.
        frames: how many images its file holds, where it is the first of them and no other was asked for.
    """

    image: Image.Image
    remarks: tuple[str, ...] = ()
    frames: int = 1

    @property
    def losses(self) -> tuple[str, ...]:
        """The remarks but the one on its frames, which is the last."""
        return self.remarks[:-1] if self.frames > 1 else self.remarks

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.image.height, self.image.width


def load(source: ImageSource, size: Size, reading: Reading | None = None) -> tuple[npt.NDArray[np.uint8], Size]:
    """Reads and resizes in one step: uint8 pixels (H, W, 3) at `size`, and the image's own size."""
    picture = read_picture(source, reading)
    return to_network_size(picture.image, size), picture.size


def read_image(source: ImageSource, reading: Reading | None = None) -> Image.Image:
    """Reads a path, a PIL image or an array (H, W) or (H, W, 1 | 3 | 4) as an upright 8-bit RGB image.

    EXIF orientation is applied, transparency is laid over white, of several frames the first is taken,
    colour profiles are ignored. 16-bit values become `value >> (bits - 8)`, at most 255, with the bits of `reading`,
    16 unless said otherwise: never stretched to the image's own range, so a dark part stays dark. Arrays are uint8,
    or uint16 for 16-bit values. A path may be a URL of fsspec's, such as s3://bucket/a.jpg. The caller's image is not
    changed. Raises ImageError.
    """
    return in_rgb(read_picture(source, reading).image)


def read_picture(source: ImageSource, reading: Reading | None = None, *, name: str | None = None) -> Picture:
    """Reads as `read_image` does, and remarks on what was lost; `name` is what sentences call an array."""
    reading = reading or Reading()
    remarks: list[str] = []
    if isinstance(source, np.ndarray):
        image = _from_array(source, name or "array", reading, remarks)
        return Picture(to_rgb_or_grey(image, name=name or "array", background="white"), tuple(remarks))
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "") or name or "PIL image")
        with decoding_errors(name, byte_count=None):
            opened = recheck(source)
            upright = _decode_upright(opened.image, name, reading, remarks)
    elif isinstance(source, str | os.PathLike | bytes | Frame):
        with opened_frame(source) as (opened, name):
            upright = _decode_upright(opened.image, name, reading, remarks)
    else:
        raise ImageError(f"{name}: {_no_image(source)}" if name else _no_image(source))
    frames = 1 if isinstance(source, Frame) else opened.frames
    return _picture(upright, name, reading, remarks, frames)


def read_content(
    content: bytes | memoryview, name: str, reading: Reading | None = None, *, most_pixels: int
) -> Picture:
    """Reads the image that the bytes of a file hold, as `read_picture` does; more than `most_pixels` are refused.

    Raises ImageError.
    """
    if not content:
        raise ImageError(f"{name}: empty (0 bytes)")
    reading = reading or Reading()
    remarks: list[str] = []
    with decoding_errors(name, byte_count=len(content)):
        opened = open_image(io.BytesIO(content), most_pixels=most_pixels)
        upright = _decode_upright(opened.image, name, reading, remarks)
    return _picture(upright, name, reading, remarks, opened.frames)


def _picture(upright: Image.Image, name: str, reading: Reading, remarks: list[str], frames: int) -> Picture:
    image = to_rgb_or_grey(upright, name=name, background="white", reading=reading, remarks=remarks)
    if frames > 1:
        remarks.append(frames_remark(name, frames))
    return Picture(image, tuple(remarks), frames)


def largest_value(path: ImagePath) -> int | None:
    """The largest value in a file of more than 8 bits a value, opacity aside; None for 8 bits: then nothing is decoded.

    Raises ImageError.
    """
    with opened_image(path) as (image, name):
        if not is_wide(image):
            return None
        check_pixel_count(image, name)
        colour = read_wide_colour(image)
        if colour is not None:
            return colour.largest
        image.load()
        return int(wide_values(image, name).max())


def _no_image(source: object) -> str:
    kind = type(source).__name__
    if hasattr(source, "read"):
        return f"an open file ({kind}) is no image; pass its path, or PIL.Image.open(file)"
    if hasattr(source, "__array__"):
        return f"{kind} is no image; pass it as a NumPy array, uint8 or uint16, (H, W) or (H, W, C)"
    return f"an image must be a path, a PIL image or an array of uint8 or uint16, not {kind}"


def _from_array(pixels: npt.NDArray[Any], name: str, reading: Reading, remarks: list[str]) -> Image.Image:
    if pixels.dtype not in (np.uint8, np.uint16, np.dtype(">u2")):
        raise ImageError(f"{name}: its values are {pixels.dtype}; convert them to uint8, 0 to 255, or uint16")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise ImageError(f"{name}: its shape is {pixels.shape}; pass (H, W) or (H, W, C) with C = 1, 3 or 4")
    if pixels.size == 0:
        raise ImageError(f"{name}: its shape is {pixels.shape}; an image has at least one pixel")
    if pixels.dtype != np.uint8:
        remark_on_depth(remarks, name, pixels[..., :3] if pixels.ndim == 3 else pixels, reading)
        pixels = to_8_bit(pixels, reading.bits)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(pixels)


def read_upright(path: ImagePath | bytes, reading: Reading | None = None) -> Image.Image:
    """A file's first image, upright and in its own mode; 16-bit colours become 8-bit ones. Raises ImageError."""
    with opened_image(path) as (image, name):
        return _decode_upright(image, name, reading or Reading(), [])


def _decode_upright(image: Image.Image, name: str, reading: Reading, remarks: list[str]) -> Image.Image:
    """A decoded copy of the image with its EXIF orientation applied; 16-bit colours in 8 bits, grey in its own mode."""
    check_pixel_count(image, name)
    # Of 16 bits the upper 8 are what Pillow decodes by itself.
    colour = read_wide_colour(image) if reading.bits < 16 or image.format == "PPM" else None
    if colour is not None:
        remark_on_depth(remarks, name, colour.colours, reading)
        image = colour.at(reading.bits)
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except SyntaxError:
        return image.copy()  # not EXIF at all, so no orientation; in a JPEG Pillow skips such bytes itself
