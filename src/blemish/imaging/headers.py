"""What an image file's header says: size and format, without decoding a pixel."""

from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from blemish.files import printable, read_fault
from blemish.images import _FORMATS, ImageError, Size, _decoding_faults

_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Header:
    """An image's size (height, width) as it is shown and as it is stored, and Pillow's name of its format."""

    size: Size
    stored_size: Size
    format: str


def read_header(path: Path) -> Header:
    """Reads a file's header. Raises ImageError where it is no image that Blemish reads."""
    name = printable(path)
    if not path.is_file():  # opening a named pipe would wait for ever
        raise ImageError(f"{name}: no such file, or not a regular one")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError(f"{name}: {read_fault(error)}") from error
    with file, _decoding_faults(name, byte_count=path.stat().st_size):
        image = Image.open(file, formats=_FORMATS)
        stored = (image.height, image.width)
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        except SyntaxError:  # not EXIF at all, so no orientation
            turned = False
        return Header(stored[::-1] if turned else stored, stored, image.format or "")
