"""What training with defaults costs, as a Markdown table: wall seconds, peak memory and the size of the model file.

    python benchmarks/training_cost.py [--data ../shared/data] [--masks 0 1 5] [--seed 0] [NAME...]

Each training is a process of its own, whose largest resident set is taken. Run it on an otherwise idle machine.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import blemish
from blemish.errors import BlemishError
from draws import draw_labels, link, read_source

BYTES_A_UNIT = 1 if sys.platform == "darwin" else 1024  # of a resident set, as the system gives it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["screw", "magnetic_tile"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--masks", type=int, nargs="+", default=[0, 1, 5], metavar="K", help="label K of each type")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        for name in options.names:
            read_source(options.data / name)
    except BlemishError as fault:
        parser.error(str(fault))
    print("| data | masks a type | seconds | peak GB | file MB |\n|---|---:|---:|---:|---:|", flush=True)
    fresh = multiprocessing.get_context("spawn")
    for name in options.names:
        for masks in options.masks:
            with fresh.Pool(1) as pool:
                seconds, memory, size = pool.apply(cost, (options.data / name, masks, options.seed))
            print(f"| {name} | {masks} | {seconds:.0f} | {memory / 1e9:.1f} | {size / 1e6:.1f} |", flush=True)


def cost(root: Path, masks: int, seed: int) -> tuple[float, int, int]:
    """Seconds, bytes of this process at its peak and bytes of the file of one training."""
    with tempfile.TemporaryDirectory() as folder:
        data = link(draw_labels(read_source(root), masks, seed=seed, masks=True), Path(folder) / "data")
        started, model = time.perf_counter(), Path(folder) / "model.onnx"
        blemish.train(data.root, model, seed=seed)
        seconds = time.perf_counter() - started
        peak = BYTES_A_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return seconds, peak, model.stat().st_size


if __name__ == "__main__":
    main()
