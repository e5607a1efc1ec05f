"""Makes the detectors of the planted cue, a share of watermarked training photographs each, and shows them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from blemish.errors import BlemishError
from blemish.experiments.pictures import combined_picture
from blemish.experiments.planted.findings import Finding, Masses, markdown, mass_inside, measure, write_csv
from blemish.experiments.planted.photographs import DOG, MARKED_DOG, Photographs, Planted
from blemish.experiments.planted.watermark import Watermark
from blemish.experiments.runs import Run, load_result, save_pictured, save_result
from blemish.experiments.supervision import Outliers
from blemish.experiments.trial import Result, Tester, Trial, checkpoint_in
from blemish.files import atomic_write, make_folder

if TYPE_CHECKING:
    from blemish.experiments.runner import Plan

SHARES = (0.0, 0.2, 0.5, 1.0)  # about a fifth in Pascal VOC
METHODS = ("fcdd", "hsc")  # the others learn nothing from the foreign photographs
CLASS = "dog"
PICTURED = 8


def run_planted(
    plan: "Plan", *, progress: Callable[[str, int, int], None], notify: Callable[[str], None]
) -> tuple[dict[str, str], str]:
    """Makes the runs that are not there yet and writes table.csv, table.md and the pictures.

    Args, Returns and Raises: as `blemish.experiments.runner.run_experiment`; `plan.data` is a folder of ImageNet
    photographs, which gives the foreign ones too.
    """
    _refuse_unfit(plan)
    bench = _Bench(plan)
    make_folder(plan.output)
    findings = []
    for seed in range(plan.seeds):
        for share in SHARES:
            for method in plan.methods:
                run = Run(plan.recipe, f"watermark-{share:g}", method, CLASS, seed)
                finding, made_in = bench.finding(run, share, partial(progress, str(run)))
                if made_in is not None:
                    notify(f"{run}: {_figures(finding)} in {made_in:.0f} s")
                findings.append(finding)
    text = markdown(findings)
    write_csv(findings, plan.output / "table.csv")
    with atomic_write(plan.output / "table.md", mode="w") as file:
        file.write(f"# {plan.recipe.title}\n\n{text}")
    for share in (min(SHARES), max(SHARES)):
        for method in plan.methods:
            bench.picture(Run(plan.recipe, f"watermark-{share:g}", method, CLASS, seed=0), share)
    written = {"table": plan.output / "table.csv", "markdown": plan.output / "table.md", "folder": plan.output}
    return {name: str(path) for name, path in written.items()}, text


class _Bench:
    """The photographs of a plan, read once, and what is done with them."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        side = plan.recipe.size
        self._photographs = Photographs.read(plan.data, side=side, antialias=plan.settings.mode == "sound")
        self._watermark = Watermark.of_size(side)

    def finding(self, run: Run, share: float, progress: Callable[[int, int], None]) -> tuple[Finding, float | None]:
        """The figures of a run, and the seconds it took where it was not there yet."""
        folder, key = run.folder(self._plan.output), _key(self._plan, run)
        planted = self._plant(share, run.seed)
        result, seconds = load_result(folder, key=key), None
        if result is None:
            result = self._make(run, planted, folder, key, progress)
            seconds = result.seconds
        masses = Masses(**json.loads((folder / "masses.json").read_text("utf-8")))
        chance = self._watermark.area
        return measure(result, masses, share=share, marked=planted.count, chance=chance), seconds

    def picture(self, run: Run, share: float) -> None:
        """Some test dogs without and with the watermark, and below each its heatmap."""
        with np.load(run.folder(self._plan.output) / "heatmaps.npz") as content:
            shown = len(content["indices"])
            images = [content[f"image-{position}"] for position in range(shown)]
            maps = list(content["maps"].astype(np.float32))
            dogs = content["indices"][: shown // 2]
        rows = {
            "without": images[: shown // 2],
            "heatmap": maps[: shown // 2],
            "with watermark": images[shown // 2 :],
            "its heatmap": maps[shown // 2 :],
        }
        names = self._plant(share, run.seed).names
        picture: Image.Image = combined_picture(
            rows, kinds=[names[dog] for dog in dogs], nominal=0, scale="local", quantile=self._plan.recipe.quantile
        )
        make_folder(self._plan.output / "pictures")
        with atomic_write(self._plan.output / "pictures" / f"{run.method}-{run.variant}.png") as file:
            picture.save(file, format="PNG")

    def _plant(self, share: float, seed: int) -> Planted:
        limit = self._plan.recipe.supervision.limit
        return self._photographs.plant(self._watermark, share=share, limit=limit, seed=seed)

    def _make(self, run: Run, planted: Planted, folder: Path, key: str, progress: Callable[[int, int], None]) -> Result:
        make_folder(folder)
        result, approach, preparation = Trial(
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
        tester = Tester(planted.task, preparation, next(approach.network.parameters()).device)
        without, marked = planted.indices(DOG), planted.indices(MARKED_DOG)
        maps, marked_maps = tester.maps(approach, without), tester.maps(approach, marked)
        chosen = np.random.default_rng(run.seed).permutation(len(without))[:PICTURED]
        pictured = [indices[dog] for indices in (without, marked) for dog in chosen]
        save_pictured(
            folder,
            planted.task,
            pictured,
            np.concatenate([maps[chosen], marked_maps[chosen]]),
            visible=preparation.visible,
        )
        masses = Masses(mass_inside(maps, self._watermark.box), mass_inside(marked_maps, self._watermark.box))
        with atomic_write(folder / "masses.json", mode="w") as file:
            json.dump(asdict(masses), file)
        result = replace(result, notes=self._notes(run, planted))
        save_result(folder, result, key=key)
        return result

    def _notes(self, run: Run, planted: Planted) -> dict[str, str]:
        settings, recipe = self._plan.settings, run.recipe
        return {
            "mode": settings.mode,
            "network": recipe.network,
            "epochs": f"{settings.epochs or recipe.training.epochs} of {recipe.training.epochs}",
            "precision": settings.precision,
            "training": f"{len(planted.task.nominal)} dogs, {planted.count} of them with the watermark; "
            f"{len(planted.foreign)} foreign photographs",
            "image_auroc": "of dogs against others, both in both versions",
        }


def _key(plan: "Plan", run: Run) -> str:
    """A digest of what a run depends on; files are taken by their folder, not their bytes."""
    settings = plan.settings
    said = (run, settings.mode, settings.epochs, settings.precision, plan.data.resolve().name)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _figures(finding: Finding) -> str:
    return (
        f"heatmap mass in the box {finding.mass_with:.1%}, AUROC {finding.auroc_without:.3f}, "
        f"watermark alone {finding.auroc_watermark:.3f}"
    )


def _refuse_unfit(plan: "Plan") -> None:
    name = plan.recipe.name
    if unfit := [method for method in plan.methods if method not in METHODS]:
        raise BlemishError(f"{name} is not for {unfit[0]}, which learns nothing from foreign images; use fcdd or hsc")
    if plan.classes not in ((), (CLASS,)):
        raise BlemishError(f"{name} has the one class {CLASS}; leave --classes out")
    if plan.outliers is not None:
        raise BlemishError(f"{name} takes its foreign photographs from --data; leave --outliers out")
