"""What an image file's header says: size and format, in nearly all cases without decoding a pixel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, TiffImagePlugin

from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.imaging.opening import opened_image
from blemish.imaging.types import Size
from blemish.process.threads import readers

_TIFF_TAGS = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength, ExifTags.Base.Orientation)
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap height and width


@dataclass(frozen=True)
class Header:
    """An image's size (height, width) as it is shown and as it is stored, and Pillow's name of its format."""

    size: Size
    stored_size: Size
    format: str


def read_header(path: Path) -> Header:
    """Reads a file's header. Raises ImageError where it is no image that Blemish reads."""
    with opened_image(path) as (image, _):
        return Header(_upright_size(image), (image.height, image.width), image.format or "")


def upright_size(path: Path) -> Size | None:
    """(height, width) of the image as `read_image` reads it; None where it cannot be read."""
    try:
        with opened_image(path) as (image, _):
            return _upright_size(image)
    except (BlemishError, SyntaxError, KeyError):
        return _decoded_size(path)


def upright_sizes(paths: Sequence[Path]) -> list[Size | None]:
    """The same of many files."""
    with ThreadPoolExecutor(readers()) as pool:
        return list(pool.map(upright_size, paths))


def _upright_size(image: Image.Image) -> Size:
    """Of an opened image, of which nothing is decoded."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # by its tags: some versions of Pillow turn the size itself
        width, height, orientation = (image.tag_v2.get(tag, 0) for tag in _TIFF_TAGS)
    else:
        # By `Image`: the method of a PNG decodes all of it to look for EXIF data behind the pixels.
        (width, height), orientation = image.size, Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    return (int(width), int(height)) if orientation in _TURNED else (int(height), int(width))


def _decoded_size(path: Path) -> Size | None:
    try:
        image = read_image(path)
    except BlemishError:
        return None
    return image.height, image.width
