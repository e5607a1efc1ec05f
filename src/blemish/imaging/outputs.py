"""Which file an output may replace: a file of its own kind that the same command does not read."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from blemish.errors import BlemishError
from blemish.imaging.formats import IMAGE_SUFFIXES
from blemish.io.storage import is_url
from blemish.io.text import printable

Input = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Kind:
    """A kind of output: in words, the suffixes of its names, and the bytes that such a file begins with."""

    words: str
    suffixes: tuple[str, ...]
    begins: bytes


MODEL = Kind("a model file", (".onnx",), b"\x08")  # the field of ONNX's version, which comes first
PAGE = Kind("a page", (".html", ".htm"), b"<!doctype html")

# A folder may have any name, such as 2026.11.28; these are the names of files.
_OF_FILES = {*IMAGE_SUFFIXES, *MODEL.suffixes, *PAGE.suffixes, ".csv", ".parquet", ".json", ".txt", ".pdf", ".xlsx"}


def check_overwriting(output: str | os.PathLike[str], inputs: Iterable[Input] = (), *, kind: Kind) -> None:
    """Refuses an output whose writing would lose something else.

    That is where it is one of the inputs, be it by a link, a second name or in other letters on a disk that does not
    tell them apart; where its name, or that of the file behind a link, has the suffix of another kind; and where it
    has no suffix and a file of another kind is there. An existing file of the same kind may be replaced.

    Args:
        output: the file to be written.
        inputs: files and folders that are read; None and URLs are passed over.
        kind: what is to be written.

    Raises:
        BlemishError: in one sentence.
    """
    if os.path.isdir(output):
        return  # writing will say so
    if _is_one_of(output, inputs):
        _refuse(output, "it is an input of this command; name another file")
    suffix = Path(output).suffix.lower()
    wanted = " or ".join(kind.suffixes)
    if suffix and suffix not in kind.suffixes:
        _refuse(output, f"the name of {kind.words} ends in {wanted}; give it such a name")
    if not os.path.isfile(output):
        return
    behind = Path(os.path.realpath(output))
    if behind.suffix and behind.suffix.lower() not in kind.suffixes:
        _refuse(output, f"it is a link to {printable(behind)}, which is not {kind.words}; name another file")
    if not behind.suffix and not _is_of(behind, kind):
        _refuse(output, f"the file that is there is not {kind.words}; give it a name that ends in {wanted}")


def check_folder_name(folder: str | os.PathLike[str]) -> None:
    """Raises BlemishError where results are to go into a folder that does not exist and is named as a file."""
    suffix = Path(folder).suffix.lower()
    if suffix in _OF_FILES and not os.path.exists(folder):
        raise BlemishError(
            f"{printable(folder)} ends in {suffix}, as a file does, but is to be a folder for the results; "
            "name it without"
        )


def same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether both names lead to one file; a name without a file leads to none."""
    try:
        return os.path.samefile(first, second)
    except (OSError, ValueError):
        return False


def _is_one_of(output: str | os.PathLike[str], inputs: Iterable[Input]) -> bool:
    try:
        status = os.stat(output)
    except (OSError, ValueError):
        return False  # not there, so nothing is lost
    # A file with one name that is no link can only be found in a folder by that name, and its suffix tells.
    alone = status.st_nlink == 1 and not os.path.islink(output)
    files = (file for given in inputs if given is not None for file in _files(os.fspath(given), whole=not alone))
    return any(same_file(output, file) for file in files)


def _files(given: str, *, whole: bool) -> Iterator[str]:
    if is_url(given):
        return
    if not os.path.isdir(given):
        yield given
    elif whole:
        yield from (os.path.join(folder, name) for folder, _, names in os.walk(given) for name in names)


def _is_of(file: Path, kind: Kind) -> bool:
    try:
        with open(file, "rb") as opened:
            start = opened.read(4096).lstrip()
    except OSError:
        return True  # writing will say so
    return start[: len(kind.begins)].lower() == kind.begins or not start


def _refuse(output: str | os.PathLike[str], fault: str) -> NoReturn:
    raise BlemishError(f"cannot write {printable(output)}: {fault}")
