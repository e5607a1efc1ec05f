"""All files below a folder."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import printable

# What operating systems and network drives leave behind: thumbnails, deleted files.
_LITTER = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx"})


@dataclass(frozen=True)
class Listing:
    """Files of a data set.

    Attributes:
        images: images in natural order, masks among them.
        others: other files.
        locate: where a file of either kind lies.
        results: sentences on images that Blemish wrote itself, which are in neither list.
    """

    images: Sequence[PurePosixPath]
    others: Sequence[PurePosixPath]
    locate: Callable[[PurePosixPath], Path]
    results: tuple[str, ...] = ()


def list_files(folder: Path) -> list[PurePosixPath]:
    """Every file below `folder`; hidden folders and litter are skipped, links followed unless they lead back up.

    Raises BlemishError where a folder cannot be read.
    """
    return _walk(folder, PurePosixPath(), frozenset())


def _walk(folder: Path, relative: PurePosixPath, above: frozenset[Path]) -> list[PurePosixPath]:
    resolved = folder.resolve()
    if resolved in above:
        return []
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise BlemishError(f"{printable(folder)}: {read_fault(error)}; give a folder that can be read") from error
    files = []
    for entry in entries:
        if entry.is_dir():
            if not entry.name.startswith(".") and entry.name.casefold() not in _LITTER:
                files += _walk(folder / entry.name, relative / entry.name, above | {resolved})
        elif entry.is_file() or entry.is_symlink():  # a broken link is an image that doctor must report
            files.append(relative / entry.name)
    return files
