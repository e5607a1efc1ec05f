"""Is the heatmap faithful? The table of docs/faithfulness.md, in Markdown.

    python benchmarks/faithfulness.py [--images 30] [--seed 0] MODEL DATA [MODEL DATA]...

The same figures as `blemish evaluate MODEL DATA --faithfulness 30 --seed 0`. Processor threads: OMP_NUM_THREADS for the
methods that need gradients; the model file runs on one.
"""

import argparse
from pathlib import Path

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.faithfulness.study import MODEL_MAP, HeatmapFigures, study
from blemish.model.detector import Detector

COLUMNS = {
    "pixel AUROC": "pixel_auroc",
    "mass inside": "mass_inside",
    "pointing game": "pointing",
    "deletion, mean": "deletion",
    "deletion, surroundings": "deletion_healed",
    "insertion": "insertion",
    "shift": "shift",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="MODEL DATA")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.pairs) % 2:
        parser.error("give a folder after each model file")
    print(f"| data | heatmap | {' | '.join(COLUMNS)} | ms a map |")
    print("|---|---|" + "---:|" * (len(COLUMNS) + 1))
    for model, folder in zip(options.pairs[::2], options.pairs[1::2], strict=True):
        try:
            detector = Detector.load(model, threads=1)
            found = study(model, detector, read_data_set(folder), images=options.images, seed=options.seed)
        except BlemishError as fault:
            parser.error(str(fault))
        for name, figures in found.methods.items():
            label = "the map itself" if name == MODEL_MAP else name
            print(f"| {folder.name} | {label} | {cells(figures)} |", flush=True)


def cells(figures: HeatmapFigures) -> str:
    values = [getattr(figures, name) for name in COLUMNS.values()]
    return " | ".join(["–" if value is None else f"{value:.3f}" for value in values] + [f"{figures.milliseconds:.0f}"])


if __name__ == "__main__":
    main()
