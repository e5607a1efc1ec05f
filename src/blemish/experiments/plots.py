"""The plots of an experiment: ROC curves, training curves, and an ablation beside the published one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blemish.evaluation.metrics import roc_curve
from blemish.experiments.published import Curve, Measure
from blemish.experiments.tables import MEASURE_NAMES, METHOD_NAMES
from blemish.io.files import atomic_write

if TYPE_CHECKING:
    from blemish.experiments.results import Result

INK = "#0a0b0c"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "blemish",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
FALSE_POSITIVE_RATES = np.arange(1001) / 1000  # not linspace: 3 of 10 has to equal the rate 0.3
RATES: Any = {"xlim": (0, 1), "ylim": (0, 1), "xlabel": "false positive rate", "ylabel": "true positive rate"}
LEGEND: Any = {"frameon": False, "fontsize": 8}


def save(page: Figure, path: Path) -> None:
    """Writes a plot as the file's ending says: .svg or .png. Raises BlemishError where it cannot be written."""
    kind = path.suffix.removeprefix(".")
    undated = {"Date": None} if kind == "svg" else {}
    with matplotlib.rc_context(STYLE), atomic_write(path) as file:
        page.savefig(file, format=kind, dpi=160, metadata=undated)


def class_rocs(results: Sequence["Result"]) -> Figure:
    """One method's image-level ROC curves: a thin line a run, a colour a class, its mean AUROC in the legend."""
    by_class = _grouped(results, "nominal_class")
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = page.subplots()
        for (name, runs), colour in zip(by_class.items(), _colours(len(by_class)), strict=True):
            label = f"{name} {np.mean([run.image_auroc for run in runs]):.3f}"
            for run in runs:
                curve = roc_curve(run.anomalous, run.scores)
                axes.plot(
                    curve.false_positive_rate, curve.true_positive_rate,
                    color=colour, linewidth=0.8, alpha=0.9, label=label, clip_on=False,
                )  # fmt: skip
                label = "_"  # one entry in the legend a class
        _finish_roc(axes, title=_method_title(results))
        _legend_beside(axes, title="mean AUROC")
        return page


def mean_roc(results: Sequence["Result"]) -> Figure:
    """Each method's mean image-level ROC curve over all its runs, with one standard deviation above and below.

    Averaged vertically, see `true_positive_rates`: the area under the mean curve is the runs' mean AUROC.
    """
    by_method = _grouped(results, "method")
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes = page.subplots()
        for (method, runs), colour in zip(by_method.items(), _colours(len(by_method)), strict=True):
            rates = true_positive_rates(runs)  # (R, 1001)
            mean, deviation = rates.mean(0), rates.std(0, ddof=1 if len(runs) > 1 else 0)
            aurocs = [run.image_auroc for run in runs]
            label = f"{METHOD_NAMES[method]} {np.mean(aurocs):.3f}, {len(runs)} run{'s' * (len(runs) > 1)}"
            # Every curve starts at (0, 0), also where some images outscore all nominal ones.
            axes.plot(np.append(0, FALSE_POSITIVE_RATES), np.append(0, mean), color=colour, label=label, clip_on=False)
            axes.fill_between(
                FALSE_POSITIVE_RATES, (mean - deviation).clip(0), (mean + deviation).clip(max=1),
                color=colour, alpha=0.18, linewidth=0,
            )  # fmt: skip
        _finish_roc(axes, title="mean ROC ± standard deviation over runs")
        axes.legend(loc="lower right", title="mean AUROC", title_fontsize=8, **LEGEND)
        return page


def true_positive_rates(results: Sequence["Result"]) -> NDArray[np.float64]:
    """Every run's ROC curve read off at FALSE_POSITIVE_RATES: (R, 1001).

    Where a curve rises vertically its top counts: what is found at that false positive rate or less. Ties are
    straight lines, as in the AUROC.
    """
    return np.stack([_read_off(run.anomalous, run.scores) for run in results])


def _read_off(anomalous: NDArray[np.bool_], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    curve = roc_curve(anomalous, scores)
    x, y = curve.false_positive_rate, curve.true_positive_rate
    # Not np.interp: at a vertical step, where x repeats, its answer is undefined.
    before = np.searchsorted(x, FALSE_POSITIVE_RATES, side="right") - 1  # the top of a step
    after = np.minimum(before + 1, x.size - 1)
    run = np.where(after > before, x[after] - x[before], 1)
    return y[before] + (y[after] - y[before]) * (FALSE_POSITIVE_RATES - x[before]) / run


def training_curves(results: Sequence["Result"]) -> Figure:
    """One method's loss over the epochs, and the test AUROCs where measured: a line a class, the mean of its runs."""
    by_class = _grouped(results, "nominal_class")
    panels = {"loss": "training loss"} | MEASURE_NAMES
    lines = {
        quantity: {name: line for name, runs in by_class.items() if (line := _over_epochs(runs, quantity))}
        for quantity in panels
    }
    shown = [quantity for quantity in panels if lines[quantity]]
    colours = dict(zip(by_class, _colours(len(by_class)), strict=True))
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(1.6 + 3.6 * len(shown), 3.4), layout="constrained")
        row = page.subplots(1, len(shown), squeeze=False)[0]
        for axes, quantity in zip(row, shown, strict=True):
            for name, line in lines[quantity].items():
                style = "o-" if len(line) < 20 else "-"
                axes.plot(list(line), list(line.values()), style, color=colours[name], label=name, markersize=3)
            axes.set(xlabel="epoch", ylabel=panels[quantity])
            axes.xaxis.get_major_locator().set_params(integer=True)
        page.suptitle(_method_title(results), fontsize=10)
        _legend_beside(row[-1])
        return page


def _over_epochs(runs: Sequence["Result"], quantity: str) -> dict[int, float]:
    """Epoch -> mean over the runs that have a value there."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for point in run.curve:
            if (value := getattr(point, quantity)) is not None:
                values.setdefault(point.epoch, []).append(value)
    return {epoch: float(np.mean(figures)) for epoch, figures in sorted(values.items())}


def ablation(
    aurocs_by_setting: Mapping[float, Sequence[float]], *, x: str, measure: Measure, curves: Sequence[Curve] = ()
) -> Figure:
    """AUROC over the values of a setting: mean ± standard deviation over seeds, beside the published points.

    Args:
        aurocs_by_setting: for every value of the setting the AUROC of each seed.
        x: what the setting is, with its unit.
        curves: published ones; points that were not checked are hollow.
    """
    settings = sorted(aurocs_by_setting)
    means = [np.mean(aurocs_by_setting[setting]) for setting in settings]
    deviations = [
        float(np.std(aurocs, ddof=1)) if len(aurocs := aurocs_by_setting[setting]) > 1 else 0.0 for setting in settings
    ]
    ours, theirs = _colours(2)
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = page.subplots()
        for curve in curves:
            label, fill = ("paper", theirs) if curve.checked else ("paper, unchecked", "none")
            places, aurocs = zip(*curve.points, strict=True)
            axes.plot(places, aurocs, "s", color=theirs, markerfacecolor=fill, markersize=5, label=label)
        axes.errorbar(settings, means, deviations, fmt="o-", color=ours, markersize=4, capsize=3, label="this run")
        axes.set(xlabel=x, ylabel=MEASURE_NAMES[measure])
        if settings[0] > 0 and settings[-1] >= 30 * settings[0]:
            axes.set_xscale("log", base=2)
        axes.legend(**LEGEND)
        return page


def _grouped(results: Iterable["Result"], attribute: str) -> dict[str, list["Result"]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(getattr(result, attribute), []).append(result)
    return groups


def _colours(number: int) -> list[Any]:
    if number <= 10:
        return list(matplotlib.colormaps["tab10"].colors[:number])  # type: ignore[attr-defined]
    if number <= 20:
        return list(matplotlib.colormaps["tab20"].colors[:number])  # type: ignore[attr-defined]
    return list(matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, number)))


def _method_title(results: Sequence["Result"]) -> str:
    return ", ".join(METHOD_NAMES[method] for method in _grouped(results, "method"))


def _finish_roc(axes: Axes, *, title: str) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.6, linestyle=(0, (2, 3)))
    axes.set(aspect="equal", **RATES)
    axes.set_title(title, fontsize=10)


def _legend_beside(axes: Axes, *, title: str = "") -> None:
    columns = 1 + (len(axes.get_legend_handles_labels()[0]) - 1) // 20
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), ncols=columns, title=title, title_fontsize=8,
        alignment="left", **LEGEND,
    )  # fmt: skip
