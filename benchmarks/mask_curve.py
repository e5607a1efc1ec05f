"""What each painted mask adds: a picture, and a Markdown table of the draws, from runs that are made already.

    python benchmarks/regimes.py --seeds 5 --csv docs/masks.csv              # and the same with --masks 1, 2, 5 and 10
    python benchmarks/mask_curve.py docs/masks.csv -o docs/masks.png

A draw is a seed, which decides which images are labelled; a draw of more masks includes that of fewer.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blemish.errors import BlemishError
from blemish.experiments.plots import LEGEND, STYLE, save
from regimes import COLUMNS, Book, Regime, spread

PANELS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}

Draws = dict[int, np.ndarray]  # masks of a defect type, in order: figures (S, len(COLUMNS)) of S draws


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
    found: dict[str, dict[int, list[list[float]]]] = {}
    for (data, regime, _), figures in sorted(Book.open(file).runs.items(), key=lambda run: run[0][2]):
        masks = masks_of(regime)
        if masks is not None:
            found.setdefault(data, {}).setdefault(masks, []).append(figures)
    curves = {data: {masks: np.array(draws[masks]) for masks in sorted(draws)} for data, draws in found.items()}
    if not curves:
        raise BlemishError(f"{file}: no run with all good images and masks alone; make some with regimes.py --csv")
    return curves


def masks_of(regime: str) -> int | None:
    """The masks of a defect type in a run's words; None where the run is of anything else as well."""
    numbers = [0, *(int(number) for number in re.findall(r"\d+", regime))]
    return next((number for number in numbers if Regime(masks=number).words(None) == regime), None)


def table(curves: dict[str, Draws]) -> Iterator[str]:
    """Every draw's figures, with mean and sample standard deviation."""
    yield f"| data | masks a type | {' | '.join(f'{name} of the draws | mean' for name in PANELS.values())} |"
    yield f"|---|---:|{'---|---|' * len(PANELS)}"
    for data, draws in curves.items():
        for masks, figures in draws.items():
            columns = [figures[:, COLUMNS.index(metric)] for metric in PANELS]
            yield f"| {data} | {masks} | {' | '.join(f'{_each(one)} | {_short(spread(one))}' for one in columns)} |"


def picture(curves: dict[str, Draws]) -> Figure:
    """A panel each for images and pixels: a dot a draw, a line through the means, a band of one deviation."""
    every = sorted({masks for draws in curves.values() for masks in draws})
    with rc_context(STYLE):
        page = Figure(figsize=(8.0, 3.4), layout="constrained")
        row = page.subplots(1, len(PANELS))
        for axes, (metric, name) in zip(row, PANELS.items(), strict=True):
            for data, draws in curves.items():
                values = [figures[:, COLUMNS.index(metric)] for figures in draws.values()]
                _curve(axes, [every.index(masks) for masks in draws], values, label=data.replace("_", " "))
            axes.set(xlabel="masks of each defect type", ylabel=name, xticks=range(len(every)), xticklabels=every)
            axes.set_ylim(top=1)
            axes.grid(axis="y", linewidth=0.4, alpha=0.4)
        row[-1].legend(loc="lower right", **LEGEND)
        return page


def _curve(axes: Axes, places: Sequence[int], values: Sequence[np.ndarray], *, label: str) -> None:
    """The draws (S,) at each place, in a colour of their own."""
    means = np.array([draws.mean() for draws in values])
    deviations = np.array([draws.std(ddof=1) if len(draws) > 1 else 0 for draws in values])
    (line,) = axes.plot(places, means, label=label)
    look: Any = {"color": line.get_color(), "clip_on": False}
    axes.fill_between(places, means - deviations, (means + deviations).clip(max=1), alpha=0.15, linewidth=0, **look)
    for place, draws in zip(places, values, strict=True):
        axes.plot([place] * len(draws), draws, "o", markersize=3, alpha=0.7, **look)


def _each(values: np.ndarray) -> str:
    return " ".join(_short(spread(values[[draw]])) for draw in range(len(values)))


def _short(shares: str) -> str:
    """Numbers up to 1 without the zero before the point."""
    return shares.replace("0.", ".")


if __name__ == "__main__":
    main()
