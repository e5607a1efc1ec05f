"""What an experiment shows in the end: its table, ROC and training curves, and the paper's pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.experiments import plots
from blemish.experiments.pictures import combined_picture
from blemish.experiments.published import Published, published
from blemish.experiments.recipe import Recipe
from blemish.experiments.runs import Run
from blemish.experiments.tables import MEASURE_NAMES, METHOD_NAMES, markdown, table, write_csv
from blemish.experiments.trial import Result
from blemish.files import atomic_write, make_folder

Made = Sequence[tuple[Run, Result]]


def summarise(recipe: Recipe, made: Made, *, classes: Sequence[str], output: Path) -> tuple[dict[str, str], str]:
    """Writes table.csv, table.md, the plots and the pictures of the runs at hand.

    Args:
        recipe: the experiment.
        made: runs and their results.
        classes: all classes of the data set, in order.
        output: the folder to write to.

    Returns:
        Names and paths of what was written, and the table as text.
    """
    figures = published(recipe.published or recipe.name)
    if recipe.vary is not None:
        return _ablation(recipe, made, figures, output)
    results = [result for _, result in made]
    rows = table(results, classes=classes, published=figures)
    text = markdown(rows, figures)
    write_csv(rows, output / "table.csv")
    with atomic_write(output / "table.md", mode="w") as file:
        file.write(f"# {recipe.title}\n\n{text}")
    plots.save(plots.mean_roc(results), output / "mean-roc.png")
    for method in dict.fromkeys(result.method for result in results):
        some = [result for result in results if result.method == method]
        plots.save(plots.class_rocs(some), output / f"roc-{method}.png")
        if any(result.curve for result in some):
            plots.save(plots.training_curves(some), output / f"training-{method}.png")
    _pictures(recipe, made, output)
    return {"table": str(output / "table.csv"), "markdown": str(output / "table.md"), "folder": str(output)}, text


def _ablation(recipe: Recipe, made: Made, figures: Published, output: Path) -> tuple[dict[str, str], str]:
    """A curve over the values of the setting that the recipe varies, for each measure."""
    assert recipe.vary is not None
    lines = ["setting,method,class,seed,image_auroc,pixel_auroc"]
    for run, result in made:
        pixel = "" if result.pixel_auroc is None else f"{result.pixel_auroc:.6f}"
        lines.append(f"{run.variant},{run.method},{run.nominal_class},{run.seed},{result.image_auroc:.6f},{pixel}")
    with atomic_write(output / "table.csv", mode="w") as file:
        file.write("\n".join(lines) + "\n")
    x = recipe.vary.title
    text = [f"# {recipe.title}", ""]
    for measure in MEASURE_NAMES:
        found = _by_setting(recipe, made, measure)
        if not found:
            continue
        curves = [curve for curve in figures.curves if curve.measure == measure]
        plots.save(plots.ablation(found, x=x, measure=measure, curves=curves), output / f"{measure}.png")
        known = {point: auroc for curve in curves for point, auroc in curve.points}
        text += [f"| {x} | {MEASURE_NAMES[measure]} | published |", "| ---: | ---: | ---: |"]
        text += [f"| {value:g} | {np.mean(some):.4f} | {known.get(value, '')} |" for value, some in found.items()]
        text.append("")
    with atomic_write(output / "table.md", mode="w") as file:
        file.write("\n".join(text))
    written = {"table": str(output / "table.csv"), "markdown": str(output / "table.md"), "folder": str(output)}
    return written, "\n".join(text)


def _by_setting(recipe: Recipe, made: Made, measure: Any) -> dict[float, list[float]]:
    """Of every value of the setting the AUROC of each seed, averaged over the classes."""
    assert recipe.vary is not None
    found: dict[float, list[float]] = {}
    for value in recipe.vary.settings():
        of_value = [(run, getattr(result, measure)) for run, result in made if run.variant == value.label]
        if not of_value or any(figure is None for _, figure in of_value):
            continue
        seeds = sorted({run.seed for run, _ in of_value})
        found[value.x] = [float(np.mean([f for run, f in of_value if run.seed == seed])) for seed in seeds]
    return found


def _pictures(recipe: Recipe, made: Made, output: Path) -> None:
    """A picture a class of the first seed at hand: input, each method's heatmaps, masks; local and global colours."""
    folder = output / "pictures"
    make_folder(folder)
    for name in dict.fromkeys(run.nominal_class for run, _ in made):
        rows: dict[str, Sequence[NDArray[Any]]] = {}
        masks: Sequence[NDArray[Any]] = ()
        kinds: list[str] = []
        nominal = 0
        for run, result in made:
            if run.nominal_class != name or run.seed or METHOD_NAMES[run.method] in rows:
                continue
            with np.load(run.folder(output) / "heatmaps.npz") as content:
                shown = content["indices"]
                rows.setdefault("input", [_viewable(content[f"image-{i}"]) for i in range(len(shown))])
                rows[METHOD_NAMES[run.method]] = list(content["maps"].astype(np.float32))
                if "mask-0" in content:
                    masks = [content[f"mask-{i}"] for i in range(len(shown))]
            kinds = [result.kinds[index] for index in shown]
            nominal = int((~result.anomalous[shown]).sum())
        if masks:
            rows["ground truth"] = masks
        for scale in ("local", "global"):
            picture: Image.Image = combined_picture(
                rows, kinds=kinds, nominal=nominal, scale=scale, quantile=recipe.quantile
            )
            with atomic_write(folder / f"{name.replace('/', '-')}-{scale}.png") as file:
                picture.save(file, format="PNG")


def _viewable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., 0] if image.shape[-1] == 1 else image
