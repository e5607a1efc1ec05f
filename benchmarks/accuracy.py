"""Trains and evaluates with defaults on the development data sets, several seeds each, and prints a Markdown table.

    python benchmarks/accuracy.py [--data ../shared/data] [--seeds 3] [NAME...]

The data are MVTec's screw and the magnetic-tile defects, in MVTec's layout; any other folder can be named.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import blemish
from blemish.datasets.layouts import read_data_set
from blemish.evaluation import evaluate
from regimes import spread

FIGURES = ("image_auroc", "pixel_auroc", "aupro", "false_alarm_rate", "detection_rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["screw", "magnetic_tile"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"| data | {' | '.join(FIGURES)} | training s |\n|---|{'---|' * (len(FIGURES) + 1)}")
    for name in options.names:
        rows = [measure(options.data / name, seed) for seed in range(options.seeds)]
        print(f"| {name} | {' | '.join(spread(column) for column in np.transpose(rows))} |", flush=True)


def measure(data: Path, seed: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        detector = blemish.train(data, Path(folder) / "model.onnx", seed=seed)
        seconds = time.perf_counter() - started
        metrics = evaluate(detector, read_data_set(data)).metrics
    return [metrics[figure] for figure in FIGURES] + [seconds]


if __name__ == "__main__":
    main()
