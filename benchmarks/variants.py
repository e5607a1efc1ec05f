"""What each part of the detector, a larger image and a larger backbone cost in time: milliseconds an image.

    python benchmarks/variants.py [--runs 60]

Speed does not depend on what was learned, so nothing is trained. One thread of ONNX Runtime, processor time, the 10th
percentile of runs in turns. What the variants reach is in docs/research.md; docs/results.md has both side by side.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from blemish.evidence import DILATIONS, HIDDEN
from blemish.export import to_onnx
from blemish.networks.backbones import DEFAULT_BACKBONE, Backbone
from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid
from blemish.networks.gaussian import GaussianHead, SecondOpinion
from blemish.networks.heads import Head
from blemish.networks.network import CalibratedNetwork, DetectorNetwork
from blemish.runtimes import open_graph
from blemish.training import STRIDES
from performance import CALIBRATION, running, timed, trunk_model


def model(
    *,
    side: int = 256,
    backbone: str = DEFAULT_BACKBONE,
    strides: tuple[int, ...] = STRIDES,
    gate: bool = True,
    second: bool = True,
    evidence: bool = False,
) -> bytes:
    """A detector that has learned nothing."""
    torch.manual_seed(0)
    trunk = Backbone(backbone, strides=strides, pretrained=False)
    features = FeatureGrid(trunk, size=(side, side), stride=8 if 8 in strides else strides[0]).eval()
    channels, grid = features.channels, features.field.grid
    head = Head(
        GaussianHead(channels=channels, grid=grid),
        second=SecondOpinion(channels=channels, grid=grid) if second else None,
        gate=CellNetwork(channels=channels + 1) if gate else None,
        evidence=CellNetwork(channels=channels, hidden=HIDDEN, dilations=DILATIONS) if evidence else None,
    )
    for part in (head.gaussian, head.second):
        for name, numbers in part.named_buffers() if part is not None else ():
            if name != "scale":
                numbers.normal_()
    network = DetectorNetwork(features, head, sigma=5.0).eval()
    return to_onnx(CalibratedNetwork(network, CALIBRATION), (side, side))


def variants() -> Iterator[tuple[str, int, bytes]]:
    """Name, side in pixels and graph of each."""
    yield "trunk alone", 256, trunk_model((256, 256))
    yield "closed form", 256, model(gate=False, second=False)
    yield "closed form, gate", 256, model(second=False)
    yield "closed form, gate, second opinion (good images only)", 256, model()
    yield "the same with evidence (labels)", 256, model(evidence=True)
    yield "stride 16 only, closed form", 256, model(strides=(16,), gate=False, second=False)
    yield "the default at 320 px", 320, model(side=320)
    yield "the default at 384 px", 384, model(side=384)
    yield "EfficientNet-Lite1", 256, model(backbone="tf_efficientnet_lite1")
    yield "EfficientNet-Lite2", 256, model(backbone="tf_efficientnet_lite2")


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
