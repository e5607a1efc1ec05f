"""What an image file's header says: size and format, without decoding a pixel."""

from dataclasses import dataclass
from pathlib import Path

from blemish.imaging.images import Size, _opened
from blemish.imaging.sizes import _upright


@dataclass(frozen=True)
class Header:
    """An image's size (height, width) as it is shown and as it is stored, and Pillow's name of its format."""

    size: Size
    stored_size: Size
    format: str


def read_header(path: Path) -> Header:
    """Reads a file's header. Raises ImageError where it is no image that Blemish reads."""
    with _opened(path) as (image, _):
        return Header(_upright(image), (image.height, image.width), image.format or "")
