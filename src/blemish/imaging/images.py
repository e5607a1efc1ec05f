"""Reading images and bringing them to network size: the one way in for training, evaluation, prediction."""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

from blemish.errors import BlemishError
from blemish.imaging.bit_depth import depth_remark, is_wide, read_wide_colour, to_8_bit
from blemish.imaging.decoding import Opened, open_image, recheck
from blemish.imaging.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from blemish.imaging.formats import is_image_name as is_image_name
from blemish.imaging.frames import Frame, frames_remark
from blemish.imaging.limits import MAX_PIXELS
from blemish.imaging.reading import Reading
from blemish.io.files import read_fault
from blemish.io.storage import is_url, read_bytes
from blemish.io.text import printable

_ASPECT_TOLERANCE = 0.02

ImagePath = str | os.PathLike[str]
ImageSource = ImagePath | Frame | Image.Image | npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Size = tuple[int, int]  # (height, width)


class ImageError(BlemishError):
    """An image that cannot be used, said in one sentence that begins with its name."""


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


def to_network_size(image: Image.Image, size: Size) -> npt.NDArray[np.uint8]:
    """Resizes an RGB or grey image to uint8 (H, W, 3) at `size` by Pillow's antialiased bilinear filter."""
    height, width = size
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(_in_rgb(resized))  # afterwards: one channel takes a third of the time of three


def read_image(source: ImageSource, reading: Reading | None = None) -> Image.Image:
    """Reads a path, a PIL image or an array (H, W) or (H, W, 1 | 3 | 4) as an upright 8-bit RGB image.

    EXIF orientation is applied, transparency is laid over white, of several frames the first is taken,
    colour profiles are ignored. 16-bit values become `value >> (bits - 8)`, at most 255, with the bits of `reading`,
    16 unless said otherwise: never stretched to the image's own range, so a dark part stays dark. Arrays are uint8,
    or uint16 for 16-bit values. A path may be a URL of fsspec's, such as s3://bucket/a.jpg. The caller's image is not
    changed. Raises ImageError.
    """
    return _in_rgb(read_picture(source, reading).image)


def read_picture(source: ImageSource, reading: Reading | None = None, *, name: str | None = None) -> Picture:
    """Reads as `read_image` does, and remarks on what was lost; `name` is what sentences call an array."""
    reading = reading or Reading()
    remarks: list[str] = []
    if isinstance(source, np.ndarray):
        image = _from_array(source, name or "array", reading, remarks)
        return Picture(_to_8_bit(image, name=name or "array", background="white"), tuple(remarks))
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "") or name or "PIL image")
        with _decoding_faults(name, byte_count=None):
            opened = recheck(source)
            upright = _decode_upright(opened.image, name, reading, remarks)
    elif isinstance(source, str | os.PathLike | bytes | Frame):
        with _opened_frame(source) as (opened, name):
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
    with _decoding_faults(name, byte_count=len(content)):
        opened = open_image(io.BytesIO(content), most_pixels=most_pixels)
        upright = _decode_upright(opened.image, name, reading, remarks)
    return _picture(upright, name, reading, remarks, opened.frames)


def _picture(upright: Image.Image, name: str, reading: Reading, remarks: list[str], frames: int) -> Picture:
    image = _to_8_bit(upright, name=name, background="white", reading=reading, remarks=remarks)
    if frames > 1:
        remarks.append(frames_remark(name, frames))
    return Picture(image, tuple(remarks), frames)


def largest_value(path: ImagePath) -> int | None:
    """The largest value in a file of more than 8 bits a value, opacity aside; None for 8 bits: then nothing is decoded.

    Raises ImageError.
    """
    with _opened(path) as (image, name):
        if not is_wide(image):
            return None
        _refuse_odd_size(image, name)
        colour = read_wide_colour(image)
        if colour is not None:
            return colour.largest
        image.load()
        return int(_wide_values(image, name).max())


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
        _remark_on_depth(remarks, name, pixels[..., :3] if pixels.ndim == 3 else pixels, reading)
        pixels = to_8_bit(pixels, reading.bits)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(pixels)


def _remark_on_depth(remarks: list[str], name: str, values: npt.NDArray[Any], reading: Reading) -> None:
    if remark := depth_remark(name, int(values.max()), reading):
        remarks.append(remark)


def _read_upright(
    path: ImagePath | bytes, reading: Reading | None = None, remarks: list[str] | None = None
) -> Image.Image:
    with _opened(path) as (image, name):
        return _decode_upright(image, name, reading or Reading(), [] if remarks is None else remarks)


def count_frames(path: ImagePath) -> tuple[int, bool]:
    """How many images a file holds, by its headers, and whether all were counted: 10,000 at most. Raises ImageError."""
    with _opened_frame(path) as (opened, _):
        return opened.frames, opened.complete


def frames_of(path: ImagePath) -> list[Frame]:
    """All images in a file, such as the pages of a TIFF; each is read and scored as an image is.

    Thumbnails and reduced copies are none. Raises ImageError, also where there are more than 10,000.
    """
    frames, complete = count_frames(path)
    if not complete:
        raise ImageError(f"{printable(path)}: it has more than {frames:,} frames; split it")
    return [Frame(os.fspath(path), number) for number in range(1, frames + 1)]


@contextmanager
def _opened(path: ImagePath | bytes) -> Iterator[tuple[Image.Image, str]]:
    """The first frame of an image file, as `_opened_frame` has it."""
    with _opened_frame(path) as (opened, name):
        yield opened.image, name


@contextmanager
def _opened_frame(source: ImagePath | bytes | Frame) -> Iterator[tuple[Opened, str]]:
    """An image file of which the header is read, and its name; faults in the block are faults of the file."""
    path, number = (source.path, source.number) if isinstance(source, Frame) else (source, 1)
    name = printable(str(source) if isinstance(source, Frame) else source)
    file, byte_count = _open_url(os.fsdecode(path), name) if is_url(os.fsdecode(path)) else _open_file(path, name)
    if byte_count == 0:
        file.close()
        raise ImageError(f"{name}: empty (0 bytes)")
    with file, _decoding_faults(name, byte_count=byte_count):
        yield open_image(file, frame=number), name


def _open_file(path: ImagePath | bytes, name: str) -> tuple[BinaryIO, int]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise ImageError(f"{name}: not a regular file; save the image to one")
        return open(path, "rb"), status.st_size
    except OSError as error:
        raise ImageError(f"{name}: {read_fault(error)}") from error
    except ValueError as error:  # a zero byte in it
        raise ImageError(
            f"{name[:60]}: no path of a file; pass what a file holds as PIL.Image.open(io.BytesIO(content))"
        ) from error


def _open_url(url: str, name: str) -> tuple[BinaryIO, int]:
    try:
        content = read_bytes(url)
    except OSError as error:
        raise ImageError(f"{name}: {read_fault(error)}") from error
    return io.BytesIO(content), len(content)


def _refuse_odd_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(name, image.width * image.height))
    if image.width * image.height == 0:
        raise ImageError(f"{name}: {image.height} x {image.width} pixels; an image has at least one")


def _decode_upright(image: Image.Image, name: str, reading: Reading, remarks: list[str]) -> Image.Image:
    """A decoded copy of the image with its EXIF orientation applied; 16-bit colours in 8 bits, grey in its own mode."""
    _refuse_odd_size(image, name)
    # Of 16 bits the upper 8 are what Pillow decodes by itself.
    colour = read_wide_colour(image) if reading.bits < 16 or image.format == "PPM" else None
    if colour is not None:
        _remark_on_depth(remarks, name, colour.colours, reading)
        image = colour.at(reading.bits)
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except SyntaxError:
        return image.copy()  # not EXIF at all, so no orientation; in a JPEG Pillow skips such bytes itself


def _to_8_bit(
    image: Image.Image,
    *,
    name: str,
    background: str,
    reading: Reading | None = None,
    remarks: list[str] | None = None,
) -> Image.Image:
    """Mode RGB, or L for a grey image, from any mode, with transparency laid over the background."""
    with _decoding_faults(name, byte_count=None):
        if image.mode == "F":
            raise ImageError(f"{name}: its values are floating-point; save it as 8 bit or 16 bit")
        if image.mode.startswith("I"):
            values, reading = _wide_values(image, name), reading or Reading()
            _remark_on_depth([] if remarks is None else remarks, name, values, reading)
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
        return image if image.mode == "L" else _in_rgb(image)


def _in_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy it


def _wide_values(image: Image.Image, name: str) -> npt.NDArray[np.int32]:
    """The values (H, W) of a 16-bit image, which Pillow holds as I;16, I;16B, … or as 32-bit I."""
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name}: its values run from {values.min()} to {values.max()}; save it as 8 bit or 16 bit")
    return values


class _QuietPillow:
    """Keeps Pillow's remarks on odd files off stderr: what matters in them becomes an ImageError.

    Warning filters belong to the process and images are decoded in several threads, so the first one in sets
    the filter and the last one out takes it away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


@contextmanager
def _decoding_faults(name: str, *, byte_count: int | None) -> Iterator[None]:
    try:
        with _quiet_pillow:
            yield
    except ImageError:
        raise
    except BlemishError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for this machine's memory; shrink it first") from error
    except Image.DecompressionBombError as error:  # Pillow tells the number of pixels only in its message
        count = re.search(r"\d+", str(error))
        raise ImageError(_too_many_pixels(name, int(count[0]) if count else MAX_PIXELS)) from error
    except Exception as error:  # on damaged files Pillow's parsers raise whatever they stumble over
        raise ImageError(f"{name}: {_decoding_fault(error, byte_count)}") from error


def _too_many_pixels(name: str, pixels: int) -> str:
    return f"{name}: {pixels:,} pixels, above the limit of {MAX_PIXELS:,}; shrink it or cut it into tiles"


def _decoding_fault(error: Exception, byte_count: int | None) -> str:
    after = "" if byte_count is None else f" after {_in_kilobytes(byte_count)}"
    if isinstance(error, OSError) and error.errno is not None:
        return read_fault(error)
    if "MAX_TEXT" in str(error):  # Pillow's limits on a PNG
        return "its texts or colour profile are too large once decompressed; save it again without them"
    if "truncated" in str(error).lower():
        return f"truncated{after}"
    return f"damaged, or truncated{after}; copy or save it again"


def _in_kilobytes(byte_count: int) -> str:
    return f"{byte_count} bytes" if byte_count < 1024 else f"{byte_count / 1024:,.0f} KB"
