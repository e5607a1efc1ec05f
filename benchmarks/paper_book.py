"""The CSV file of all runs of the paper's experiments: one row each."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class PaperRun:
    """One row: what was run, what was measured, and where; None where nothing is known.

    Attributes:
        experiment: name of the recipe.
        data: the data set.
        nominal_class: its nominal class, or the set in MVTec's layout.
        method: fcdd, hsc, autoencoder or gaussian.
        variant: the value of an ablation, or the share of training images with the watermark.
        network: its name, or that of the FCDD network that the baseline is compared with.
        anomalies: what it learned from beside nominal images.
        mode: paper or corrected.
        epochs: as run.
        draws: training images drawn in all epochs.
        image_auroc: for planted-cue, dogs against foreign photographs without watermarks.
        mass_without, mass_with: planted-cue: mean share of a test dog's heatmap in the watermark's box, without and
            with the watermark.
        auroc_with: planted-cue: dogs with the watermark against foreign photographs without it.
        auroc_watermark: planted-cue: foreign photographs with the watermark against the same without it.
        seconds: of training.
        commit: of the code; "before" for runs from before this file.
        notes: precision and whatever else a reader must know.
    """

    experiment: str
    data: str
    nominal_class: str
    method: str
    variant: str = ""
    network: str = ""
    anomalies: str = ""
    mode: str = "paper"
    seed: int = 0
    epochs: int | None = None
    draws: int | None = None
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    mass_without: float | None = None
    mass_with: float | None = None
    auroc_with: float | None = None
    auroc_watermark: float | None = None
    seconds: float | None = None
    commit: str = ""
    machine: str = ""
    notes: str = ""

    @property
    def key(self) -> Key:
        """What it is a run of: a later row of the same key replaces the former."""
        return tuple(getattr(self, name) for name in KEY)

    @classmethod
    def read(cls, row: dict[str, str]) -> Self:
        """A run from a row of the file."""
        values: dict[str, Any] = dict(row) | {"nominal_class": row["class"]}
        del values["class"]
        for name in ("seed", "epochs", "draws"):
            values[name] = int(values[name]) if values[name] else None
        for name in NUMBERS:
            values[name] = float(values[name]) if values[name] else None
        return cls(**values)

    def texts(self) -> list[str]:
        """The row's cells."""
        return [_text(value) for value in asdict(self).values()]


KEY = ("experiment", "data", "nominal_class", "method", "variant", "network", "anomalies", "mode", "seed", "epochs")
NUMBERS = ("image_auroc", "pixel_auroc", "mass_without", "mass_with", "auroc_with", "auroc_watermark", "seconds")
COLUMNS = ["class" if field.name == "nominal_class" else field.name for field in fields(PaperRun)]


def read_runs(file: Path) -> list[PaperRun]:
    """All runs of the file; none where there is no file yet."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [PaperRun.read(row) for row in csv.DictReader(lines)]


def add_runs(file: Path, runs: Iterable[PaperRun]) -> None:
    """Adds runs to the file, in place of those with the same keys; rows are in the order of their keys."""
    by_key = {run.key: run for run in (*read_runs(file), *runs)}
    rows = sorted(by_key.values(), key=lambda run: tuple(str(part) for part in run.key))
    with file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows([COLUMNS, *(run.texts() for run in rows)])


def _text(value: str | int | float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
