"""Groups of good images: several photographs of one part, which are all used for training or all for calibration.

A calibration image represents new images because the model was not fitted to it. Where the model was fitted to another
photograph of the same part, the image scores too low, and new parts raise more false alarms than the rate asked.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.io.arguments import shown
from blemish.io.files import read_fault
from blemish.io.text import counted, list_some, one_line, printable

COLUMNS = ["path", "group"]
# Ways in which names usually say what belongs together, in doctor's words; the path ends in a suffix.
PATTERNS = (
    r"(?:^|/)([^/\d]*\d+)[^/]*$",  # 10.jpg, 10_0.jpg: up to the first number
    r"([^/]+)[ _.-][^/ _.-]+\.[^/.]+$",  # lot3-part7-left.png, lot3-part7-right.png: all but the last word
    r"(\d+)[^/\d]*\.[^/.]+$",  # left_007.png, right_007.png: the last number
    r"([^/]+)/[^/]+$",  # part7/left.png, part7/right.png: the folder
)
MAX_GROUP_SHARE = 0.5  # of the images in one group, for a pattern that doctor suggests
MIN_PAIRS_TOGETHER = 0.9  # share of near duplicates within one group, for such a pattern


@dataclass(frozen=True)
class Grouping:
    """The group of each good image.

    Attributes:
        by: the pattern, or the name of the file.
        groups: the group of each path below the data folder; a path that is absent is a group of its own.
    """

    by: str
    groups: Mapping[str, str]

    @classmethod
    def read(cls, given: str | PathLike[str], *, good: Iterable[Path], every: Iterable[Path], root: Path) -> "Grouping":
        """Reads --groups: a CSV file where it is a path or its name ends so, otherwise a pattern for `re.search`.

        Args:
            given: the pattern or the file, of columns path and group. Of a match its first group counts, or all of it.
            good: files of the good training images.
            every: files that the table may name: all of the data set.
            root: the data folder, below which paths count.

        Raises:
            BlemishError: the pattern is none or matches no good image, the file cannot be read, is damaged or names
                images twice, that are not there, or no good one; or all good images are in one group.
        """
        names = [below(path, root) for path in good]
        if isinstance(given, PathLike) or (isinstance(given, str) and given.lower().endswith(".csv")):
            file = Path(fspath(given))
            groups = _of_table(file, {below(path, root) for path in every})
            by, fault = file.name, f"{printable(file)} names no good training image"
        elif isinstance(given, str) and given:
            groups = _of_pattern(given, names)
            by, fault = given, f"no good training image's path matches the pattern of groups {shown(given)}"
        else:
            raise BlemishError(f"groups must be a pattern or a CSV file, not {shown(given)}")
        groups = {name: groups[name] for name in names if name in groups}
        if names and not groups:
            raise BlemishError(f"{fault}: paths look like {list_some(names, limit=1).partition(' and ')[0]}")
        if len(groups) == len(names) and len(set(groups.values())) == 1:
            raise BlemishError(f"all {counted(len(names), 'good training image')} are one group by {one_line(by)}")
        return cls(by, groups)

    def of(self, paths: Sequence[Path], root: Path) -> list[Hashable]:
        """The group of each image; one without any has a group of its own."""
        names = [below(path, root) for path in paths]
        return [(self.groups[name],) if name in self.groups else name for name in names]

    def statement(self, paths: Sequence[Path], root: Path) -> str:
        """In one sentence, how many groups there are and which images are alone."""
        groups = self.of(paths, root)
        alone = [name for name in (below(path, root) for path in paths) if name not in self.groups]
        said = f"{counted(len(paths), 'good image')} in {counted(len(set(groups)), 'group')} by {one_line(self.by)}"
        if alone:
            said += f"; {counted(len(alone), 'image')} that it does not name count alone: {list_some(alone)}"
        return f"{said}; one image of each group that is held back calibrates"

    def as_record(self, paths: Sequence[Path], root: Path) -> dict[str, Any]:
        """What the model file says: by what, how many groups, and a digest of who is in which."""
        groups = self.of(paths, root)
        digest = sha256("\n".join(map(repr, groups)).encode("utf-8", "surrogateescape")).hexdigest()
        return {"by": self.by, "number": len(set(groups)), "fingerprint": digest}


def suggest(paths: Sequence[Path], root: Path, alike: Sequence[tuple[int, int]]) -> str | None:
    """The pattern of `PATTERNS` by which most pairs of images that are nearly the same are together; None if none is.

    Of several, the one that makes most groups. `alike` has the pairs, as indices into the paths.
    """
    names, found = [below(path, root) for path in paths], {}
    for pattern in PATTERNS:
        groups = _of_pattern(pattern, names)
        of_each = [groups.get(name, f"alone: {name}") for name in names]
        largest = max(Counter(of_each).values(), default=0)
        together = sum(of_each[first] == of_each[second] for first, second in alike)
        if largest <= MAX_GROUP_SHARE * len(names) and alike and together >= MIN_PAIRS_TOGETHER * len(alike):
            found[pattern] = len(set(of_each))
    return max(found, key=lambda pattern: found[pattern], default=None)


def below(path: Path, root: Path) -> str:
    """The path below the data folder, with slashes; the path itself where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _of_pattern(pattern: str, names: Iterable[str]) -> dict[str, str]:
    try:
        search: Callable[[str], re.Match[str] | None] = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        raise BlemishError(f"the pattern of groups {shown(pattern)} is no regular expression: {error}") from error
    found = {name: search(name) for name in names}
    texts = {name: match[1 if match.re.groups else 0] for name, match in found.items() if match}
    return {name: text for name, text in texts.items() if text}


def _of_table(file: Path, known: set[str]) -> dict[str, str]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = [(number, row) for number, row in enumerate(csv.reader(lines, strict=True), start=1) if row]
    except OSError as error:
        raise BlemishError(f"{printable(file)}: {read_fault(error)}") from error
    except (ValueError, csv.Error) as error:
        raise BlemishError(f"{printable(file)} is no CSV file in UTF-8: {error}") from error
    if not rows or [cell.strip().lower() for cell in rows[0][1]] != COLUMNS:
        raise BlemishError(f"{printable(file)}: its first line must be {','.join(COLUMNS)}")
    groups: dict[str, str] = {}
    for number, row in rows[1:]:
        where = f"{printable(file)}, row {number}"
        if len(row) != len(COLUMNS) or not all(cell.strip() for cell in row):
            raise BlemishError(f"{where}: it must have a path and a group")
        path, group = Path(row[0].strip()).as_posix(), row[1].strip()
        if path not in known:
            raise BlemishError(f"{where}: {printable(path)} is no image of the data; give its path below the folder")
        if path in groups:
            raise BlemishError(f"{where}: {printable(path)} is named a second time")
        groups[path] = group
    return groups
