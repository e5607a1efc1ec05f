"""The diagnosis of a data set: its problems, what each split holds, and both as text and as JSON."""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from blemish.datasets.by_hand import Folders
from blemish.datasets.families import Layout
from blemish.datasets.network_size import SIDE
from blemish.io.text import counted, one_line, printable

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_TITLES: dict[Layout, str] = {
    "mvtec": "MVTec layout",
    "flat": "flat layout",
    "nominal-anomalous": "nominal/anomalous layout",
    "one-vs-rest": "one-versus-rest layout",
    "reference": "reference layout",
    "masks": "images whose masks say what is defective",
    "visa": "VisA layout",
    "named": "folders named by hand",
}


@dataclass(frozen=True)
class Problem:
    """A fault of the data: an "error" prevents training, a "warning" spoils a result, a "note" informs."""

    severity: Severity
    message: str
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds of files that can be read.

    Attributes:
        nominal: good images.
        defects: defective images by type.
        masks: their masks by type.
        description: colours and sizes in words.
        unreadable: images that cannot be read, which count nowhere else.
    """

    nominal: int
    defects: dict[str, int]
    masks: dict[str, int]
    description: str
    unreadable: int = 0

    @property
    def anomalous(self) -> int:
        """Images of all defects."""
        return sum(self.defects.values())

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the sums."""
        return {
            "images": self.nominal + self.anomalous,
            "nominal": self.nominal,
            "anomalous": self.anomalous,
            "defects": self.defects,
            "masks": self.masks,
            "description": self.description,
        }


@dataclass(frozen=True)
class Diagnosis:
    """The result of `examine`; `supervision` says in one line what training would learn from.

    `network_size` (height, width) is the one that training takes by itself.
    """

    root: Path
    layout: Layout
    nominal_class: str | None
    train: SplitSummary
    test: SplitSummary
    problems: tuple[Problem, ...]
    supervision: str
    folders: Folders = field(default_factory=Folders)
    network_size: tuple[int, int] = (SIDE, SIDE)

    @property
    def masks(self) -> dict[str, int]:
        """Masks of anomalous images, by split."""
        return {"train": sum(self.train.masks.values()), "test": sum(self.test.masks.values())}

    @property
    def ready(self) -> bool:
        """Whether nothing prevents training."""
        return not self._errors

    @property
    def command(self) -> str:
        """The command line that trains on this folder."""
        name = self.root.resolve().name or "detector"
        words = ["blemish", "train", *(self.folders.as_words() or [_as_folder(self.root)])]
        if self.nominal_class is not None:
            words += ["--nominal-class", self.nominal_class]
            name += f"-{self.nominal_class}"
        return shlex.join([*words, "-o", f"{name}.onnx"])

    def as_json(self) -> dict[str, Any]:
        """The whole diagnosis as JSON values."""
        return {
            "root": printable(self.root),
            "layout": self.layout,
            "nominal_class": self.nominal_class,
            "train": self.train.as_json(),
            "test": self.test.as_json(),
            "masks": self.masks,
            "unreadable": {"train": self.train.unreadable, "test": self.test.unreadable},
            "network_size": list(self.network_size),
            "problems": [
                {
                    "severity": problem.severity,
                    "message": problem.message,
                    "paths": [printable(path) for path in problem.paths],
                }
                for problem in self.problems
            ],
            "ready": self.ready,
            "supervision": self.supervision,
            "command": self.command if self.ready else None,
        }

    def as_text(self) -> str:
        """The whole diagnosis as a few lines to read."""
        title = f"{_as_folder(self.root)}  {_TITLES[self.layout]}"
        if self.nominal_class is not None:
            title += f", nominal class {self.nominal_class}"
        labelled = counted(self.train.anomalous, "labelled defect")
        defective = f"{self.test.anomalous:,} defective" if self.test.defects else "no defective"
        # A test split like the training split needs no description of its own; an odd one does.
        alike = self.test.description == self.train.description
        test = replace(self.test, description="") if alike else self.test
        width = max(len(f"{split.nominal:,}") for split in (self.train, test))
        at_size = (
            "" if self.network_size == (SIDE, SIDE) else ", at {} x {} px (height x width)".format(*self.network_size)
        )
        verdict = ("not ready:", f"mend the {counted(self._errors, 'error')} first")
        rows = [
            ("train", _in_words(self.train, labelled, width=width)),
            ("test", _in_words(test, defective, width=width)),
            *((problem.severity, problem.message) for problem in self.problems),
            ("use", self.supervision + at_size),
            ("ready", self.command) if self.ready else verdict,
        ]
        return "\n".join(map(one_line, [title, *(f"  {label:<7} {text}" for label, text in rows)]))

    @property
    def _errors(self) -> int:
        return sum(len(problem.paths) or 1 for problem in self.problems if problem.severity == "error")


def _in_words(split: SplitSummary, anomalous: str, *, width: int) -> str:
    if not split.nominal + split.anomalous:
        return f"no images, {split.unreadable:,} unreadable" if split.unreadable else "no images"
    words = f"{split.nominal:>{width},} good, {anomalous}"
    if split.defects:
        words += f" in {counted(len(split.defects), 'type')}, {counted(sum(split.masks.values()), 'mask')}"
    words += f", {split.unreadable:,} unreadable" * bool(split.unreadable)
    return f"{words}  ({split.description})" if split.description else words


def _as_folder(path: Path) -> str:
    return path.as_posix().rstrip("/") + "/"
