"""What each painted mask adds: a picture, and a Markdown table of the draws, from runs that are made already.

    python benchmarks/regimes.py --seeds 5 --csv docs/masks.csv              # and the same with --masks 1, 2, 5 and 10
    python benchmarks/mask_curve.py docs/masks.csv -o docs/masks.png

A draw is a seed, which decides which images are labelled; a draw of more masks includes that of fewer.
"""

import argparse
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blemish.errors import BlemishError
from blemish.experiments.plots import LEGEND, save
from blemish.report.plots import STYLE
from regimes import COLUMNS, METRICS, Book, Regime

MOST_MASKS = 100
PANELS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
COLOURS = ("#2a6fbb", "#d1692e", "#3b8f5a", "#8656a8")

Draws = dict[int, np.ndarray]  # masks of a defect type: figures (S, len(METRICS)) of S draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="runs that regimes.py kept")
    parser.add_argument("-o", "--output", type=Path, help="the picture, .png or .svg")
    options = parser.parse_args()
    try:
        curves = read_curves(options.csv)
        for line in table(curves):
            print(line)
        if options.output:
            save(picture(curves), options.output)
    except BlemishError as fault:
        parser.error(str(fault))


def read_curves(file: Path) -> dict[str, Draws]:
    """The draws of each data set. Raises BlemishError where the file has no run that is of masks alone, or of none."""
    if not file.exists():
        raise BlemishError(f"{file}: no such file; make it with regimes.py --csv")
    runs = Book.open(file).runs
    curves: dict[str, Draws] = {}
    for data in dict.fromkeys(name for name, *_ in runs):
        for masks in range(MOST_MASKS + 1):
            words = Regime(masks=masks).words(None)
            draws = {seed: figures for (name, regime, seed), figures in runs.items() if (name, regime) == (data, words)}
            if draws:
                figures = np.array([draws[seed] for seed in sorted(draws)])  # (S, len(COLUMNS))
                curves.setdefault(data, {})[masks] = figures[:, [COLUMNS.index(metric) for metric in METRICS]]
    if not curves:
        raise BlemishError(f"{file}: no run with all good images and masks alone; make some with regimes.py --csv")
    return curves


def table(curves: dict[str, Draws]) -> Iterator[str]:
    """Every draw's figures, with mean and sample standard deviation."""
    yield f"| data | masks a type | {' | '.join(f'{name} of the draws | mean' for name in PANELS.values())} |"
    yield f"|---|---:|{'---|---|' * len(PANELS)}"
    for data, draws in curves.items():
        for masks, figures in draws.items():
            columns = [figures[:, METRICS.index(metric)] for metric in PANELS]
            yield f"| {data} | {masks} | {' | '.join(f'{_each(one)} | {_mean(one)}' for one in columns)} |"


def picture(curves: dict[str, Draws]) -> Figure:
    """A panel each for images and pixels: a dot a draw, a line through the means, a band of one deviation."""
    every = sorted({masks for draws in curves.values() for masks in draws})
    with rc_context(STYLE):
        page = Figure(figsize=(8.0, 3.4), layout="constrained")
        row = page.subplots(1, len(PANELS))
        for axes, (metric, name) in zip(row, PANELS.items(), strict=True):
            for data, colour in zip(curves, cycle(COLOURS)):
                values = {masks: figures[:, METRICS.index(metric)] for masks, figures in curves[data].items()}
                _curve(axes, values, places=[every.index(masks) for masks in values], colour=colour, label=data)
            axes.set(xlabel="masks of each defect type", ylabel=name, xticks=range(len(every)), xticklabels=every)
            axes.set_ylim(top=1)
            axes.grid(axis="y", linewidth=0.4, alpha=0.4)
        row[-1].legend(loc="lower right", **LEGEND)
        return page


def _curve(axes: Axes, values: dict[int, np.ndarray], *, places: list[int], colour: str, label: str) -> None:
    means = np.array([draws.mean() for draws in values.values()])
    spreads = np.array([draws.std(ddof=1) if len(draws) > 1 else 0 for draws in values.values()])
    axes.fill_between(places, means - spreads, (means + spreads).clip(max=1), color=colour, alpha=0.15, linewidth=0)
    axes.plot(places, means, color=colour, label=label.replace("_", " "))
    for place, draws in zip(places, values.values(), strict=True):
        axes.plot([place] * len(draws), draws, "o", color=colour, markersize=3, alpha=0.7, clip_on=False)


def _each(values: np.ndarray) -> str:
    return " ".join(_short(value) for value in values)


def _mean(values: np.ndarray) -> str:
    return _short(values.mean()) + (f" ± {_short(values.std(ddof=1))}" if len(values) > 1 else "")


def _short(value: float) -> str:
    """Three digits, without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")


if __name__ == "__main__":
    main()
