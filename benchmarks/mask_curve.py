"""What each mask adds, as a picture of the panel's runs with no mask and with some of each defect type.

    python benchmarks/panel --methods blemish --protocols good masks-1 masks-5
    python benchmarks/mask_curve.py docs/panel.csv -o docs/masks.png

A draw is a seed, which decides which images are labelled; a draw of more masks includes that of fewer.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from blemish.errors import BlemishError
from blemish.experiments.plots import LEGEND, STYLE, save
from panel.book import Run, read_runs
from panel.methods import BLEMISH

PANELS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}

Draws = dict[int, np.ndarray]  # masks of a defect type, in order: figures (S, len(PANELS)) of S draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="the panel's runs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture, .png or .svg")
    options = parser.parse_args()
    try:
        save(picture(curves(read_runs(options.csv).values())), options.output)
    except BlemishError as fault:
        parser.error(str(fault))


def curves(runs: Iterable[Run]) -> dict[str, Draws]:
    """The draws of each data set that has masks. Raises BlemishError where no run is with masks."""
    found: dict[str, dict[int, list[list[float]]]] = {}
    for run in sorted(runs, key=lambda run: (run.set, run.seed)):
        kind, _, number = run.protocol.partition("-")
        masks = 0 if run.protocol == "good" else int(number) if kind == "masks" and number.isdecimal() else None
        if masks is not None and run.method == BLEMISH and run.pixel_auroc is not None:
            found.setdefault(run.set, {}).setdefault(masks, []).append([getattr(run, name) for name in PANELS])
    found = {data: draws for data, draws in found.items() if any(draws)}
    if not found:
        raise BlemishError("no run with masks; make some with benchmarks/panel --protocols masks-1 masks-5")
    return {data: {masks: np.array(draws[masks]) for masks in sorted(draws)} for data, draws in found.items()}


def picture(found: dict[str, Draws]) -> Figure:
    """A panel each for images and pixels: a dot a draw, a line through the means, a band of one deviation."""
    every = sorted({masks for draws in found.values() for masks in draws})
    with rc_context(STYLE):
        page = Figure(figsize=(8.0, 3.4), layout="constrained")
        row = page.subplots(1, len(PANELS))
        for figure, (axes, name) in enumerate(zip(row, PANELS.values(), strict=True)):
            for data, draws in found.items():
                values = [figures[:, figure] for figures in draws.values()]
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


if __name__ == "__main__":
    main()
