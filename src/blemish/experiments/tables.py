"""The table of an experiment: what was run, a method and a class a row, with the published figures beside it."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.experiments.published import Column, Measure, Published
from blemish.io.files import atomic_write

if TYPE_CHECKING:
    from blemish.experiments.results import Result

METHOD_NAMES = {"fcdd": "FCDD", "hsc": "HSC", "autoencoder": "autoencoder", "gaussian": "Gaussian"}
MEASURE_NAMES: dict[Measure, str] = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
# Gaussians on frozen features are FCDD with a fixed linear head: its published figures are what they are measured by.
COMPARED_WITH = {"gaussian": "fcdd"}


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the sample standard deviation, which a single run does not have."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Row:
    """One method on one class, or the mean of its class means.

    Attributes:
        label: the class, or "mean of 3 of 10 classes".
        seeds: how many this class has; of a mean, how many all of its classes have, and its deviations are over.
        figures: what was measured in every run.
        published: what others found for this method (see COMPARED_WITH) and this class, or over these classes.
    """

    method: str
    label: str
    is_mean: bool
    seeds: int
    figures: Mapping[Measure, Spread]
    published: Mapping[Column, float]


Heading = tuple[str, Measure]  # who published a figure, and of what


def table(results: Sequence["Result"], *, classes: Sequence[str], published: Published) -> list[Row]:
    """The rows of an experiment: each method's classes, then their mean where several were run.

    A class that was not run has no row and no part in a mean. `classes` are all there are, in the rows' order.
    """
    rows = []
    for method in dict.fromkeys(result.method for result in results):
        columns = [column for column in published.columns if column.method == COMPARED_WITH.get(method, method)]
        runs: dict[str, list[Result]] = {name: [] for name in classes}
        for result in results:
            if result.method == method:
                runs[result.nominal_class].append(result)
        runs = {name: of_class for name, of_class in runs.items() if of_class}
        rows += [_class_row(method, name, of_class, columns) for name, of_class in runs.items()]
        if len(runs) > 1:
            rows.append(_mean_row(method, runs, columns, complete=len(runs) == len(classes), of=len(classes)))
    return rows


def seed_means(runs: Mapping[str, Sequence["Result"]], measure: Measure) -> list[float]:
    """The mean over classes of each seed that all classes have, in the order of the seeds.

    `runs` are one method's results by class; all of them must have the measure.
    """
    by_class = [{run.seed: getattr(run, measure) for run in of_class} for of_class in runs.values()]
    seeds = set[int].intersection(*(set(values) for values in by_class))
    return [float(np.mean([values[seed] for values in by_class])) for seed in sorted(seeds)]


def _class_row(method: str, name: str, runs: Sequence["Result"], columns: Sequence[Column]) -> Row:
    figures = {measure: _spread([getattr(run, measure) for run in runs]) for measure in _measures(runs)}
    published = {column: column.figure(name) for column in columns}
    return Row(method, name, False, len(runs), figures, _known(published))


def _mean_row(
    method: str, runs: Mapping[str, Sequence["Result"]], columns: Sequence[Column], *, complete: bool, of: int
) -> Row:
    figures = {}
    for measure in _measures([run for of_class in runs.values() for run in of_class]):
        class_means = [np.mean([getattr(run, measure) for run in of_class]) for of_class in runs.values()]
        figures[measure] = Spread(float(np.mean(class_means)), _deviation(seed_means(runs, measure)))
    label = f"mean of {of} classes" if complete else f"mean of {len(runs)} of {of} classes"
    published = {column: column.mean if complete else _mean_over(column, list(runs)) for column in columns}
    return Row(method, label, True, len(seed_means(runs, "image_auroc")), figures, _known(published))


def _measures(runs: Sequence["Result"]) -> list[Measure]:
    return [measure for measure in MEASURE_NAMES if all(getattr(run, measure) is not None for run in runs)]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), _deviation(values))


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _mean_over(column: Column, names: Sequence[str]) -> float | None:
    figures = [figure for name in names if (figure := column.figure(name)) is not None]
    return float(np.mean(figures)) if len(figures) == len(names) else None


def _known(published: Mapping[Column, float | None]) -> dict[Column, float]:
    return {column: figure for column, figure in published.items() if figure is not None}


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows as a CSV file, AUROC as fractions, an empty field where there is no figure.

    Columns: method, class, seeds; each measure and its deviation, such as image_auroc and image_auroc_std; each
    published one, such as paper_image_auroc. Raises BlemishError where the file cannot be written.
    """
    measures, headings = _measured(rows), _headings(rows)
    names = ["method", "class", "seeds"]
    names += [f"{measure}{part}" for measure in measures for part in ("", "_std")]
    names += [f"{name}_{measure}" for name, measure in headings]
    with atomic_write(path, mode="w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(names)
        for row in rows:
            own = [value for measure in measures for value in _parts(row.figures.get(measure))]
            theirs = [_published_figure(row, heading) for heading in headings]
            rounded = ["" if value is None else round(value, 6) for value in [*own, *theirs]]
            lines.writerow([row.method, row.label, row.seeds, *rounded])


def markdown(rows: Sequence[Row], published: Published) -> str:
    """The rows as a Markdown table; below it where the published figures are from, and other methods' means."""
    measures, headings = _measured(rows), _headings(rows)
    names = ["method", "class", "seeds", *(MEASURE_NAMES[measure] for measure in measures)]
    names += [f"{name}, {MEASURE_NAMES[measure].split()[0]}" for name, measure in headings]
    lines = [names, ["---", "---", *["---:"] * (len(names) - 2)]]
    for row in rows:
        cells = [METHOD_NAMES[row.method], row.label.replace("|", "\\|"), str(row.seeds)]
        cells += [_measured_text(row.figures.get(measure)) for measure in measures]
        cells += [_published_text(_published_figure(row, heading)) for heading in headings]
        lines.append([f"**{cell}**" if row.is_mean and cell else cell for cell in cells])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = [*_source_notes(rows), *_other_methods(published)]
    return "\n\n".join([text, "AUROC: mean ± sample standard deviation over the seeds.", *notes]) + "\n"


def _measured(rows: Sequence[Row]) -> list[Measure]:
    return [measure for measure in MEASURE_NAMES if any(measure in row.figures for row in rows)]


def _headings(rows: Sequence[Row]) -> list[Heading]:
    return list(dict.fromkeys((column.name, column.measure) for row in rows for column in row.published))


def _parts(spread: Spread | None) -> tuple[float | None, float | None]:
    return (spread.mean, spread.deviation) if spread else (None, None)


def _published_figure(row: Row, heading: Heading) -> float | None:
    figures = [figure for column, figure in row.published.items() if (column.name, column.measure) == heading]
    return figures[0] if figures else None


def _measured_text(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.4f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")


def _published_text(figure: float | None) -> str:
    """With as many digits as were printed, which is two or four."""
    if figure is None:
        return ""
    return f"{figure:.2f}" if round(figure, 2) == figure else f"{figure:.4f}"


def _source_notes(rows: Sequence[Row]) -> list[str]:
    notes = dict.fromkeys(
        f"* {column.name}, {MEASURE_NAMES[column.measure]}: {column.source}."
        for row in rows
        for column in row.published
    )
    if any(row.method in COMPARED_WITH and row.published for row in rows):
        notes["* The published figures beside the Gaussians are FCDD's."] = None
    return ["\n".join(notes)] if notes else []


def _other_methods(published: Published) -> list[str]:
    unmatched = [column for column in published.columns if column.method not in METHOD_NAMES]
    if not unmatched:
        return []
    means = ", ".join(f"{column.method} {_published_text(column.mean)}" for column in unmatched)
    measure, source = MEASURE_NAMES[unmatched[0].measure], unmatched[0].source
    return [f"Published means of other methods over all classes, {measure}: {means} ({source})."]
