"""Opening an image by its path, URL or frame: its headers are read, nothing is decoded."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from blemish.imaging.decoding import Opened, open_image
from blemish.imaging.errors import ImageError, decoding_errors
from blemish.imaging.frames import Frame
from blemish.imaging.types import ImagePath
from blemish.io.files import read_fault
from blemish.io.storage import is_url, read_bytes
from blemish.io.text import printable


@contextmanager
def opened_image(path: ImagePath | bytes) -> Iterator[tuple[Image.Image, str]]:
    """The first frame of an image file, and the file's name; see `opened_frame`."""
    with opened_frame(path) as (opened, name):
        yield opened.image, name


@contextmanager
def opened_frame(source: ImagePath | bytes | Frame) -> Iterator[tuple[Opened, str]]:
    """An image of which the headers are read, and its name for sentences; an error in the block is one of the file.

    Raises ImageError.
    """
    path, number = (source.path, source.number) if isinstance(source, Frame) else (source, 1)
    name = printable(str(source) if isinstance(source, Frame) else source)
    with _opened_file(path, name) as (file, byte_count), decoding_errors(name, byte_count=byte_count):
        yield open_image(file, frame=number), name


def count_frames(path: ImagePath) -> tuple[int, bool]:
    """How many images a file holds, by its headers, and whether all were counted: 10,000 at most. Raises ImageError."""
    with opened_frame(path) as (opened, _):
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
def _opened_file(path: ImagePath | bytes, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file that can be searched, and its size in bytes. Raises ImageError where it is empty or cannot be read."""
    file, byte_count = _open_url(os.fsdecode(path), name) if is_url(os.fsdecode(path)) else _open_path(path, name)
    with file:
        if byte_count == 0:
            raise ImageError(f"{name}: empty (0 bytes)")
        yield file, byte_count


def _open_path(path: ImagePath | bytes, name: str) -> tuple[BinaryIO, int]:
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
