"""Expands paths, folders, patterns, lists and URLs into the names of images, one after another."""

import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any, BinaryIO

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.formats import is_image_name
from blemish.imaging.frames import Frame, frame_name
from blemish.imaging.opening import count_frames
from blemish.imaging.results import HEATMAPS, MAPS, Results
from blemish.imaging.sources import each_path
from blemish.io.files import read_fault
from blemish.io.storage import is_url, open_storage
from blemish.io.text import list_some, printable

_LONGEST_LINE = 65536


def find_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, results: Results | None = None
) -> Iterator[str]:
    """The images that paths, folders, patterns and URLs stand for, in natural order within a folder.

    A file given by name is taken whatever its suffix, and even if it does not exist: scoring reports it as unreadable.
    So are a pattern without a match and a folder that cannot be listed, if there are other images. A file that is named
    twice comes twice. Results of Blemish are left out, however they were named, and counted in `results`. Memory holds
    the names of one folder. One path may be given without a list around it.

    Raises:
        BlemishError: there is no image.
    """
    results = results or Results()
    given: list[str] = []  # for the error message, so only until an image is found
    unmatched: list[str] = []  # patterns without a match, which become unreadable images
    found = False
    for path in each_path(paths):
        if not found:
            given.append(path)
        left_out, matched = results.number, False
        for image in _expand_url(path, results) if is_url(path) else _expand(path, results):
            found = matched = True
            yield from unmatched
            unmatched.clear()
            yield image
        if not matched and results.number == left_out and glob.has_magic(path) and not os.path.isdir(path):
            unmatched.append(path)
    if found:
        yield from unmatched
    if not found:
        known = f" ({sentence})" if (sentence := results.sentence()) else ""
        raise BlemishError(
            f"no image in {list_some(given) or 'nothing'}{known}; give image files or folders that hold some"
        )


def each_frame(images: Iterable[str]) -> Iterator[str]:
    """The names of all frames of image files, see `imaging.frames`; their headers are read.

    A file that cannot be read keeps its name, and frames beyond the last counted one share a name: reading says why.
    """
    for image in images:
        try:
            frames, complete = count_frames(image)
        except ImageError:
            frames, complete = 1, True
        for number in range(1, frames + (1 if complete else 2)):
            yield frame_name(Frame(image, number), frames)


def read_list(file: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a text file, or of standard input for "-"; empty ones are left out. Raises BlemishError.

    A list with null characters, as `find -print0` writes, is split at these alone: names may then hold line breaks.
    """
    name = os.fspath(file)
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as lines:
            start = lines.read(_LONGEST_LINE)  # no path is longer, so a null character shows up in it
            parted = _by_null(start, lines) if b"\0" in start else _by_line(start, lines)
            for part in parted:
                if part:
                    yield os.fsdecode(part)
    except OSError as error:
        raise BlemishError(f"{printable(name)}: {read_fault(error)}; give a text file with one path a line") from error


def _by_line(start: bytes, lines: BinaryIO) -> Iterator[bytes]:
    whole = io.BytesIO(start + lines.readline())
    for line in chain(whole, lines):
        yield line.rstrip(b"\r\n")


def _by_null(rest: bytes, file: BinaryIO) -> Iterator[bytes]:
    while rest:
        *parts, rest = rest.split(b"\0")
        yield from parts
        more = file.read(_LONGEST_LINE)
        if not more:
            yield rest
            return
        rest += more


def natural_order(path: str) -> str:
    """Sort key with the order of `layouts.natural_key`, in a tenth of its memory: a folder may hold a million names."""
    return "".join(_part_order(part) for part in path.split("/"))


def _part_order(part: str) -> str:
    # "\0" ends a text and a part, since no name holds it; a number is preceded by its number of digits.
    pieces = re.split(r"(\d+)", part)
    numbers = [str(int(digits)) for digits in pieces[1::2]] + [""]
    texts = [text.casefold() for text in pieces[::2]]
    return (
        "".join(
            f"{text}\0{chr(len(number)) if number else ''}{number}" for text, number in zip(texts, numbers, strict=True)
        )
        + "\0"
    )


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(sorted(names), key=natural_order)


def _expand(path: str, results: Results) -> Iterator[str]:
    if os.path.isdir(path):
        yield from _walk(path, results)
    elif os.path.lexists(path) or not glob.has_magic(path):
        if not results.leaves_out(path):
            yield path
    else:  # a pattern that the shell has left as it is, as Windows does
        for match in _sorted(glob.iglob(path, recursive=True)):
            if os.path.isdir(match):
                yield from _walk(match, results)
            elif is_image_name(match) and not results.leaves_out(match):
                yield match


def _walk(top: str, results: Results) -> Iterator[str]:
    """Every image below a folder; hidden folders are skipped, links followed, no folder is entered twice.

    A folder that cannot be listed comes as an image that cannot be read.
    """
    entered: set[str] = set()
    closed: list[str] = []
    for folder, subfolders, names in os.walk(
        top, followlinks=True, onerror=lambda error: closed.append(error.filename)
    ):
        yield from closed
        closed.clear()
        entered.add(os.path.realpath(folder))
        subfolders[:] = [
            name
            for name in _sorted(name for name in subfolders if not name.startswith("."))
            if os.path.realpath(os.path.join(folder, name)) not in entered
        ]
        for name in _sorted(filter(is_image_name, names)):
            image = os.path.join(folder, name)
            if not results.leaves_out(image, top=top):
                yield image
    yield from closed


def _expand_url(url: str, results: Results) -> Iterator[str]:
    if is_image_name(url) and not glob.has_magic(url) and not {HEATMAPS, MAPS} & set(url.split("/")):
        yield url  # asking the storage about every line of a long list would take longer than reading the images
        return
    storage, path = open_storage(url)
    results = results.of_storage(storage)
    try:
        if not glob.has_magic(path):
            if storage.isdir(path):
                yield from _walk_storage(storage, path, results)
            elif not results.leaves_out(path):
                yield url
            return
        for match in _sorted(storage.glob(path)):
            if storage.isdir(match):
                yield from _walk_storage(storage, match, results)
            elif is_image_name(match) and not results.leaves_out(match):
                yield storage.unstrip_protocol(match)
    except BlemishError:
        raise
    except Exception as error:  # every storage library has exceptions of its own
        raise BlemishError(f"{printable(url)}: cannot be listed ({type(error).__name__}: {error})") from error


def _walk_storage(storage: Any, top: str, results: Results) -> Iterator[str]:
    for folder, subfolders, names in storage.walk(top):
        subfolders[:] = _sorted(name for name in subfolders if not name.startswith("."))
        for name in _sorted(filter(is_image_name, names)):
            if not results.leaves_out(f"{folder}/{name}"):
                yield storage.unstrip_protocol(f"{folder}/{name}")
