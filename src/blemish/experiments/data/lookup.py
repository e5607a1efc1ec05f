"""Finding the files of a data set, and saying where to get them."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from blemish.datasets.layouts import natural_key
from blemish.errors import BlemishError
from blemish.imaging.formats import is_image_name
from blemish.io.files import read_fault
from blemish.io.text import printable


def find(names: Sequence[str], folders: Sequence[Path], *, otherwise: str) -> Path:
    """The first of the names, files or folders alike, that one of the folders holds.

    Raises BlemishError where none does; `otherwise` says in it how to get the data and where to put them.
    """
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    places = " or ".join(printable(folder) for folder in folders)
    raise BlemishError(f"there is no {' or '.join(names)} in {places}; {otherwise}")


def class_folders(folder: Path) -> list[Path]:
    """The folders directly in this one, in natural order, hidden ones left out. Raises BlemishError."""
    try:
        inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        _refuse(error)
    return sorted(inner, key=lambda path: natural_key(PurePosixPath(path.name)))


def image_files(folder: Path) -> list[Path]:
    """Every image file below the folder, in natural order. Raises BlemishError where a folder cannot be read."""
    paths: list[Path] = []
    for parent, inner, names in os.walk(folder, onerror=_refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths += [Path(parent, name) for name in names if is_image_name(name)]
    return sorted(paths, key=lambda path: natural_key(PurePosixPath(path.relative_to(folder).as_posix())))


def _refuse(error: OSError) -> NoReturn:
    fault = "not a folder" if isinstance(error, NotADirectoryError) else read_fault(error)
    raise BlemishError(f"{printable(error.filename)}: {fault}; give a folder that can be read") from error
