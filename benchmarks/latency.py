"""Milliseconds from image file to verdict on one thread, beside the bare backbone in the same runtime.

python benchmarks/latency.py MODEL.onnx IMAGE... [--runs 200]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from blemish import Detector
from blemish.images import load
from blemish.networks.backbones import Backbone


def median_ms(call: Callable[[], object], runs: int) -> float:
    for _ in range(5):
        call()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def bare_backbone(size: tuple[int, int], strides: tuple[int, ...]) -> Callable[[], object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunk.onnx"
        pixels = torch.zeros(1, 3, *size)
        torch.onnx.export(Backbone(strides=strides).eval(), (pixels,), str(path), input_names=["pixels"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    zeros = np.zeros((1, 3, *size), np.float32)
    return lambda: session.run(None, {"pixels": zeros})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    detector = Detector.load(options.model, threads=1)
    size = detector.metadata.size
    image = options.images[0]
    pixels = load(image, size)[0][None]
    everything = iter(options.images * (options.runs + 5))
    rows = {
        "bare backbone": bare_backbone(size, tuple(detector.metadata.settings["strides"])),
        "graph: pixels to map, score, p-value": lambda: detector.run(pixels),
        "decode and resize": lambda: load(next(everything), size),
        "all: file to verdict": lambda: next(detector.stream([next(everything)])),
    }
    times = {name: median_ms(call, options.runs) for name, call in rows.items()}
    for name, value in times.items():
        print(f"{name:40s} {value:7.2f} ms   {value / times['bare backbone']:5.2f} x backbone")


if __name__ == "__main__":
    main()
