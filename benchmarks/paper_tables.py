"""Tables of docs/paper.md from docs/paper_runs.csv, between markers: `<!-- runs:NAME -->` to `<!-- /runs:NAME -->`."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError
from blemish.experiments.published import Measure, published
from paper_book import PaperRun

NOTHING = ""
WHOLE_PHOTOGRAPHS = "outliers of photographs"  # on CIFAR-10: docs/paper.md says why they are poor


@dataclass(frozen=True)
class Column:
    """A figure of each class.

    Attributes:
        figures: by class.
        printed: they are published, with two or four digits.
        mean: over all published classes, as printed.
        deviations: sample standard deviations over seeds, of classes with several runs.
    """

    figures: Mapping[str, float]
    printed: bool = False
    mean: float | None = None
    deviations: Mapping[str, float] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The figure of a class, with its deviation; empty where there is none."""
        deviation = f" ± {self.deviations[name]:.3f}" if name in self.deviations else NOTHING
        return self._text(self.figures.get(name)) + deviation

    def mean_text(self, names: Sequence[str]) -> str:
        """The mean over classes; empty where one of them is missing."""
        if self.mean is not None and set(names) == set(self.figures):
            return self._text(self.mean)
        known = [self.figures[name] for name in names if name in self.figures]
        return f"{np.mean(known):.3f}" if known and len(known) == len(names) else NOTHING

    def _text(self, figure: float | None) -> str:
        if figure is None:
            return NOTHING
        return f"{figure:.2f}" if self.printed and round(figure, 2) == figure else f"{figure:.3f}"


Runs = Sequence[PaperRun]


def write(runs: Runs, document: Path) -> None:
    """Writes the tables into a document. Raises BlemishError for a marker that no table is for."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise BlemishError(f"{document}: there is no table called {name}; there are {', '.join(TABLES)}")
        lines = list(TABLES[name](runs)) or ["No runs yet."]
        return "\n".join([f"<!-- runs:{name} -->", "", *lines, "", f"<!-- /runs:{name} -->"])

    pattern = r"<!-- runs:(\S+) -->.*?<!-- /runs:\1 -->"
    text = re.sub(pattern, table, document.read_text(encoding="utf-8"), flags=re.DOTALL)
    document.write_text(text, encoding="utf-8")


def fashion_mnist(runs: Runs) -> Iterator[str]:
    """Image AUROC of every class and method beside the paper's and the rerun's."""
    columns = [
        ("FCDD", _ours(runs, "fashion-mnist", "fcdd")),
        ("paper", _theirs("fashion-mnist", "fcdd")),
        ("rerun", _theirs("fashion-mnist", "fcdd", who="rerun")),
        ("HSC", _ours(runs, "fashion-mnist", "hsc")),
        ("autoencoder", _ours(runs, "fashion-mnist", "autoencoder")),
        ("paper's", _theirs("fashion-mnist", "autoencoder")),
        ("`gaussian`", _ours(runs, "fashion-mnist", "gaussian")),
    ]
    yield from _by_class(_classes(runs, "fashion-mnist"), columns)


def cifar10(runs: Runs) -> Iterator[str]:
    """Image AUROC of every class and method beside the paper's; without the runs on whole photographs."""
    runs = [run for run in runs if run.anomalies != WHOLE_PHOTOGRAPHS]
    columns = []
    for name, method in (("FCDD", "fcdd"), ("HSC", "hsc"), ("autoencoder", "autoencoder"), ("`gaussian`", "gaussian")):
        if any((run.experiment, run.method) == ("cifar10", method) for run in runs):
            columns.append((name, _ours(runs, "cifar10", method)))
            if method != "gaussian":
                columns.append((f"{name}, paper", _theirs("cifar10", method)))
    yield from _by_class(_classes(runs, "cifar10"), columns)


def mvtec(runs: Runs) -> Iterator[str]:
    """Pixel and image AUROC of each set with confetti, and with a mask of each defect type."""
    settings = ("mvtec", "mvtec-semi")
    sets = sorted({name for setting in settings for name in _classes(runs, setting)}, key=_paper_first)
    columns: list[tuple[str, Column]] = []
    measures: dict[Measure, str] = {"pixel_auroc": "pixel", "image_auroc": "image"}
    for measure, word in measures.items():
        for setting, how in zip(settings, ("confetti", "masks"), strict=True):
            columns.append((f"{word}, {how}", _ours(runs, setting, "fcdd", measure)))
            who = "paper" if measure == "pixel_auroc" else "rerun"
            columns.append((who, _theirs(setting, "fcdd", measure, who=who)))
    common = [name for name in sets if _paper_first(name)[0] == 0]
    means = {f"mean of {len(sets)} sets": sets}
    if 1 < len(common) < len(sets):
        means[f"mean of {' and '.join(common)}"] = common
    yield from _by_class(sets, columns, head="set", means=means)


def planted(runs: Runs) -> Iterator[str]:
    """Of each share of watermarked training dogs the means over seeds, with their deviations."""
    found = [run for run in runs if run.experiment == "planted-cue"]
    yield _line("training dogs with the watermark", "seeds", "heatmap mass in its box, without", "with it", "AUROC",
                "dogs marked", "watermark alone")  # fmt: skip
    yield _line("---:", *["---:"] * 6)
    for variant in sorted({run.variant for run in found}, key=_value):
        of_share = [run for run in found if run.variant == variant]
        cells = [f"{100 * _value(variant):.0f} %", str(len(of_share))]
        cells += [_spread([getattr(run, name) for run in of_share], percent=True) for name in _MASSES]
        cells += [_spread([getattr(run, name) for run in of_share]) for name in _AUROCS]
        yield _line(*cells)


def outliers(runs: Runs) -> Iterator[str]:
    """Image AUROC on CIFAR-10 over the number of outliers; all of them are in the runs of `cifar10`."""
    all_of_them = [
        replace(run, experiment="cifar10-outliers", variant=f"limit-{math.inf}")
        for run in runs
        if run.experiment == "cifar10" and run.anomalies != WHOLE_PHOTOGRAPHS
    ]
    found = [run for run in runs if run.experiment == "cifar10-outliers"]
    alike = {(run.nominal_class, run.epochs) for run in found}
    found += [run for run in all_of_them if (run.nominal_class, run.epochs) in alike]
    yield from _over_values(found, "image_auroc", head="outliers")


def sigma(runs: Runs) -> Iterator[str]:
    """Pixel AUROC over the width of the upsampling Gaussian."""
    found = [run for run in runs if run.experiment == "mvtec-sigma"]
    yield from _over_values(found, "pixel_auroc", head="σ, pixels", curve="mvtec-sigma")


TABLES: dict[str, Callable[[Runs], Iterable[str]]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "mvtec": mvtec,
    "planted": planted,
    "outliers": outliers,
    "sigma": sigma,
}
_MASSES = ("mass_without", "mass_with")
_AUROCS = ("image_auroc", "auroc_with", "auroc_watermark")


def _ours(runs: Runs, experiment: str, method: str, measure: Measure = "image_auroc") -> Column:
    """The figure of each class: the mean over seeds of its longest runs, and the deviation of several."""
    figures: dict[str, float] = {}
    deviations: dict[str, float] = {}
    for name in _classes(runs, experiment):
        found = [run for run in runs if (run.experiment, run.nominal_class, run.method) == (experiment, name, method)]
        longest = max((run.epochs or 0 for run in found), default=0)
        values = [getattr(run, measure) for run in found if (run.epochs or 0) == longest]
        if values and None not in values:
            figures[name] = float(np.mean(values))
            if len(values) > 1:
                deviations[name] = float(np.std(values, ddof=1))
    return Column(figures, deviations=deviations)


def _theirs(experiment: str, method: str, measure: Measure = "image_auroc", *, who: str = "paper") -> Column:
    """The published figure of each class."""
    for column in published(experiment).columns:
        if (column.method, column.measure, column.name) == (method, measure, who):
            return Column(column.by_class, printed=True, mean=column.mean)
    return Column({})


def _classes(runs: Runs, experiment: str) -> list[str]:
    """The classes that were run, in the published order."""
    found = {run.nominal_class for run in runs if run.experiment == experiment}
    order = [name for column in published(experiment).columns for name in column.by_class]
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def _paper_first(name: str) -> tuple[int, str]:
    """Sorts the sets that the paper has too before those that it has not."""
    return int(name not in _theirs("mvtec", "fcdd", "pixel_auroc").figures), name


def _by_class(
    classes: Sequence[str],
    columns: Sequence[tuple[str, Column]],
    *,
    head: str = "class",
    means: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[str]:
    """A class a row, and the mean of each column that has all of the classes."""
    if not classes:
        return
    yield _line(head, *(name for name, _ in columns))
    yield _line("---", *["---:"] * len(columns))
    for name in classes:
        yield _line(name, *(column.text(name) for _, column in columns))
    for label, members in (means or {"mean": classes}).items():
        cells = [column.mean_text(members) for _, column in columns]
        yield _line(f"**{label}**", *(f"**{cell}**" if cell else NOTHING for cell in cells))


def _over_values(runs: Runs, measure: Measure, *, head: str, curve: str = "") -> Iterator[str]:
    """A value of an ablation a row and FCDD's figure of each class, their mean, and what is published."""
    runs = [run for run in runs if run.method == "fcdd"]
    if not runs:
        return
    classes = sorted({run.nominal_class for run in runs})
    points = {x: y for one in published(curve).curves if one.checked for x, y in one.points}
    yield _line(head, *classes, "mean", *(["paper, all sets"] if points else []))
    yield _line("---:", *["---:"] * (len(classes) + 1 + bool(points)))
    for value in sorted({_value(run.variant) for run in runs}):
        column = _ours([run for run in runs if _value(run.variant) == value], runs[0].experiment, "fcdd", measure)
        theirs = [f"{points[value]:.3f}" if value in points else NOTHING] if points else []
        label = f"{value:g}" if math.isfinite(value) else "all"
        yield _line(label, *(column.text(name) for name in classes), column.mean_text(classes), *theirs)


def _value(variant: str) -> float:
    """The value in the name of a variant, such as 4 of "sigma-4.0" and 0.2 of "watermark-0.2"."""
    return float(variant.split("-", 1)[1])


def _spread(values: Sequence[float | None], *, percent: bool = False) -> str:
    """The mean and, of several, the sample standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    factor, digits = (100, 1) if percent else (1, 3)
    deviation = f" ± {factor * np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else NOTHING
    return f"{factor * np.mean(known):.{digits}f}{deviation}" + " %" * percent


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
