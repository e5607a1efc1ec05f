"""What goes wrong while an image is decoded, in one sentence that begins with the image's name."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.limits import MAX_PIXELS
from blemish.io.files import read_fault


class ImageError(BlemishError):
    """An image that cannot be used, said in one sentence that begins with its name."""


@contextmanager
def decoding_errors(name: str, *, byte_count: int | None) -> Iterator[None]:
    """Makes an ImageError of whatever is raised inside, and keeps Pillow's warnings off stderr.

    Args:
        name: of the image, with which the sentence begins.
        byte_count: the file's size, which a sentence on a truncated file names; None where it is not known.

    Raises:
        ImageError: for every exception inside.
    """
    try:
        with _quiet_pillow:
            yield
    except ImageError:
        raise
    except BlemishError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for this machine's memory; shrink it first") from error
    except Image.DecompressionBombError as error:  # Pillow gives the number of pixels only in its message
        count = re.search(r"\d+", str(error))
        raise ImageError(_too_many_pixels(name, int(count[0]) if count else MAX_PIXELS)) from error
    except Exception as error:  # on damaged files Pillow's parsers raise whatever they stumble over
        raise ImageError(f"{name}: {_decoding_fault(error, byte_count)}") from error


def check_pixel_count(image: Image.Image, name: str) -> None:
    """Raises ImageError for an image without pixels or with too many to be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(name, image.width * image.height))
    if image.width * image.height == 0:
        raise ImageError(f"{name}: {image.height} x {image.width} pixels; an image has at least one")


class _QuietPillow:
    """Ignores Pillow's warnings about odd files: what matters in them becomes an ImageError.

    Warning filters belong to the process and images are decoded in several threads, so the first thread that enters
    sets the filter and the last one that leaves restores the caller's filters.
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
