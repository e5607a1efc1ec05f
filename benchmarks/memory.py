"""Peak memory of `blemish predict` over few and over very many images, as a Markdown table.

python benchmarks/memory.py MODEL.onnx IMAGE [--numbers 1000 100000] [--heatmaps]

The folder is one image and links to it. What is kept of an image does not depend on the network; a small one will do:
blemish train DATA -o small.onnx --size 64
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The highest resident memory in megabytes, told by the process itself at its end.
MEASURED = """
import resource, sys
from blemish.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
sys.exit(status)
"""


def peak_megabytes(model: Path, image: Path, number: int, *options: str) -> float:
    """The highest memory of a run over so many images."""
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for index in range(number):
            os.symlink(image.resolve(), photos / f"{index}{image.suffix}")
        arguments = ["predict", str(model), str(photos), "-o", str(Path(folder) / "out"), *options]
        done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], check=True, capture_output=True, text=True)
        rows = (Path(folder) / "out" / "scores.csv").read_bytes().count(b"\n") - 1
    if rows != number:
        raise RuntimeError(f"{rows} rows for {number} images")
    return float(done.stderr.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--heatmaps", action="store_true", help="also write the pictures")
    options = parser.parse_args()
    print("| images | peak memory | seconds |\n|---:|---:|---:|")
    for number in options.numbers:
        started = time.perf_counter()
        peak = peak_megabytes(options.model, options.image, number, *([] if options.heatmaps else ["--no-heatmaps"]))
        print(f"| {number:,} | {peak:.0f} MB | {time.perf_counter() - started:.0f} |", flush=True)


if __name__ == "__main__":
    main()
