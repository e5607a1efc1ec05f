"""Recognises files that Blemish has written, so that pictures of results are not scored or trained on.

A folder of pictures is recognised by the files beside it, and each picture by a signature near its beginning, wherever
it is moved. Pictures without a signature, of early releases, are recognised by the files alone.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from blemish.errors import BlemishError
from blemish.imaging.outputs import same_file
from blemish.io.text import printable

HEATMAPS, MAPS = "heatmaps", "maps"  # folders of pictures in the folder of a run
TABLES, REGIONS, JOURNAL = ("scores.csv", "scores.parquet"), "regions.json", ".unfinished.sqlite"
SIGNATURE = "Result of Blemish"  # in the field for the software, of PNG and TIFF

_HEADER = b"path,score,p_value,verdict"  # of scores.csv
_DEMO = ("README.txt", b"Blemish demo set")
_SIGNED = frozenset({".png", ".tif", ".tiff"})
_BEGINNING = 1024  # bytes of a picture that hold the signature
_MAX_KNOWN = 100_000  # folders in memory


class Results:
    """Tells the pictures of earlier runs from photographs, and counts those left out."""

    def __init__(self) -> None:
        """Begins with none."""
        self._storage: Any = None
        self._known: dict[tuple[str, str | None], str | None] = {}
        self._signed: dict[str, bool] = {}  # whether the first picture of a folder is
        self._left_out: Counter[str] = Counter()

    def of_storage(self, storage: Any) -> "Results":
        """The same for paths in an fsspec file system; both count together."""
        results = Results()
        results._storage, results._left_out = storage, self._left_out
        return results

    @property
    def number(self) -> int:
        """Images left out so far."""
        return self._left_out.total()

    def leaves_out(self, image: str, *, top: str | None = None) -> bool:
        """Whether Blemish wrote this image; it is counted then.

        ``top`` is the folder in which it was found, if it was: a demo set further below is left out, too, though one
        that is named itself is a set like any other.
        """
        folder = os.path.dirname(image)
        key = (folder, top)
        if key not in self._known:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
                self._signed.clear()
            self._known[key] = self._holder(folder, top)
        found = self._known[key]
        if found is None and (self._is_signed(image) or (_is_table(image) and self._is_run(folder))):
            found = folder
        if found is None:
            return False
        self._left_out[found] += 1
        return True

    def _is_signed(self, image: str) -> bool:
        """Whether the picture says so itself; where the first one of its folder does not, none is asked again."""
        folder, name = os.path.split(image)
        if self._storage is not None or not self._signed.get(folder, True):
            return False
        if os.path.splitext(name)[1].lower() not in _SIGNED:
            return False
        signed = SIGNATURE.encode() in _beginning(image, _BEGINNING)
        self._signed.setdefault(folder, signed)
        return signed

    def sentence(self) -> str | None:
        """How many images were left out and why; None where none was."""
        if not self.number:
            return None
        names = [printable(name) for name in sorted(self._left_out)]
        more = f" and {len(names) - 3:,} more folders" if len(names) > 3 else ""
        return (
            f"{self.number:,} image{'s' * (self.number > 1)} left out, results of Blemish: {', '.join(names[:3])}{more}"
        )

    def _holder(self, folder: str, top: str | None) -> str | None:
        """The folder of results that a folder is or lies in, as it is to be shown."""
        if self._storage is not None:
            place = PurePosixPath(folder)
            # Every question is a request: only names that say so are asked about.
            above = [str(folder) for folder in (place, *place.parents) if {HEATMAPS, MAPS} & set(folder.parts)]
            return next((self._storage.unstrip_protocol(each) for each in above if self._is_written(each)), None)
        here = Path(os.path.abspath(folder))
        for parent in map(str, (here, *here.parents)):
            if self._is_written(parent) or (top is not None and _is_demo(parent, top)):
                return parent if os.path.isabs(folder) else os.path.relpath(parent)
        return None

    def _exists(self, path: str) -> bool:
        if self._storage is None:
            return os.path.exists(path)
        try:
            return bool(self._storage.exists(path))
        except Exception:  # every storage library has exceptions of its own; reading the image will tell
            return False

    def _is_written(self, folder: str) -> bool:
        parent, name = os.path.split(folder)
        return name in (HEATMAPS, MAPS) and self._is_run(parent)

    def _is_run(self, folder: str) -> bool:
        """Whether a run wrote into this folder, or is about to."""
        tables = [name for name in TABLES if self._exists(os.path.join(folder, name))]
        if tables and self._exists(os.path.join(folder, REGIONS)):
            return True
        if self._exists(os.path.join(folder, JOURNAL)):
            return True
        return self._storage is None and _begins(os.path.join(folder, TABLES[0]), _HEADER)


def without_results(root: Path, images: Iterable[PurePosixPath]) -> tuple[list[PurePosixPath], str | None]:
    """Of the images below `root`, relative to it, those that Blemish has not written; and a sentence on the others."""
    results, top = Results(), os.fspath(root)
    kept = [image for image in images if not results.leaves_out(os.path.join(top, image), top=top)]
    return kept, results.sentence()


def check_only_results(folder: Path) -> None:
    """Raises BlemishError where a folder for pictures of results holds files, and no run wrote them."""
    if not folder.is_dir():
        return
    # By its real place: a link from a folder of results to photographs makes no results of them.
    place, results = os.path.realpath(folder), Results()
    files = (os.path.join(below, name) for below, _, names in os.walk(place) for name in names)
    visible = (file for file in files if not os.path.basename(file).startswith(".") and not file.endswith("Thumbs.db"))
    held = next(visible, None)  # results fill a folder alone: the first tells of the others
    if held is not None and not held.endswith(".npy") and not results.leaves_out(held):
        raise BlemishError(
            f"{printable(folder)} holds {printable(os.path.basename(held))}, which is no result of Blemish and might "
            "be replaced; choose another folder for the results"
        )


def check_own_table(out: Path, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raises BlemishError where the table or regions of a run in `out` would replace an input, or a table of others."""
    for name in (*TABLES, REGIONS, JOURNAL):
        if any(same_file(out / name, given) for given in inputs):
            raise BlemishError(
                f"{printable(out / name)} is an input and would be replaced; choose another folder for the results"
            )
    table = out / TABLES[0]
    if table.is_file() and table.stat().st_size and not _begins(os.fspath(table), _HEADER):
        raise BlemishError(
            f"{printable(table)} is no table of Blemish and would be replaced; choose another folder for the results"
        )


def _is_table(image: str) -> bool:
    return PurePath(image).name in (*TABLES, REGIONS)


def _is_demo(folder: str, top: str) -> bool:
    """Whether a folder is a demo set and lies in another one than that which is searched."""
    try:
        below = PurePath(folder).relative_to(os.path.abspath(top)).parts
    except ValueError:
        return False
    name, start = _DEMO
    return len(below) > 1 and _begins(os.path.join(folder, name), start)


def _begins(file: str, start: bytes) -> bool:
    return _beginning(file, len(start)) == start


def _beginning(file: str, size: int) -> bytes:
    try:
        if not os.path.isfile(file):  # a named pipe would wait for ever
            return b""
        with open(file, "rb") as opened:
            return opened.read(size)
    except (OSError, ValueError):
        return b""
