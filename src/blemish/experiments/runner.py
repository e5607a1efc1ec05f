"""Runs an experiment: every method, class and seed once, each finished run kept, then the tables and plots."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save

from blemish import __version__
from blemish.errors import BlemishError
from blemish.experiments.data.sources import open_outliers, open_source
from blemish.experiments.data.tasks import Images, Task
from blemish.experiments.deployed import deployed
from blemish.experiments.former_names import METHODS as FORMER_METHODS
from blemish.experiments.former_names import MODES, former_name, present_name, run_key
from blemish.experiments.model_file import MODEL_NAME, hold_out, model_metadata
from blemish.experiments.pictures import pick
from blemish.experiments.recipe import METHODS, SUPERVISED, MethodName, Recipe, Supervision
from blemish.experiments.results import Point, Result
from blemish.experiments.runs import Run, load_result, save_pictured, save_result
from blemish.experiments.summary import summarise
from blemish.experiments.supervision import AnomalySource, Labelled, Noise, Outliers, set_labelled_aside
from blemish.experiments.tester import Tester
from blemish.experiments.trial import Settings, Trial, checkpoint_in
from blemish.io.files import atomic_write, folder_state, make_folder
from blemish.io.text import printable
from blemish.process.progress import Progress
from blemish.training.devices import require_device
from blemish.training.onnx_export import export_onnx

PICTURED_NOMINAL, PICTURED_ANOMALOUS = 4, 8
OUTLIER_SETS = ("cifar100", "emnist", "imagenet")  # found below the data set's folder


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        recipe: the experiment.
        methods: FCDD and the baselines wanted.
        classes: nominal classes; empty for all.
        seeds: repetitions, with seeds 0, 1, …
        data: the folder with the data set's files.
        outliers: a folder of images, or a data set's name, in the place of the recipe's; None for the recipe's.
        output: the folder for runs, tables and plots.
        settings: how runs are made.
        values: those of an ablation; empty for all.
        models: write a model file for each run, calibrated on a fifth of its nominal images.
    """

    recipe: Recipe
    methods: tuple[MethodName, ...]
    classes: tuple[str, ...]
    seeds: int
    data: Path
    outliers: str | None
    output: Path
    settings: Settings
    values: tuple[str, ...] = ()
    models: bool = False

    def __post_init__(self) -> None:
        methods = tuple(present_name(method, FORMER_METHODS) for method in self.methods)
        object.__setattr__(self, "methods", tuple(dict.fromkeys(methods)))


def run_experiment(
    plan: Plan,
    *,
    progress: Progress,
    notify: Callable[[str], None],
    measured: Callable[[str], None] | None = None,
) -> tuple[dict[str, str], str]:
    """Makes the runs that are not there yet and writes table.csv, table.md and the plots.

    Args:
        plan: what to run.
        progress: called with a run's name, its epochs done and to do.
        notify: called with one line for each finished run.
        measured: called with one line for each measured point of a run under way.

    Returns:
        What was written, as names and paths, and the table as text.

    Raises:
        BlemishError: missing data, an unknown class, no such device, an output that cannot be written.
    """
    check_methods(plan.methods)
    if plan.models and plan.recipe.swap_roles:
        raise BlemishError(f"{plan.recipe.name} trains its class of interest as anomalous; leave out --models")
    require_device(plan.settings.device)
    experiment = _Experiment(plan, measured)
    make_folder(plan.output)
    completed, state = [], _state(plan)
    for run in experiment.runs():
        folder, key = run.folder(plan.output), _key(plan, run, state)
        result = load_result(folder, key=key)
        if result is None or (plan.models and not (folder / MODEL_NAME).exists()):
            result = experiment.make(run, folder, key, partial(progress, str(run)))
            model = f"; {printable(folder / MODEL_NAME)}" if plan.models else ""
            notify(f"{run}: {_figures(result)} in {result.seconds:.0f} s{model}")
        completed.append((run, result))
    return summarise(plan.recipe, completed, classes=experiment.all_classes, output=plan.output)


class _Experiment:
    """The data of a plan, opened once, and the making of single runs."""

    def __init__(self, plan: Plan, measured: Callable[[str], None] | None = None) -> None:
        self._plan = plan
        self._measured = measured
        reading = plan.recipe.reading
        self._source = open_source(
            plan.recipe.source,
            plan.data,
            channels=reading.channels if plan.recipe.source == "custom" else None,
            size=reading.size,
            square=reading.square,
            antialias=plan.settings.mode == "corrected",
        )
        self.all_classes = self._source.classes
        self._classes = plan.classes or plan.recipe.classes or self.all_classes
        if unknown := sorted(set(self._classes) - set(self.all_classes)):
            known = ", ".join(self.all_classes)
            raise BlemishError(f"{plan.recipe.source} has no class {unknown[0]!r}; it has {known}")
        self._tasks: tuple[str, Task] | None = None
        self._opened: dict[tuple[str, int | None, int], Images] = {}

    def runs(self) -> Iterator[Run]:
        """All runs of the plan; those of one seed and class follow each other, so that tables fill evenly."""
        for seed in range(self._plan.seeds):
            for nominal_class in self._classes:
                for variant, recipe in self._plan.recipe.variants(self._plan.values):
                    for method in self._plan.methods:
                        yield Run(recipe, variant, method, nominal_class, seed)

    def make(self, run: Run, folder: Path, key: str, progress: Callable[[int, int], None]) -> Result:
        """Makes one run and writes its folder."""
        make_folder(folder)
        task, anomalies = self._supervised(run)
        held_out = hold_out(task, run.recipe, run.method, seed=run.seed) if self._plan.models else None
        if held_out is not None:
            task = replace(task, nominal=held_out.fit)
        trial = Trial(
            recipe=run.recipe,
            method=run.method,
            nominal_class=run.nominal_class,
            seed=run.seed,
            settings=self._plan.settings,
            task=task,
            anomalies=anomalies,
            checkpoint=checkpoint_in(folder, key=key),
            progress=progress,
            measured=partial(self._say_measured, run),
        )
        result, method, preparation = trial.run()
        indices = pick(
            result.anomalous,
            result.kinds,
            nominal=PICTURED_NOMINAL,
            anomalous_count=PICTURED_ANOMALOUS,
            seed=run.seed,
        )
        tester = Tester(task, preparation, next(method.network.parameters()).device)
        save_pictured(folder, task, indices, tester.maps(method, indices), visible=preparation.visible)
        with atomic_write(folder / "network.safetensors") as file:
            file.write(save({n: t.cpu().contiguous() for n, t in method.network.state_dict().items()}))
        notes = self._notes(run)
        (folder / MODEL_NAME).unlink(missing_ok=True)  # of a former run
        if held_out is not None:
            notes |= {"calibration": f"{len(held_out.split.calibration)} of {len(held_out.images)} nominal images"}
            labelled = anomalies.images if isinstance(anomalies, Labelled) and run.method in SUPERVISED else None
            network = deployed(method, preparation.normalisation, run.recipe)
            metadata = model_metadata(
                network,
                held_out,
                run=run,
                layout=task.layout,
                labelled=() if labelled is None else labelled.files,
                circumstances=notes,
                data=self._plan.data.resolve().name,
            )
            export_onnx(network, metadata, folder / MODEL_NAME)
        result = replace(result, notes=notes)
        save_result(folder, result, key=key)
        return result

    def _say_measured(self, run: Run, point: Point, seconds_left: float) -> None:
        if self._measured is not None:
            epochs = self._plan.settings.epochs or run.recipe.training.epochs
            left = f"{seconds_left:.0f} s" if seconds_left < 100 else f"{seconds_left / 60:.0f} min"
            figures = f"loss {point.loss:.4f}, {_figures(point)}"
            self._measured(f"{run}: epoch {point.epoch} of {epochs}: {figures}; {left} left for this run")

    def _task(self, nominal_class: str) -> Task:
        if self._tasks is None or self._tasks[0] != nominal_class:
            self._tasks = (nominal_class, self._source.task(nominal_class))
        return self._tasks[1]

    def _supervised(self, run: Run) -> tuple[Task, AnomalySource | None]:
        """The task and the source of its anomalies; labelled images leave the test set for every method alike."""
        task, how = self._task(run.nominal_class), run.recipe.supervision
        if how.kind == "none":
            return task, None
        if how.kind == "masks":
            return set_labelled_aside(task, per_kind=how.limit or 1, seed=run.seed)
        if run.method not in SUPERVISED:
            return task, None
        if how.kind == "outliers":
            return task, Outliers(self._outliers(run.recipe, task, run.seed))
        return task, Noise(how.kind, how.changed)

    def _outliers(self, recipe: Recipe, task: Task, seed: int) -> Images:
        """The foreign images at the size of the nominal ones; opened once for all runs that share them."""
        name, limit = self._plan.outliers or recipe.supervision.outliers, recipe.supervision.limit
        if name is None:
            raise BlemishError(f"{recipe.name} learns from foreign images; give a folder of them with --outliers")
        key = (name, limit, seed if limit else 0)
        if key not in self._opened:
            kind, root = (name, self._plan.data) if name in OUTLIER_SETS else ("folder", Path(name))
            if kind == "folder" and (root / "train").is_dir():
                # Small images of one size, such as CIFAR's, are kept in memory; photographs would not fit.
                kind, root = ("class-folders", root) if recipe.reading.size is None else ("folder", root / "train")
            self._opened[key] = open_outliers(
                kind,
                root,
                channels=recipe.reading.channels,
                size=min(task.nominal.read(0).shape[1:]),
                square=recipe.reading.square,
                limit=limit,
                seed=seed,
            )
        return self._opened[key]

    def _notes(self, run: Run) -> dict[str, str]:
        """What a reader of run.json must know to judge its figures."""
        how = self._anomalies_in_words(run.recipe.supervision) if run.method in SUPERVISED else "none"
        return self._plan.settings.in_words(run.recipe) | {"anomalies": how}

    def _anomalies_in_words(self, how: Supervision) -> str:
        if how.kind != "outliers":
            return how.kind if how.limit is None else f"{how.kind}, {how.limit} of each type"
        name = Path(self._plan.outliers or how.outliers or "").name
        return f"outliers of {name}" if how.limit is None else f"{how.limit} outliers of {name}"


def _state(plan: Plan) -> tuple[str, ...]:
    """Digests of what all runs depend on beside their settings: versions, and the files of data and outliers.

    Files are taken by name, size and time of change: to read them all would take longer than some runs.
    """
    folders = [plan.data]
    if plan.outliers is not None and plan.outliers not in OUTLIER_SETS:
        folders.append(Path(plan.outliers))
    versions = [f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy", "pillow")]
    return (
        f"blemish {__version__}",
        *versions,
        *(folder_state(folder, besides=plan.output) for folder in folders if folder.is_dir()),
    )


def _key(plan: Plan, run: Run, state: tuple[str, ...]) -> str:
    """A digest of what a run depends on."""
    settings = plan.settings
    return run_key(
        run.recipe,
        former_name(run.method, FORMER_METHODS),
        run.nominal_class,
        run.seed,
        plan.outliers,
        former_name(settings.mode, MODES),
        settings.epochs,
        settings.precision,
        plan.data.resolve().name,
        state,
        *(["models"] if plan.models else []),
    )


def _figures(result: Result | Point) -> str:
    pixel = "" if result.pixel_auroc is None else f", pixel {result.pixel_auroc:.4f}"
    return f"image AUROC {result.image_auroc:.4f}{pixel}"


def check_methods(methods: Sequence[str]) -> None:
    """Raises BlemishError for a method that is not one of METHODS, or for none at all."""
    if unknown := [method for method in methods if method not in METHODS]:
        raise BlemishError(f"there is no method {printable(unknown[0])}; there are {', '.join(METHODS)}")
    if not methods:
        raise BlemishError(f"there is no method to run; choose from {', '.join(METHODS)}")
