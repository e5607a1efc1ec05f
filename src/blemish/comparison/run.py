"""Compares methods on a folder: each is trained with each seed and evaluated, and a page shows where they differ."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from blemish.comparison.differences import Difference, differences
from blemish.comparison.key import key_of
from blemish.comparison.measuring import measure_run
from blemish.comparison.page import PAGE_NAME, ignore_folder, warnings_of, write_page_of
from blemish.comparison.records import NOT_EVALUATED, TABLE, Journal, Run, without_images
from blemish.comparison.synthetic_tests import TRANSPLANT, SyntheticTests
from blemish.comparison.table import MethodRow, rows_of
from blemish.datasets.layouts import DataSet, Named, read_data_set
from blemish.errors import BlemishError
from blemish.imaging.outputs import PAGE, check_folder_name, check_overwriting
from blemish.io.arguments import one_of, one_path, whole
from blemish.io.files import fingerprint, make_folder
from blemish.io.text import figure, one_line, printable
from blemish.model.detector import Detector
from blemish.plugins import METHODS
from blemish.process.progress import Progress, no_progress
from blemish.training.config import MAX_SEED, TrainConfig, TrainOptions

LOGGER = logging.getLogger("blemish.comparison")
RUNS = "trainings"  # the stage of `progress` that counts whole runs

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        folder: with models, results.csv and the page.
        page: the file to look at.
        runs: a method and a seed each; failed ones say why.
        rows: a method each, over all seeds.
        differences: of the best method to each other one, in image AUROC.
        warnings: what has to be known before the figures are read.
        synthetic: whether the defects are synthetic.
    """

    folder: Path
    page: Path
    runs: tuple[Run, ...]
    rows: tuple[MethodRow, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    synthetic: bool

    def as_json(self) -> dict[str, Any]:
        """All but the single images, as plain values."""
        return {
            "report": printable(self.page),
            "results": printable(self.folder / TABLE),
            "synthetic": self.synthetic,
            "warnings": list(self.warnings),
            "table": [row.as_json() for row in self.rows],
            "differences": [
                {"best": found.best, "other": found.other, "image_auroc": found.mean, "interval": found.interval}
                for found in self.differences
            ],
            "runs": [without_images(run) for run in self.runs],
        }


def compare(  # noqa: PLR0913 (those of train, and what is compared)
    data: str | Path | None,
    output: str | Path,
    config: TrainConfig | None = None,
    *,
    methods: Sequence[str] | None = None,
    seeds: int = 1,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
    progress: Progress | None = None,
    notify: Notify | None = None,
    **options: Unpack[TrainOptions],
) -> Comparison:
    """Trains each method with each seed on a folder, evaluates the model files, and writes one page.

    Where the test split has no defective image, they are evaluated on synthetic ones, which are made once for all
    methods. What is finished in `output` is not made again, if data, options and version of Blemish are the same.

    Example:
        >>> comparison = compare("screws/", "compared/", methods=["gaussian", "padim"], seeds=3)  # doctest: +SKIP
        >>> comparison.rows[0].figures["image_auroc"].mean  # doctest: +SKIP
        0.93

    Args:
        data: as of `train`.
        output: the folder for models, results.csv and compare.html; not one that images are read from.
        config: how to train; its seed is the first one. None takes the defaults.
        methods: names in `blemish.plugins.METHODS`; None takes all.
        seeds: how many trainings of each method.
        nominal_class, good, bad, masks, options: as of `train`.
        progress: called with a stage, the steps done and all there are; "trainings" counts whole runs.
        notify: called with one sentence for each finished run and for everything that `train` says.

    Returns:
        Figures of all runs, failed ones included; one at least has a model.

    Raises:
        BlemishError: a fault of the data, an option or the disk; a folder that holds another comparison; or no method
            could be trained.
    """
    config = _checked(config or TrainConfig(), options)
    chosen = _methods(methods)
    whole(seeds, "the number of seeds", least=1, most=MAX_SEED + 1 - config.seed)
    folder = one_path(output, "the output")
    root = None if data is None else one_path(data, "the data")
    data_set = read_data_set(root, nominal_class=nominal_class, good=good, bad=bad, masks=masks)
    comparer = _Comparer(
        data=data_set,
        where=(root, {"nominal_class": nominal_class, "good": good, "bad": bad, "masks": masks}),
        journal=_open(folder, data_set, config),
        config=config,
        tests=_tests(data_set, folder, config),
        progress=progress or no_progress,
        notify=_OnlyOnce(notify),
    )
    return comparer.compare(chosen, range(config.seed, config.seed + seeds))


@dataclass(frozen=True)
class _Comparer:
    """The trainings and evaluations of one comparison.

    Attributes:
        data: the data set.
        where: the folder, and how it is read, as `train` takes them.
        journal: of finished runs.
        config: of all trainings, but for method and seed.
        tests: synthetic test images; None where there are real ones.
        progress, notify: see `compare`.
    """

    data: DataSet
    where: tuple[Path | None, dict[str, Any]]
    journal: Journal
    config: TrainConfig
    tests: SyntheticTests | None
    progress: Progress
    notify: Notify

    def compare(self, methods: Sequence[str], seeds: Sequence[int]) -> Comparison:
        """Makes the runs that are not there yet, and the page."""
        runs = []
        order = [(method, seed) for seed in seeds for method in methods]  # so that the table fills evenly
        for number, (method, seed) in enumerate(order):
            self.progress(RUNS, number, len(order))
            run = self.journal.finished(method, seed)
            said = "finished before, "
            if run is None:
                run, said = self._make(method, seed), ""
                self.journal.add(run)
            runs.append(run)
            self.notify(f"{run}: {said}{_in_words(run)}")
        self.progress(RUNS, len(order), len(order))
        runs.sort(key=lambda run: methods.index(run.method))
        if all(run.failed is not None for run in runs):
            raise BlemishError(f"no method could be compared; {runs[0]}: {runs[0].failed}")
        rows, found, warnings = rows_of(runs), differences(runs), self._warnings(runs)
        page = write_page_of(
            self.journal,
            runs,
            rows,
            found,
            tests={run.seed: self._test_images(run) for run in runs if run.failed is None},
            data=self.data,
            config=self.config,
            warnings=warnings,
            progress=self.progress,
        )
        return Comparison(
            folder=self.journal.folder,
            page=page,
            runs=tuple(runs),
            rows=tuple(rows),
            differences=tuple(found),
            warnings=tuple(warnings),
            synthetic=self.tests is not None,
        )

    def _make(self, method: str, seed: int) -> Run:
        """One run; what goes wrong with it is kept as the reason, so that the others go on."""
        run = Run(method=method, seed=seed)
        try:
            run = self._trained(method, seed)
            return self._evaluated(run)
        except Exception as error:  # of any package: a method may be anybody's
            LOGGER.info("%s failed", run, exc_info=True)
            return replace(run, failed=_reason(error))

    def _trained(self, method: str, seed: int) -> Run:
        """The run with its model file, which an interrupted comparison may have left."""
        if (left := self.journal.trained(method, seed)) is not None:
            return left
        from blemish import train  # torch takes seconds to import, and a finished comparison needs none

        root, reading = self.where
        model, started = self.journal.model(method, seed), time.perf_counter()
        log = self.config.tensorboard and self.config.tensorboard / f"{method}-{seed}"
        train(
            root,
            model,
            self.config.with_options(method=method, seed=seed, tensorboard=log),
            progress=self.progress,
            notify=self.notify,
            **reading,
        )
        seconds = time.perf_counter() - started
        run = Run(method=method, seed=seed, failed=NOT_EVALUATED, seconds=seconds, model=fingerprint(model))
        self.journal.add(run)
        return run

    def _evaluated(self, run: Run) -> Run:
        detector, seconds = self._detector(run), run.seconds or 0.0
        tests = self.data
        if self.tests is not None:
            tests = self.tests.of(detector, run.seed, progress=self.progress)
        measured = measure_run(
            detector,
            self.journal.model(run.method, run.seed),
            tests,
            method=run.method,
            seed=run.seed,
            seconds=seconds,
            progress=self.progress,
        )
        for note in measured.notes:
            self.notify(note)
        if self.tests is not None and self.tests.from_calibration:
            # It is the asked rate by construction: these images set the threshold.
            unknown = {"false_alarm_rate": None}
            measured = replace(
                measured, figures={**measured.figures, **unknown}, intervals={**measured.intervals, **unknown}
            )
        return measured

    def _detector(self, run: Run) -> Detector:
        return Detector.load(self.journal.model(run.method, run.seed), ignore_mask=ignore_folder(self.config))

    def _test_images(self, run: Run) -> DataSet:
        """The test images of a run that has been made."""
        return self.data if self.tests is None else self.tests.of(self._detector(run), run.seed)

    def _warnings(self, runs: Sequence[Run]) -> list[str]:
        made = [run for run in runs if run.failed is None]
        sentences = []
        if self.tests is not None:
            kinds = self.tests.kinds()
            sentences = warnings_of(
                kinds=kinds,
                from_calibration=self.tests.from_calibration,
                images=sum(not image.anomalous for image in made[0].images),
                config=self.config,
                transplanted=TRANSPLANT in kinds,
            )
        return [*sentences, *dict.fromkeys(f"{note}." for run in made for note in run.notes)]


class _OnlyOnce:
    """Passes on each sentence once: every training says the same of the folder."""

    def __init__(self, notify: Notify | None) -> None:
        self._notify = notify
        self._said: set[str] = set()

    def __call__(self, sentence: str) -> None:
        if self._notify is not None and sentence not in self._said:
            self._said.add(sentence)
            self._notify(sentence)


def _checked(config: TrainConfig, options: TrainOptions) -> TrainConfig:
    """The configuration of all trainings. Raises BlemishError for one that a comparison cannot have."""
    if not isinstance(config, TrainConfig):
        raise BlemishError(f"config must be a TrainConfig, not {type(config).__name__}: use TrainConfig.from_dict")
    config = config.with_options(**options)
    if config.devices > 1 or config.nodes > 1:
        raise BlemishError("methods are compared in one process: leave devices and nodes at 1")
    return config


def _methods(methods: Sequence[str] | None) -> list[str]:
    """The methods' names, each once."""
    if isinstance(methods, str):
        methods = [methods]
    chosen = list(METHODS) if methods is None else list(dict.fromkeys(methods))
    if not chosen:
        raise BlemishError(f"there is no method to compare; choose from {', '.join(METHODS)}")
    for method in chosen:
        one_of(method, "the method", METHODS)
    return chosen


def _open(folder: Path, data: DataSet, config: TrainConfig) -> Journal:
    """The journal in the output folder, which is made. Raises BlemishError where something would be lost by it."""
    check_folder_name(folder)
    place = Path(os.path.realpath(folder))
    for read in (data.root, *data.folders.good, *data.folders.bad, *data.folders.masks):
        if place.is_relative_to(os.path.realpath(read)):
            raise BlemishError(
                f"{printable(folder)} lies in the data, and its pictures would be taken for images: name a folder "
                "elsewhere with -o"
            )
    make_folder(folder)
    check_overwriting(folder / PAGE_NAME, kind=PAGE)
    table = folder / TABLE
    if table.is_file() and not table.read_bytes()[:12].startswith(b"method,seed"):
        raise BlemishError(f"{printable(table)} is no table of a comparison and would be replaced; name another folder")
    return Journal(folder, key_of(data, config))


def _tests(data: DataSet, folder: Path, config: TrainConfig) -> SyntheticTests | None:
    """Synthetic test images, where the test split has no defective one."""
    if any(sample.anomalous for sample in data.test):
        return None
    tests = SyntheticTests(data, folder, config.seed)
    if tests.from_calibration and config.cross_conformal is not None:
        raise BlemishError(
            "with cross_conformal every good image is learned from, and there is no test image to compare methods on: "
            "add test/good/ or test/<defect>/, or leave cross_conformal out"
        )
    return tests


def _in_words(run: Run) -> str:
    if run.failed is not None:
        return f"failed: {run.failed}"
    shown = [f"image AUROC {figure(run.figures.get('image_auroc'))}"]
    if run.figures.get("pixel_auroc") is not None:
        shown.append(f"pixel AUROC {figure(run.figures['pixel_auroc'])}")
    return f"{', '.join(shown)}, trained in {run.seconds:.0f} s"


def _reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    if isinstance(error, BlemishError):
        return str(error)
    words = one_line(str(error).strip().partition("\n")[0])[:200]
    if isinstance(error, MemoryError) or "memory" in words.lower():
        return f"too little memory{f' ({words})' if words else ''}"
    return f"{type(error).__name__}: {words}"
