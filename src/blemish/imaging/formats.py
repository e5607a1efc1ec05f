"""The image formats that are read, by the first bytes of a file; Pillow's other decoders are never started."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from blemish.imaging.containers import avif, bitmap, gif, jpeg, jpeg2000, png, portable_map, tiff, webp
from blemish.imaging.limits import Contents, UnfitError

HEAD = 32  # bytes by which a format is known


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: Pillow's.
        title: what people call it.
        suffixes: of file names.
        begins: whether a file begins so, by its first 32 bytes.
        examine: what its headers say, see `imaging.containers`.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    examine: Callable[[BinaryIO, int], Contents]


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


_DIB_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
_TIFF_HEADERS = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")

_KNOWN = (
    Format("PNG", "PNG", (".png", ".apng"), _starts(b"\x89PNG\r\n\x1a\n"), png.examine),
    Format("JPEG", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), _starts(b"\xff\xd8\xff"), jpeg.examine),
    Format("BMP", "BMP", (".bmp",), _starts(b"BM"), bitmap.examine),
    Format("DIB", "BMP", (".dib",), _starts(*_DIB_HEADERS), bitmap.examine),
    Format("TIFF", "TIFF", (".tif", ".tiff"), _starts(*_TIFF_HEADERS), tiff.examine),
    Format("WEBP", "WebP", (".webp",), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", webp.examine),
    Format("GIF", "GIF", (".gif",), _starts(b"GIF87a", b"GIF89a"), gif.examine),
    Format(
        "PPM",
        "PGM or PPM",
        (".ppm", ".pgm", ".pbm", ".pnm"),
        lambda head: head[:1] == b"P" and head[1:2] in tuple(b"%c" % code for code in b"123456f"),
        portable_map.examine,
    ),
    Format(
        "JPEG2000",
        "JPEG 2000",
        (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
        _starts(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        jpeg2000.examine,
    ),
    Format(
        "AVIF",
        "AVIF",
        (".avif", ".avifs"),
        lambda head: head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"msf1"),
        avif.examine,
    ),
)


def _decodable(name: str) -> bool:
    """Whether the installed Pillow was built with what a format needs; only two are often left out."""
    if name == "JPEG2000":
        return hasattr(Image.core, "jpeg2k_decoder")
    return name != "AVIF" or importlib.util.find_spec("PIL._avif") is not None


FORMATS = tuple(entry for entry in _KNOWN if _decodable(entry.name))
IMAGE_SUFFIXES = frozenset(suffix for entry in FORMATS for suffix in entry.suffixes)
_TITLES = list(dict.fromkeys(title for entry in FORMATS for title in entry.title.split(" or ")))
TITLES = f"{', '.join(_TITLES[:-1])} or {_TITLES[-1]}"


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an image file; hidden files are none, the suffix's case does not matter."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def format_of(file: BinaryIO) -> Format | None:
    """The format of a file, by its first bytes; None where it is none of those that are read.

    Raises UnfitError for a format that only this installation cannot read.
    """
    file.seek(0)
    head = file.read(HEAD)
    found = next((entry for entry in _KNOWN if entry.begins(head)), None)
    if found is not None and found not in FORMATS:
        raise UnfitError(
            f"a {found.title} image, which the installed Pillow does not read; install another or convert it"
        )
    return found
