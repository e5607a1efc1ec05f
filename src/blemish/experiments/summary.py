"""What an experiment shows in the end: its table, ROC and training curves, and the paper's pictures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.experiments import plots
from blemish.experiments.pictures import combined_picture
from blemish.experiments.published import Measure, Published, published
from blemish.experiments.recipe import Ablation, MethodName, Recipe
from blemish.experiments.results import Result
from blemish.experiments.runs import Run, file_name
from blemish.experiments.tables import MEASURE_NAMES, METHOD_NAMES, markdown, seed_means, table, write_csv
from blemish.io.files import atomic_write, make_folder

CompletedRuns = Sequence[tuple[Run, Result]]
SCALES: tuple[Literal["local", "global"], ...] = ("local", "global")
# In the order of the paper's pictures.
PICTURE_ROWS: dict[MethodName, str] = {
    "fcdd": "FCDD",
    "hsc": "gradient (HSC)",
    "autoencoder": "autoencoder",
    "gaussian": "Gaussian",
}


def summarise(
    recipe: Recipe, completed: CompletedRuns, *, classes: Sequence[str], output: Path
) -> tuple[dict[str, str], str]:
    """Writes table.csv, table.md, the plots and the pictures of the runs at hand.

    Args:
        recipe: the experiment.
        completed: runs and their results.
        classes: all classes of the data set, in order.
        output: the folder to write to.

    Returns:
        Names and paths of what was written, and the table as text.
    """
    figures = published(recipe.published or recipe.name)
    if recipe.vary is not None:
        return _ablation(recipe, completed, figures, output)
    results = [result for _, result in completed]
    rows = table(results, classes=classes, published=figures)
    text = f"{markdown(rows, figures)}\n{_conditions(results)}"
    write_csv(rows, output / "table.csv")
    with atomic_write(output / "table.md", mode="w") as file:
        file.write(f"# {recipe.title}\n\n{text}")
    plots.save(plots.mean_roc(results), output / "mean-roc.png")
    for method in dict.fromkeys(result.method for result in results):
        of_method = [result for result in results if result.method == method]
        plots.save(plots.class_rocs(of_method), output / f"roc-{method}.png")
        if any(result.curve for result in of_method):
            plots.save(plots.training_curves(of_method), output / f"training-{method}.png")
    _pictures(recipe, completed, output)
    return written_to(output), text


def written_to(output: Path) -> dict[str, str]:
    """Names and paths of what every experiment leaves in its folder."""
    return {"table": str(output / "table.csv"), "markdown": str(output / "table.md"), "folder": str(output)}


def _conditions(results: Sequence[Result]) -> str:
    """How the runs were completed, a line a method: what a reader must know to judge the figures."""
    lines = dict.fromkeys(
        f"* {METHOD_NAMES[result.method]}: {', '.join(f'{name} {value}' for name, value in result.notes.items())}."
        for result in results
    )
    return "\n".join(["How these runs were completed:", "", *lines]) + "\n"


def _ablation(recipe: Recipe, completed: CompletedRuns, figures: Published, output: Path) -> tuple[dict[str, str], str]:
    """Of each method and measure a curve over the values of the setting that the recipe varies."""
    assert recipe.vary is not None
    text = [f"# {recipe.title}", "", f"| {recipe.vary.title} | method | measure | AUROC | published |"]
    text.append("| ---: | --- | --- | ---: | ---: |")
    for method in dict.fromkeys(run.method for run, _ in completed):
        for measure, name in MEASURE_NAMES.items():
            aurocs_by_setting = _by_setting(
                recipe.vary, [pair for pair in completed if pair[0].method == method], measure
            )
            if not aurocs_by_setting:
                continue
            # The paper varies FCDD only. What was not read in print is in the plot, as such, and in no table.
            curves = [curve for curve in figures.curves if curve.measure == measure and method == "fcdd"]
            page = plots.ablation(aurocs_by_setting, x=recipe.vary.title, measure=measure, curves=curves)
            plots.save(page, output / f"{measure}-{method}.png")
            known = {x: f"{auroc:.4f}" for curve in curves if curve.checked for x, auroc in curve.points}
            for x, aurocs in aurocs_by_setting.items():
                cells = (f"{x:g}", METHOD_NAMES[method], name, f"{np.mean(aurocs):.4f}", known.get(x, ""))
                text.append(f"| {' | '.join(cells)} |")
    _write_runs(completed, output / "table.csv")
    with atomic_write(output / "table.md", mode="w") as file:
        file.write("\n".join(text) + "\n")
    return written_to(output), "\n".join(text)


def _write_runs(completed: CompletedRuns, path: Path) -> None:
    """A line a run; an empty field where there is no figure."""
    with atomic_write(path, mode="w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["setting", "method", "class", "seed", *MEASURE_NAMES])
        for run, result in completed:
            figures = [getattr(result, measure) for measure in MEASURE_NAMES]
            rounded = ["" if figure is None else f"{figure:.6f}" for figure in figures]
            lines.writerow([run.variant, run.method, run.nominal_class, run.seed, *rounded])


def _by_setting(vary: Ablation, completed: CompletedRuns, measure: Measure) -> dict[float, list[float]]:
    """Of every value of the setting one method's AUROC of each seed that all classes have, averaged over them."""
    aurocs_by_setting = {}
    for value in vary.settings():
        by_class: dict[str, list[Result]] = {}
        for run, result in completed:
            if run.variant == value.label:
                by_class.setdefault(run.nominal_class, []).append(result)
        measured = all(getattr(result, measure) is not None for of_class in by_class.values() for result in of_class)
        if by_class and measured and (aurocs := seed_means(by_class, measure)):
            aurocs_by_setting[value.x] = aurocs
    return aurocs_by_setting


def _pictures(recipe: Recipe, completed: CompletedRuns, output: Path) -> None:
    """Two pictures a class, of the smallest seed at hand: heatmaps in colours of their own, and in common ones."""
    folder = output / "pictures"
    make_folder(folder)
    for name in dict.fromkeys(run.nominal_class for run, _ in completed):
        of_class = [(run, result) for run, result in completed if run.nominal_class == name]
        seed = min(run.seed for run, _ in of_class)
        by_method = {run.method: (run.folder(output), result) for run, result in of_class if run.seed == seed}
        rows = _rows({method: run_folder for method, (run_folder, _) in by_method.items()})
        run_folder, result = next(iter(by_method.values()))
        with np.load(run_folder / "heatmaps.npz") as content:
            shown = content["indices"]
        for scale in SCALES:
            picture: Image.Image = combined_picture(
                rows,
                kinds=[result.kinds[index] for index in shown],
                nominal=int((~result.anomalous[shown]).sum()),
                scale=scale,
                quantile=recipe.quantile,
            )
            with atomic_write(folder / f"{file_name(name)}-{scale}.png") as file:
                picture.save(file, format="PNG")


def _rows(folders: Mapping[MethodName, Path]) -> dict[str, Sequence[NDArray[Any]]]:
    """The rows of a picture in the paper's order: input, the heatmaps of the methods at hand, masks."""
    rows: dict[str, Sequence[NDArray[Any]]] = {"input": ()}  # all methods show the same images
    masks: Sequence[NDArray[Any]] = ()
    for method, label in PICTURE_ROWS.items():
        if method in folders:
            with np.load(folders[method] / "heatmaps.npz") as content:
                places = range(len(content["indices"]))
                rows["input"] = [_viewable(content[f"image-{place}"]) for place in places]
                rows[label] = list(content["maps"].astype(np.float32))
                masks = [content[f"mask-{place}"] for place in places if f"mask-{place}" in content]
    return rows | ({"ground truth": masks} if masks else {})


def _viewable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., 0] if image.shape[-1] == 1 else image
