"""Opening an image by its path, URL or frame: its headers are read, nothing is decoded."""

import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from blemish.imaging.decoding import FrameFile, Opened
from blemish.imaging.errors import ImageError, decoding_errors
from blemish.imaging.frames import Frame
from blemish.imaging.types import ImagePath
from blemish.io.files import read_fault
from blemish.io.storage import is_url, read_bytes
from blemish.io.text import printable

_MAX_KEPT = 16  # open files


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
    key = _key(path) if isinstance(source, Frame) else None
    opened = _kept_files.take(key, number) or _open_file(path, name)
    try:
        with decoding_errors(name, byte_count=opened.byte_count):
            opened.frames = opened.frames or FrameFile(opened.file)
            yield opened.frames.open(number), name
    except BaseException:
        opened.file.close()
        raise
    if not _kept_files.give_back(key, opened):
        opened.file.close()


@contextmanager
def frames_kept_open() -> Iterator[None]:
    """Inside the block, files of which frames are read stay open, so that the next frame goes on from the last one.

    Without it, every frame is decoded from the beginning of its file, which takes a time that is quadratic in the
    number of frames. It holds for all threads of the process; at most 16 files are open at a time.
    """
    with _kept_files:
        yield


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


_Key = tuple[str, int, int]  # path, size, time of change


@dataclass(eq=False)
class _OpenFile:
    file: BinaryIO
    byte_count: int
    frames: FrameFile | None = None  # once its headers are read

    @property
    def position(self) -> int:
        """The frame that was opened last."""
        return 0 if self.frames is None else self.frames.position


class _KeptFiles:
    """Open files between one frame and the next, while at least one block keeps them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._files: list[tuple[_Key, _OpenFile]] = []  # the one used last comes last

    def __enter__(self) -> None:
        with self._lock:
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            left, self._files = (self._files, []) if self._blocks == 0 else ([], self._files)
        for _, opened in left:
            opened.file.close()

    def take(self, key: _Key | None, frame: int) -> _OpenFile | None:
        """Of the open files of this path, the one that stands nearest before a frame; None where there is none."""
        with self._lock:
            before = [entry for entry in self._files if entry[0] == key and entry[1].position < frame]
            if not before:
                return None
            nearest = max(before, key=lambda entry: entry[1].position)
            self._files.remove(nearest)
            return nearest[1]

    def give_back(self, key: _Key | None, opened: _OpenFile) -> bool:
        """Keeps a file for the next frame, and closes the one that was not used for longest; False: it is not kept."""
        oldest = None
        with self._lock:
            if key is None or not self._blocks:
                return False
            self._files.append((key, opened))
            if len(self._files) > _MAX_KEPT:
                oldest = self._files.pop(0)
        if oldest is not None:
            oldest[1].file.close()
        return True


_kept_files = _KeptFiles()


def _key(path: ImagePath | bytes) -> _Key:
    """A path with the size and the time of its last change, so that a changed file is opened afresh."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a URL, or gone
        return os.fsdecode(path), 0, 0
    return os.fsdecode(path), status.st_size, status.st_mtime_ns


def _open_file(path: ImagePath | bytes, name: str) -> _OpenFile:
    """A file that can be searched. Raises ImageError where it is empty or cannot be read."""
    file, byte_count = _open_url(os.fsdecode(path), name) if is_url(os.fsdecode(path)) else _open_path(path, name)
    if byte_count == 0:
        file.close()
        raise ImageError(f"{name}: empty (0 bytes)")
    return _OpenFile(file, byte_count)


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
