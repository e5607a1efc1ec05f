"""What two trainings cost side by side, as one line: seconds of one alone, of two at once, and their ratio.

    python benchmarks/side_by_side.py [--runs 3] [--csv FILE]

Both train on the bricks of `blemish demo`, with as many threads as there are cores.
Twice the time of one alone is what two take one after the other. Measure while nothing else runs.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arguments import positive_number
from blemish.datasets.demo import build_demo_set
from blemish.process.threads import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive_number, default=3, help="of which the median counts")
    parser.add_argument("--csv", type=Path, help="a file that gets one row more")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_demo_set(folder / "bricks", seed=0)
        alone = statistics.median(seconds_of(folder, jobs=1) for _ in range(options.runs))
        together = statistics.median(seconds_of(folder, jobs=2) for _ in range(options.runs))
    row = {"cores": cores(), "alone_s": alone, "two_at_once_s": together, "ratio": together / (2 * alone)}
    print(f"one {alone:.1f} s, two at once {together:.1f} s, {row['ratio']:.2f} times one after the other")
    if options.csv:
        new = not options.csv.exists()
        with options.csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow({key: round(value, 3) for key, value in row.items()})


def seconds_of(folder: Path, *, jobs: int) -> float:
    """From the start of so many trainings to the end of the last."""
    started = time.perf_counter()
    train = [sys.executable, "-m", "blemish", "train", folder / "bricks", "--json", "-o"]
    models = [folder / f"model{job}.onnx" for job in range(jobs)]
    running = [subprocess.Popen([*train, model], stdout=subprocess.DEVNULL) for model in models]
    if any(process.wait() for process in running):
        sys.exit("a training failed")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
