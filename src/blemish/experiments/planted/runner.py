"""Makes the detectors of the planted cue, a share of watermarked training photographs each, and shows them."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError
from blemish.experiments.former_names import MODES, former_name, run_key
from blemish.experiments.pictures import combined_picture
from blemish.experiments.planted.findings import (
    Finding,
    Masses,
    effect,
    effects_markdown,
    markdown,
    mass_inside,
    measure,
    write_csv,
)
from blemish.experiments.planted.photographs import DOG, MARKED_DOG, Photographs, Planted
from blemish.experiments.planted.watermark import Watermark
from blemish.experiments.recipe import SUPERVISED, MethodName
from blemish.experiments.results import Result
from blemish.experiments.runner import Plan, check_methods
from blemish.experiments.runs import Run, load_result, save_pictured, save_result
from blemish.experiments.summary import written_to
from blemish.experiments.supervision import Outliers
from blemish.experiments.tester import Tester
from blemish.experiments.trial import Trial, checkpoint_in
from blemish.io.files import atomic_write, make_folder
from blemish.process.progress import Progress
from blemish.training.devices import require_device

SHARES = (0.0, 0.2, 0.5, 1.0)  # about a fifth in Pascal VOC
CLASS = "dog"
PICTURED = 8


def run_planted(plan: Plan, *, progress: Progress, notify: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Makes the runs that are not there yet and writes table.csv, table.md and the pictures.

    Args, Returns and Raises: as `blemish.experiments.runner.run_experiment`; `plan.data` is a folder of ImageNet
    photographs, which gives the foreign ones too.
    """
    _refuse_unfit(plan)
    experiment = _Experiment(plan)
    make_folder(plan.output)
    findings, notes = [], dict[str, str]()
    by_share: dict[tuple[MethodName, float], list[Masses]] = {}
    for run, share in _runs(plan, seeds=range(plan.seeds), shares=SHARES):
        planted, folder, key = experiment.plant(share, run.seed), run.folder(plan.output), _key(plan, run)
        finished = _load(folder, key)
        result, masses = finished or experiment.make(run, planted, folder, key, partial(progress, str(run)))
        finding = measure(result, masses, share=share, marked=planted.count, chance=experiment.watermark.area)
        if finished is None:
            notify(f"{run}: {_figures(finding)} in {result.seconds:.0f} s")
        findings.append(finding)
        by_share.setdefault((run.method, share), []).append(masses)
        notes = result.notes
    for run, share in _runs(plan, seeds=[0], shares=(min(SHARES), max(SHARES))):
        _save_picture(plan, run, experiment.plant(share, run.seed))
    none = min(SHARES)
    effects = {
        (method, share): effect(found, by_share[method, none])
        for (method, share), found in by_share.items()
        if share != none
    }
    text = f"{markdown(findings, notes)}\n{effects_markdown(effects)}"
    write_csv(findings, plan.output / "table.csv")
    with atomic_write(plan.output / "table.md", mode="w") as file:
        file.write(f"# {plan.recipe.title}\n\n{text}")
    return written_to(plan.output), text


def _runs(plan: Plan, *, seeds: Iterable[int], shares: Iterable[float]) -> Iterator[tuple[Run, float]]:
    """The runs and their shares; those of one seed follow each other, so that the table fills evenly."""
    for seed, share, method in product(seeds, shares, plan.methods):
        yield Run(plan.recipe, f"watermark-{share:g}", method, CLASS, seed), share


class _Experiment:
    """The photographs of a plan, read once, and what is done with them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        side = plan.recipe.size
        self._photographs = Photographs.read(plan.data, side=side, antialias=plan.settings.mode == "corrected")
        self.watermark = Watermark.of_size(side)

    def plant(self, share: float, seed: int) -> Planted:
        """The task of a share; the seed decides which photographs are learned from."""
        limit = self._plan.recipe.supervision.limit
        return self._photographs.plant(self.watermark, share=share, limit=limit, seed=seed)

    def make(
        self, run: Run, planted: Planted, folder: Path, key: str, progress: Callable[[int, int], None]
    ) -> tuple[Result, Masses]:
        """Makes one run and writes its folder."""
        make_folder(folder)
        result, method, preparation = Trial(
            recipe=run.recipe,
            method=run.method,
            nominal_class=run.nominal_class,
            seed=run.seed,
            settings=replace(self._plan.settings, points=1),  # a test costs as much as an epoch here
            task=planted.task,
            anomalies=Outliers(planted.foreign),
            checkpoint=checkpoint_in(folder, key=key),
            progress=progress,
        ).run()
        tester = Tester(planted.task, preparation, next(method.network.parameters()).device)
        without, marked = planted.indices(DOG), planted.indices(MARKED_DOG)
        maps, marked_maps = tester.maps(method, without), tester.maps(method, marked)
        chosen = np.random.default_rng(run.seed).permutation(len(without))[:PICTURED]
        pictured = [indices[dog] for indices in (without, marked) for dog in chosen]
        save_pictured(folder, planted.task, pictured, np.concatenate([maps[chosen], marked_maps[chosen]]))
        masses = Masses(mass_inside(maps, self.watermark.box), mass_inside(marked_maps, self.watermark.box))
        with atomic_write(folder / "masses.json", mode="w") as file:
            json.dump(asdict(masses), file)
        result = replace(result, notes=self._notes(planted))
        save_result(folder, result, key=key)
        return result, masses

    def _notes(self, planted: Planted) -> dict[str, str]:
        """What a reader of run.json must know to judge its figures."""
        return self._plan.settings.in_words(self._plan.recipe) | {
            "learned from": f"{len(planted.task.nominal)} dogs and {len(planted.foreign)} foreign photographs",
            "tested on": "the others, each with and without the watermark",
        }


def _save_picture(plan: Plan, run: Run, planted: Planted) -> None:
    """Some test dogs without and with the watermark, and below each its heatmap."""
    with np.load(run.folder(plan.output) / "heatmaps.npz") as content:
        shown: list[int] = content["indices"].tolist()
        images = [content[f"image-{position}"] for position in range(len(shown))]
        maps = list(content["maps"])
    half = len(shown) // 2
    rows = {
        "without": images[:half],
        "heatmap": maps[:half],
        "with watermark": images[half:],
        "its heatmap": maps[half:],
    }
    dogs = planted.indices(DOG)
    names = [planted.names[dogs.index(index)] for index in shown[:half]]
    picture = combined_picture(
        rows,
        kinds=names,
        nominal=0,
        scale="local",
        quantile=plan.recipe.quantile,
        captions=("", "dogs that no training saw"),
    )
    make_folder(plan.output / "pictures")
    with atomic_write(plan.output / "pictures" / f"{run.method}-{run.variant}.png") as file:
        picture.save(file, format="PNG")


def _load(folder: Path, key: str) -> tuple[Result, Masses] | None:
    """A finished run; None where there is none, or it was made with other settings than `key`."""
    result = load_result(folder, key=key)
    try:
        masses = Masses(**json.loads((folder / "masses.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # of another version, or damaged: the run is made again
    return None if result is None else (result, masses)


def _key(plan: Plan, run: Run) -> str:
    """A digest of what a run depends on; files are taken by their folder, not their bytes."""
    settings = plan.settings
    mode = former_name(settings.mode, MODES)
    return run_key(run, mode, settings.epochs, settings.precision, plan.data.resolve().name)


def _figures(finding: Finding) -> str:
    return (
        f"heatmap mass in the box {finding.mass_with:.1%}, AUROC {finding.auroc_without:.3f}, "
        f"watermark alone {finding.auroc_watermark:.3f}"
    )


def _refuse_unfit(plan: Plan) -> None:
    check_methods(plan.methods)
    require_device(plan.settings.device)
    name = plan.recipe.name
    if unfit := [method for method in plan.methods if method not in SUPERVISED]:
        raise BlemishError(f"{name} is not for {unfit[0]}, which learns nothing from foreign images; use fcdd or hsc")
    if plan.classes not in ((), (CLASS,)):
        raise BlemishError(f"{name} has the one class {CLASS}; leave --classes out")
    if plan.models:
        raise BlemishError(f"{name} trains dogs as anomalous; leave out --models")
    if plan.outliers is not None:
        raise BlemishError(f"{name} takes its foreign photographs from --data; leave --outliers out")
