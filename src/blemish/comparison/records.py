"""What is kept of a comparison: one run after another in comparison.json, and the same as a table in results.csv.

Both files are replaced as a whole after every run. So a comparison that was interrupted anywhere goes on with the run
that it was interrupted in; that run's training goes on from its own checkpoint.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from blemish import __version__
from blemish.comparison.key import Key, difference
from blemish.conformal.split import Verdict
from blemish.errors import BlemishError
from blemish.evaluation.figures import Interval, all_figures
from blemish.io.files import atomic_write, fingerprint, make_folder, read_fault
from blemish.io.text import as_text, printable

JOURNAL, TABLE, MODELS = "comparison.json", "results.csv", "models"
NOT_EVALUATED = "interrupted before it was evaluated"
_MEASURED = ("milliseconds", "megabytes", "seconds")


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What one detector says of one test image.

    Attributes:
        path: of the image below the root of the test images, or as it stands.
        anomalous: whether the test set calls it so.
        score, p_value, verdict: see `blemish.model.scored_image.ScoredImage`.
        peak_inside: whether the highest value of the map lies in the mask; None without a mask.
    """

    path: str
    anomalous: bool
    score: float
    p_value: float
    verdict: Verdict
    peak_inside: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method, trained with one seed.

    Attributes:
        method: its name in `blemish.plugins.METHODS`.
        seed: of the training.
        failed: why there are no figures; None where there are. What could not be found out is empty or None then.
        figures: of the evaluation by name, see `blemish.plugins.FIGURES`.
        intervals: their 95 % confidence intervals over the test images.
        per_defect: figures by type of defect.
        milliseconds: for one image, with reading it.
        megabytes: of the model file.
        seconds: of the training.
        model: SHA-256 of the model file.
        supervision: what it learned from, in one line.
        calibration_statement: which false-alarm rate the threshold holds, in one sentence.
        notes: sentences on test images and masks that could not be read, or are odd.
        images: what it says of each test image.
    """

    method: str
    seed: int
    failed: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    per_defect: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    milliseconds: float | None = None
    megabytes: float | None = None
    seconds: float | None = None
    model: str = ""
    supervision: str = ""
    calibration_statement: str = ""
    notes: tuple[str, ...] = ()
    images: tuple[ImageResult, ...] = ()

    def __str__(self) -> str:
        return f"{self.method}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class _Content:
    """Of comparison.json."""

    blemish: str
    key: Key
    runs: tuple[Run, ...]


class Journal:
    """The runs of a comparison on disk.

    Args:
        folder: of the comparison; it is made.
        key: what all its runs depend on.

    Raises:
        BlemishError: the folder holds another comparison, or cannot be read or written.
    """

    def __init__(self, folder: Path, key: Key) -> None:
        self.folder = folder
        self._key = key
        self._runs: dict[tuple[str, int], Run] = {}
        if (kept := _read(folder / JOURNAL)) is not None:
            if found := difference(key, kept.key):
                raise BlemishError(
                    f"{printable(folder)} holds a comparison with {found}: name another folder with -o, or remove it"
                )
            self._runs = {(run.method, run.seed): run for run in kept.runs}
        make_folder(folder / MODELS)
        self._write()  # what cannot be written is to be known before hours of training

    def model(self, method: str, seed: int) -> Path:
        """Where the model of a run is."""
        return self.folder / MODELS / f"{method}-seed-{seed}.onnx"

    def trained(self, method: str, seed: int) -> Run | None:
        """The run, if its model file is still the one that it is about; it may have no figures yet."""
        run, model = self._runs.get((method, seed)), self.model(method, seed)
        return run if run is not None and model.is_file() and fingerprint(model) == run.model else None

    def finished(self, method: str, seed: int) -> Run | None:
        """The same, if it has its figures."""
        run = self.trained(method, seed)
        return run if run is not None and run.failed is None else None

    def add(self, run: Run) -> None:
        """Keeps a run in the place of an earlier one."""
        self._runs[run.method, run.seed] = run
        self._write()

    def _write(self) -> None:
        content = _Content(blemish=__version__, key=self._key, runs=tuple(self._runs.values()))
        with atomic_write(self.folder / JOURNAL) as file:
            file.write(msgspec.json.format(msgspec.json.encode(as_text(asdict(content))), indent=1))
        with atomic_write(self.folder / TABLE, mode="w") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(content.runs))


def _read(path: Path) -> _Content | None:
    """What an earlier comparison left; None where there is none. Raises BlemishError where it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
    except msgspec.MsgspecError as error:
        raise BlemishError(
            f"{printable(path)} is damaged or no comparison of this Blemish ({error}): name another folder with -o"
        ) from error


def _rows(runs: tuple[Run, ...]) -> Iterator[list[object]]:
    """The table: a run a row, figures as numbers, an empty field where there is none."""
    figures = all_figures()
    bounds = [f"{figure.name}_{end}" for figure in figures if figure.interval is not None for end in ("low", "high")]
    yield ["method", "seed", *(figure.name for figure in figures), *bounds, *_MEASURED, "blemish", "failed"]
    for run in runs:
        intervals = [run.intervals.get(figure.name) for figure in figures if figure.interval is not None]
        ends = [end for interval in intervals for end in (interval or ("", ""))]
        values = [run.figures.get(figure.name) for figure in figures]
        measured = [getattr(run, name) for name in _MEASURED]
        cells = [*values, *ends, *measured, __version__, run.failed]
        yield [run.method, run.seed, *("" if cell is None else cell for cell in cells)]


def without_images(run: Run) -> dict[str, Any]:
    """A run as JSON can hold it, without its images."""
    values = asdict(replace(run, images=()))
    del values["images"]
    return values
