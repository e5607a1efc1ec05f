"""Bounds on what a decoder may be asked to do; a header is checked against them before anything is decoded.

The pixels of an image do not bound the work: a file of some kilobytes can ask for thousands of passes over them, for
a tile far larger than the image, or for millions of comments. No file of a camera or an editor comes near a bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from blemish.errors import BlemishError

MAX_PIXELS = 150_000_000  # 600 MB once decoded; a file of some kilobytes can claim more

MAX_FRAMES = 10_000  # beyond which frames are not counted
MAX_SCANS = 100  # of a JPEG: each is a pass over all its pixels; encoders make about ten
MAX_SCANNED = 2_000_000_000  # pixels in all scans of a JPEG together: thirteen scans of the largest image
MAX_EXIF_SEGMENTS = 64  # of a JPEG, of 64 KB each, which Pillow puts together one by one; encoders make one
MAX_CODED = 1 << 22  # bytes of a run-length-coded BMP, which Pillow decodes run by run in Python
MAX_SEGMENTS = 4_096  # of a JPEG's header
MAX_CHUNKS = 100_000  # of a PNG or WebP file; encoders make one of 8 KB or more
MAX_COMPRESSED_TEXTS = 256  # of a PNG, each with up to 1 MB once decompressed
MAX_BLOCKS = 100_000  # of a GIF's comments and extensions
MAX_JUNK = 65_536  # bytes that belong to nothing
MAX_TAGS = 4_096  # of a TIFF's page
MAX_PIECES = 100_000  # strips or tiles of a TIFF's page
MAX_TILES = 4_096  # of a JPEG 2000 image: each costs kilobytes beside its pixels
MAX_LAYERS = 256  # of a JPEG 2000 image
SMALL_PIXELS = 1 << 26  # tiles padded to so many pixels are no burden, however small the image
SMALL_BYTES = 1 << 26  # the same of a single tile's bytes


class UnfitError(BlemishError):
    """A file that is not decoded, and why: a sentence without the file's name, which whoever opened it knows."""


@dataclass(frozen=True)
class Contents:
    """What a file holds, by its headers alone.

    Attributes:
        frames: the numbers, as Pillow counts, of the pictures that are images of their own; the first is the image.
        complete: whether all were counted.
        index: where in a JPEG file offsets of further pictures count from; None where there are none.
        offsets: where each page of a TIFF begins, as far as pages were counted.
    """

    frames: Sequence[int] = range(1)
    complete: bool = True
    index: int | None = None
    offsets: Sequence[int] = ()


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises UnfitError for an image without pixels, or with more than `most`."""
    if width * height > most:
        raise UnfitError(f"{width * height:,} pixels, above the limit of {most:,}; shrink it or cut it into tiles")
    if width * height == 0:
        raise UnfitError(f"{height} x {width} pixels; an image has at least one")


def excess(what: str, most: int, way_out: str = "save it again with another program") -> UnfitError:
    """A file with more of something than `most`: "more than 100 scans"."""
    return UnfitError(f"more than {most:,} {what}, which no camera or editor writes; {way_out}")
