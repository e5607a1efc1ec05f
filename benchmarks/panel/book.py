"""The CSV file of all runs: one row each, written at once, so that an interruption loses none."""

import csv
import fcntl
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Run:
    """One row: where it comes from and what was measured; None where there is nothing to measure.

    Attributes:
        images: tested.
        promised: the false-alarm rate that the method's threshold promises.
        detection: share of defective images found at that rate.
        alarms_01, alarms_05, alarms_10: share of good test images with p-values up to 0.01, 0.05 and 0.1.
        fit_s: seconds from the folder to the fitted method, one thread.
        memory_mb: the most that the process held until then.
        image_ms: processor time of one image from pixels at network size to the map, the median.
        model_mb: what scoring needs.
    """

    commit: str
    seed: int
    set: str
    method: str
    protocol: str
    images: int
    image_auroc: float
    pixel_auroc: float | None = None
    aupro: float | None = None
    promised: float | None = None
    detection: float | None = None
    alarms_01: float | None = None
    alarms_05: float | None = None
    alarms_10: float | None = None
    fit_s: float | None = None
    memory_mb: float | None = None
    image_ms: float | None = None
    model_mb: float | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is a run of: the last row of a key counts."""
        return self.set, self.method, self.protocol, self.seed

    @classmethod
    def read(cls, row: dict[str, str]) -> Self:
        """A run from a row of the file."""
        values = {name: _parse(name, text) for name, text in row.items()}
        return cls(**values)

    def words(self) -> str:
        """The run in a line for whoever waits."""
        shares = (self.image_auroc, self.pixel_auroc, self.aupro)
        figures = " / ".join(f"{share:.3f}" for share in shares if share is not None)
        return f"{self.set}, {self.method}, {self.protocol}, seed {self.seed}: {figures}; {self.fit_s:.0f} s"

    def texts(self) -> list[str]:
        """The row's cells."""
        return ["" if value is None else _text(value) for value in asdict(self).values()]


COLUMNS = [field.name for field in fields(Run)]


def read_runs(file: Path) -> dict[tuple[str, str, str, int], Run]:
    """The last run of every key; none where there is no file yet."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as lines:
        runs = [Run.read(row) for row in csv.DictReader(lines)]
    return {run.key: run for run in runs}


def add_runs(file: Path, runs: Iterable[Run]) -> None:
    """Appends rows, and the header to an empty file; several processes may do so."""
    with file.open("a", newline="", encoding="utf-8") as lines:
        fcntl.flock(lines, fcntl.LOCK_EX)
        writer = csv.writer(lines, lineterminator="\n")
        lines.seek(0, 2)
        if not lines.tell():
            writer.writerow(COLUMNS)
        writer.writerows(run.texts() for run in runs)


def _parse(name: str, text: str) -> str | int | float | None:
    if name in ("commit", "set", "method", "protocol"):
        return text
    if name in ("seed", "images"):
        return int(text)
    return float(text) if text else None


def _text(value: str | int | float) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
