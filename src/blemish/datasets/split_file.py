"""VisA's list of images, split_csv/1cls.csv: what is trained on and tested, what is anomalous, and its mask."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.datasets.families import Reading
from blemish.datasets.mask_pairs import Labelled
from blemish.datasets.names import fold, is_bad, is_good, natural_key, split_word
from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import list_some, printable

SPLIT_FILE = "1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")


@dataclass(frozen=True)
class _Row:
    """One image of the list; paths are below the folder of the data set that is read."""

    subject: str
    split: str
    label: str
    image: PurePosixPath
    mask: PurePosixPath | None
    line: int


def read_split_file(root: Path, images: Sequence[PurePosixPath], object_name: str | None) -> Reading | None:
    """Reads the list in the folder, or beside it for the folder of one object.

    Args:
        root: the folder.
        images: all its images, masks among them.
        object_name: the object to use, where the list has several.

    Returns:
        Splits, labels and masks; None where there is no list, or none of its images is in the folder.

    Raises:
        BlemishError: the list is damaged, or has several objects and none was named.
    """
    stored = {fold(image): image for image in images}
    inside = next((file for file in (root / "split_csv" / SPLIT_FILE, root / SPLIT_FILE) if file.is_file()), None)
    if inside:
        rows = _read(inside, below=None)
        if not any(fold(row.image) in stored for row in rows):
            return None
        chosen = _choose(root, rows, object_name)
        return _reading(inside, rows, chosen, stored)
    own = root.resolve()
    beside = own.parent / "split_csv" / SPLIT_FILE
    if object_name is None and beside.is_file():
        rows = [row for row in _read(beside, below=own.name) if row.subject == own.name]
        if any(fold(row.image) in stored for row in rows):
            return _reading(beside, rows, None, stored)
    return None


def _reading(file: Path, rows: Sequence[_Row], chosen: str | None, stored: Mapping[str, PurePosixPath]) -> Reading:
    labelled, given, missing, aside = [], {}, [], set()
    for row in rows:
        image = stored.get(fold(row.image))
        mask = stored.get(fold(row.mask)) if row.mask else None
        if chosen is not None and row.subject != chosen:
            aside |= {file for file in (image, mask) if file}
            continue
        missing += [named for named, found in ((row.image, image), (row.mask, mask)) if named and not found]
        if image is None:
            continue
        split = split_word(row.split)
        if split not in ("train", "test"):
            raise BlemishError(
                f"{printable(file)}, line {row.line}: the split is {printable(row.split) or 'empty'}; it must be "
                "train or test"
            )
        labelled.append(Labelled(image, split, _defect(row, image)))
        if mask is not None:
            given[image] = (mask,)
    labelled.sort(key=lambda one: natural_key(one.image))
    note = f"splits, labels and masks are those of {printable(file.name)}"
    return Reading("visa", labelled, chosen, notes=(note,), aside=frozenset(aside), given=given, missing=tuple(missing))


def _defect(row: _Row, image: PurePosixPath) -> str | None:
    if is_good(row.label):
        return None
    return image.parent.name if is_bad(image.parent.name) else row.label


def _choose(root: Path, rows: Sequence[_Row], object_name: str | None) -> str | None:
    objects = sorted({row.subject for row in rows})
    if object_name is None and len(objects) == 1:
        return None
    if object_name not in objects:
        fault = "several objects in it" if object_name is None else f"no object {printable(object_name)} in it"
        raise BlemishError(f"{printable(root)}: {fault}; name one with --nominal-class NAME, of {_listed(objects)}")
    return object_name


def _listed(objects: Sequence[str]) -> str:
    return list_some(objects, limit=20)


def _read(file: Path, *, below: str | None) -> list[_Row]:
    """The rows; `below` is an object's folder that paths are made relative to."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            lacking = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
            if lacking:
                raise BlemishError(
                    f"{printable(file)}: no column {', '.join(lacking)}; its first line must be {','.join(_COLUMNS)}"
                )
            rows = ({name: text or "" for name, text in row.items() if name} for row in table)
            return [_row(row, table.line_num, below) for row in rows]
    except OSError as error:
        raise BlemishError(f"{printable(file)}: {read_fault(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BlemishError(f"{printable(file)}: no CSV table in UTF-8; save it as one, or move it away") from error


def _row(row: Mapping[str, str], line: int, below: str | None) -> _Row:
    def path(column: str) -> PurePosixPath | None:
        text = row[column].strip().replace("\\", "/")
        if not text:
            return None
        parts = PurePosixPath(text).parts
        return PurePosixPath(*(parts[1:] if below is not None and parts[0] == below else parts))

    return _Row(row["object"].strip(), row["split"], row["label"], path("image") or PurePosixPath(), path("mask"), line)
