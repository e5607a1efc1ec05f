"""Reading images and bringing them to network size: the one way in for training, evaluation, prediction."""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from blemish.errors import BlemishError
from blemish.files import printable, read_fault
from blemish.remote import is_url, read_bytes

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
MAX_PIXELS = 150_000_000  # 600 MB once decoded; a file of some kilobytes can claim more

# The formats behind IMAGE_SUFFIXES and no other: Pillow would start Ghostscript for an EPS file called .png.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_ASPECT_TOLERANCE = 0.02

ImagePath = str | os.PathLike[str]
ImageSource = ImagePath | Image.Image | npt.NDArray[np.uint8]
Size = tuple[int, int]  # (height, width)


class ImageError(BlemishError):
    """An image that cannot be used, said in one sentence that begins with its name."""


def is_image_name(path: ImagePath) -> bool:
    """Whether the name is that of an image file; hidden files are none, the suffix's case does not matter."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def load(source: ImageSource, size: Size) -> tuple[npt.NDArray[np.uint8], Size]:
    """Reads and resizes in one step: uint8 pixels (H, W, 3) at `size`, and the image's own size."""
    image = _read(source)
    return to_network_size(image, size), (image.height, image.width)


def to_network_size(image: Image.Image, size: Size) -> npt.NDArray[np.uint8]:
    """Resizes an RGB or grey image to uint8 (H, W, 3) at `size` by Pillow's antialiased bilinear filter."""
    height, width = size
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(_in_rgb(resized))  # afterwards: one channel takes a third of the time of three


def read_image(source: ImageSource) -> Image.Image:
    """Reads a path, a PIL image or a uint8 array (H, W) or (H, W, 1 | 3 | 4) as an upright 8-bit RGB image.

    EXIF orientation is applied, transparency is laid over white, of several frames the first is taken,
    colour profiles are ignored. 16-bit values become `value >> 8`: never stretched to the image's own range,
    so a dark part stays dark. A path may be a URL of fsspec's, such as s3://bucket/a.jpg. The caller's image
    is not changed. Raises ImageError.
    """
    return _in_rgb(_read(source))


def _read(source: ImageSource) -> Image.Image:
    """What `read_image` reads, grey images still in mode L."""
    if isinstance(source, np.ndarray):
        return _to_8_bit(_from_array(source), name="array", background="white")
    if isinstance(source, Image.Image):
        name = printable(getattr(source, "filename", "") or "PIL image")
        with _decoding_faults(name, byte_count=None):
            upright = _decode_upright(source, name)
        return _to_8_bit(upright, name=name, background="white")
    if isinstance(source, str | os.PathLike):
        return _to_8_bit(_read_upright(source), name=printable(source), background="white")
    raise ImageError(f"an image must be a path, a PIL image or a uint8 array, not {type(source).__name__}")


def _from_array(pixels: npt.NDArray[Any]) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise ImageError(f"array: its values are {pixels.dtype}; convert them to uint8, 0 to 255")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise ImageError(f"array: its shape is {pixels.shape}; pass (H, W) or (H, W, C) with C = 1, 3 or 4")
    if pixels.size == 0:
        raise ImageError(f"array: its shape is {pixels.shape}; an image has at least one pixel")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(pixels)


def _read_upright(path: ImagePath) -> Image.Image:
    name = printable(path)
    if is_url(os.fspath(path)):
        return _read_upright_url(os.fspath(path), name)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{name}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise ImageError(f"{name}: not a regular file; save the image to one")
        if status.st_size == 0:
            raise ImageError(f"{name}: empty (0 bytes)")
        file = open(path, "rb")  # noqa: SIM115  (closed below; faults in opening it are not faults in decoding)
    except OSError as error:
        raise ImageError(f"{name}: {read_fault(error)}") from error
    with file, _decoding_faults(name, byte_count=status.st_size):
        return _decode_upright(Image.open(file, formats=_FORMATS), name)


def _read_upright_url(url: str, name: str) -> Image.Image:
    try:
        content = read_bytes(url)
    except OSError as error:
        raise ImageError(f"{name}: {read_fault(error)}") from error
    if not content:
        raise ImageError(f"{name}: empty (0 bytes)")
    with _decoding_faults(name, byte_count=len(content)):
        return _decode_upright(Image.open(io.BytesIO(content), formats=_FORMATS), name)


def _decode_upright(image: Image.Image, name: str) -> Image.Image:
    """A decoded copy of the image with its EXIF orientation applied, in its own mode."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(name, image.width * image.height))
    if image.width * image.height == 0:
        raise ImageError(f"{name}: {image.height} x {image.width} pixels; an image has at least one")
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except SyntaxError:
        return image.copy()  # not EXIF at all, so no orientation; in a JPEG Pillow skips such bytes itself


def _to_8_bit(image: Image.Image, *, name: str, background: str) -> Image.Image:
    """Mode RGB, or L for a grey image, from any mode, with transparency laid over the background."""
    with _decoding_faults(name, byte_count=None):
        if image.mode == "F":
            raise ImageError(f"{name}: its values are floating-point; save it as 8 bit or 16 bit")
        if image.mode.startswith("I"):
            image = Image.fromarray((_wide_values(image, name) >> 8).astype(np.uint8))
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
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG, JPEG, BMP, TIFF, WebP, GIF, PPM or PGM image, or truncated inside its header"
    if isinstance(error, OSError) and error.errno is not None:
        return read_fault(error)
    if "truncated" in str(error).lower():
        return f"truncated{after}"
    return f"damaged, or truncated{after}; copy or save it again"


def _in_kilobytes(byte_count: int) -> str:
    return f"{byte_count} bytes" if byte_count < 1024 else f"{byte_count / 1024:,.0f} KB"
