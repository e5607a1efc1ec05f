"""The runs of an experiment on disk: one folder each, complete when it has its run.json."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.tasks import Task
from blemish.experiments.former_names import METHODS, MODES, former_name
from blemish.experiments.recipe import MethodName, Recipe
from blemish.experiments.results import Point, Result
from blemish.experiments.trial import checkpoint_in
from blemish.io.files import atomic_write
from blemish.io.text import printable

_LISTS = ("anomalous", "scores", "kinds", "curve")


@dataclass(frozen=True)
class Run:
    """One cell of an experiment; `variant` names the value of an ablation, and is empty elsewhere."""

    recipe: Recipe
    variant: str
    method: MethodName
    nominal_class: str
    seed: int

    def folder(self, output: Path) -> Path:
        """Where its results go, or already lie under the method's former name."""
        place = Path(file_name(self.nominal_class), self.variant, f"seed-{self.seed}")
        present, former = (output / "runs" / name / place for name in (self.method, former_name(self.method, METHODS)))
        return former if former.exists() and not present.exists() else present

    def __str__(self) -> str:
        return " ".join(filter(None, (self.method, self.nominal_class, self.variant, f"seed {self.seed}")))


def file_name(nominal_class: str) -> str:
    """A class' name as files and folders can bear it; no two classes have the same."""
    return nominal_class.replace("%", "%25").replace("/", "%2F")


def load_result(folder: Path, *, key: str) -> Result | None:
    """The result of a finished run; None where there is none, or it was made with other settings than `key`."""
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
        if record.pop("key") != key:
            return None
        with open(folder / "scores.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        record["method"] = METHODS.get(record["method"], record["method"])
        record["notes"] = {name: MODES.get(value, value) for name, value in record["notes"].items()}
        return Result(
            **record | {"curve": tuple(Point(**point) for point in record["curve"])},
            anomalous=np.array([row["anomalous"] == "1" for row in rows]),
            scores=np.array([row["score"] for row in rows], dtype=np.float32),
            kinds=tuple(row["kind"] for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of another version, or damaged: the run is made again


def _reopen(folder: Path) -> None:
    """Takes back that a run is finished, before its files are replaced: they would be taken for the former run's."""
    try:
        (folder / "run.json").unlink(missing_ok=True)
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
        raise BlemishError(f"cannot write into {printable(folder)}: {fault}; choose another folder") from error


def save_result(folder: Path, result: Result, *, key: str) -> None:
    """Writes scores.csv, curve.csv and run.json, in this order: a folder with a run.json is a finished run.

    Its checkpoint goes: nothing is left to resume.
    """
    _reopen(folder)
    images = zip(result.kinds, result.anomalous.astype(int), (repr(float(s)) for s in result.scores), strict=True)
    _write_rows(
        folder / "scores.csv",
        ("image", "kind", "anomalous", "score"),
        [(index, *row) for index, row in enumerate(images)],
    )
    names = [entry.name for entry in fields(Point)]
    _write_rows(folder / "curve.csv", names, [list(asdict(point).values()) for point in result.curve])
    record = {entry.name: getattr(result, entry.name) for entry in fields(Result) if entry.name not in _LISTS}
    record |= {"key": key, "curve": [asdict(point) for point in result.curve]}
    with atomic_write(folder / "run.json", mode="w") as file:
        json.dump(record, file, indent=2)
    checkpoint_in(folder, key=key).remove()


def save_pictured(
    folder: Path,
    task: Task,
    indices: Sequence[int],
    maps: NDArray[np.float32],
    *,
    visible: Callable[[Tensor], Tensor] = lambda image: image,
) -> None:
    """Writes heatmaps.npz: the images, heatmaps and masks of the test images that the pictures show.

    `visible` gives the part of a raw image (C, H, W) that its heatmap is of.
    """
    _reopen(folder)
    content: dict[str, Any] = {"indices": np.array(indices), "maps": maps}
    for position, index in enumerate(indices):
        content[f"image-{position}"] = visible(task.test.read(index)).permute(1, 2, 0).numpy()
        if task.masks is not None:
            content[f"mask-{position}"] = task.masks.read(index).numpy()
    with atomic_write(folder / "heatmaps.npz") as file:
        np.savez_compressed(file, **content)


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with atomic_write(path, mode="w") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
