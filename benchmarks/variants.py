"""What labels, alignment, a larger image and a larger backbone cost in time: milliseconds an image.

    python benchmarks/variants.py [--runs 60]

Speed does not depend on what was learned, so nothing is trained. One thread of ONNX Runtime, processor time, the 10th
percentile of runs in turns. What the variants reach is in docs/research.md.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from blemish.model.backends import open_graph
from performance import backbone_model, detector_model, running, timed


def variants() -> Iterator[tuple[str, int, bytes]]:
    """Name, side in pixels and graph of each."""
    yield "backbone alone", 256, backbone_model((256, 256))
    for where, upright in {"as they lie": False, "parts turned upright": True}.items():
        yield f"{where}, good images only", 256, detector_model((256, 256), upright=upright)
        yield f"{where}, labels", 256, detector_model((256, 256), labels=True, upright=upright)
    yield "the default at 320 px", 320, detector_model((320, 320))
    yield "the default at 384 px", 384, detector_model((384, 384))
    yield "EfficientNet-Lite1", 256, detector_model((256, 256), backbone="tf_efficientnet_lite1")
    yield "EfficientNet-Lite2", 256, detector_model((256, 256), backbone="tf_efficientnet_lite2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    calls, megabytes = {}, {}
    for name, side, graph in variants():
        image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
        calls[name] = running(open_graph(graph, "onnxruntime", "f32", threads=1), image)
        megabytes[name] = len(graph) / 1e6
    print("| network | ms an image | MB |\n|---|---:|---:|")
    for name, milliseconds in timed(calls, options.runs).items():
        print(f"| {name} | {milliseconds:.1f} | {megabytes[name]:.1f} |")


if __name__ == "__main__":
    main()
