"""What a prediction left in its folder."""

import csv
import os
from pathlib import Path, PurePosixPath

from blemish.prediction.outputs import PictureNames


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "scores.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def picture_names(paths: list[str], suffix: str) -> list[PurePosixPath]:
    """What the pictures of these images are called."""
    names = PictureNames(os.path.commonpath([os.path.dirname(path) for path in paths]), set(paths).__contains__)
    return [names.name(path, suffix) for path in paths]
