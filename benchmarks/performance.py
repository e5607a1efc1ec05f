"""Speed of one image in every runtime, and what each costs in accuracy.

python benchmarks/performance.py [--sizes 224 256 384 512] [--runs 60]
    Milliseconds an image and images a second. Speed does not depend on what was learned, so the networks are not
    trained; the plain backbone in the same runtime stands beside them. Then the way from a JPEG file of that size to
    its verdict, as a multiple of the plain backbone.
python benchmarks/performance.py --model MODEL.onnx --data DATA
    Accuracy and speed of every export of a trained model on its test split, also of those that would be refused.

Tables are Markdown. Everything runs on one thread and is timed in processor time, which other work on the machine
touches little. A figure is the 10th percentile of runs in turns, in the last table the median.
"""

import argparse
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.data import brick
from torch import Tensor, nn

from blemish import Detector
from blemish.conformal.split import Calibration
from blemish.conversion.agreement import agreement
from blemish.conversion.calibration_images import find_calibration_images
from blemish.conversion.onnx_edit import backbone_convolutions, quantise, with_metadata
from blemish.conversion.run import INT8_SHARES, TARGETS, TOLERANCE, calibration_scores
from blemish.datasets.layouts import read_data_set
from blemish.evaluation.run import evaluate
from blemish.imaging.images import load
from blemish.model.backends import Graph, open_graph
from blemish.model.metadata import ModelMetadata
from blemish.networks.alignment import N_ANGLES, N_RADII, Alignment, Silhouettes
from blemish.networks.build import build_detector, build_normal_model
from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import CalibratedNetwork
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.head import BackgroundWeight
from blemish.networks.timm_cnn import DEFAULT_BACKBONE, TimmCNN
from blemish.training.config import TrainConfig
from blemish.training.onnx_export import OPSET, to_onnx, with_fixed_padding

BATCH = 8
CALIBRATION = [1.0] * 64
WARM_UP = 3
RUNTIMES = {"ONNX Runtime f32": ("onnxruntime", "f32")} | {
    "ONNX Runtime int8": TARGETS["onnx-int8"],
    "OpenVINO f32": TARGETS["openvino"],
    "OpenVINO bf16": TARGETS["openvino-bf16"],
}


class PlainBackbone(nn.Module):
    """The plain backbone with a detector's input and outputs: the mean of its deepest map, everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TimmCNN()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, H, W) and twice the scores (N,) of uint8 pixels (N, H, W, 3)."""
        scores = self.backbone(pixels.permute(0, 3, 1, 2).float())[-1].mean((1, 2, 3))
        return scores[:, None, None].expand(-1, *pixels.shape[1:3]), scores, scores.clone()


def backbone_model(size: tuple[int, int], *, fixed_padding: bool = True) -> bytes:
    """The backbone as ONNX, with fixed padding as in a detector, or with padding computed as timm exports it."""
    buffer = io.BytesIO()
    names = ["anomaly_map", "score", "p_value"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = torch.zeros(2, *size, 3, dtype=torch.uint8)
        backbone = PlainBackbone().eval()
        torch.onnx.export(
            with_fixed_padding(backbone, pixels) if fixed_padding else backbone,
            (pixels,),
            buffer,
            input_names=["pixels"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ["pixels", *names]},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def detector_model(
    size: tuple[int, int], *, backbone: str = DEFAULT_BACKBONE, labels: bool = False, upright: bool = False
) -> bytes:
    """A detector as it is before it has learned anything; without further options that of good images only.

    One that turns parts upright has them on a quarter of the upright picture.
    """
    torch.manual_seed(0)
    pyramid = FeaturePyramid(load_extractor(backbone, pretrained=backbone == DEFAULT_BACKBONE), size=size).eval()
    rows, _ = pyramid.field.grid
    foreground = torch.ones(pyramid.field.grid, dtype=torch.bool)
    foreground[rows // 4 :] = not upright
    config = TrainConfig()
    branch = config.defect_branch
    model = build_normal_model(config.method, pyramid, config)
    for level in model.gaussians:
        for numbers in (level.mean, level.whitening):
            numbers.normal_()
    template = torch.rand(N_ANGLES, N_RADII)
    network = build_detector(
        pyramid,
        model,
        background=BackgroundWeight(foreground, config.map.background_weight),
        defect_branch=DefectBranch(pyramid, maps=branch.maps, hidden=branch.hidden_channels) if labels else None,
        alignment=Alignment(Silhouettes(size, 30.0), template, radius=min(size) / 2, size=size) if upright else None,
    )
    return to_onnx(CalibratedNetwork(network, CALIBRATION), size)


def timed(
    calls: Mapping[str, Callable[[], object]],
    runs: int,
    *,
    percentile: int = 10,
) -> dict[str, float]:
    """Processor milliseconds of each call, a percentile of runs taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs + WARM_UP):
        for name, call in calls.items():
            started = time.process_time()
            call()
            times[name].append(1000 * (time.process_time() - started))
    return {name: float(np.percentile(taken[WARM_UP:], percentile)) for name, taken in times.items()}


def print_speed(side: int, runs: int) -> None:
    size = (side, side)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *size, 3), np.uint8)
    for network, model in (("backbone", backbone_model(size)), ("detector", detector_model(size))):
        convolutions = backbone_convolutions(model)
        int8 = quantise(model, convolutions[len(convolutions) // 2 :], images[:2])
        graphs = {
            runtime: open_graph(int8 if kind[1] == "int8" else model, *kind, threads=1)
            for runtime, kind in RUNTIMES.items()
        }
        alone = timed({name: running(graph, images[:1]) for name, graph in graphs.items()}, runs)
        batch = timed({name: running(graph, images) for name, graph in graphs.items()}, runs // 4 + 1)
        for name in RUNTIMES:
            row = f"{alone[name]:.1f} | {1000 / alone[name]:.0f} | {1000 * BATCH / batch[name]:.0f}"
            print(f"| {side} | {network} | {name} | {row} |", flush=True)


def print_way(side: int, runs: int) -> None:
    """From a JPEG file to its verdict, on one thread, beside the plain backbone: medians of processor time."""
    size, model = (side, side), detector_model((side, side))
    metadata = ModelMetadata(size, "nothing", {}, {}, (), Calibration(CALIBRATION), 0.0, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        file, photograph = Path(folder) / "model.onnx", Path(folder) / "brick.jpg"
        file.write_bytes(with_metadata(model, metadata))
        picture = Image.fromarray(brick()).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        picture.save(photograph, quality=90)
        detector = Detector.load(file, threads=1)
        backbone, plain = (
            open_graph(backbone_model(size, fixed_padding=fixed), "onnxruntime", "f32", threads=1)
            for fixed in (True, False)
        )
        pixels = load(photograph, size)[0][None]
        times = timed(
            {
                "plain": running(plain, pixels),
                "backbone": running(backbone, pixels),
                "graph": lambda: detector.forward(pixels),
                "way": lambda: list(detector.predict_iter([photograph])),
            },
            runs,
            percentile=50,
        )
    plain_ms, backbone_ms, graph_ms, way_ms = times.values()
    ratios = f"{way_ms / plain_ms:.2f} | {way_ms / backbone_ms:.2f}"
    print(f"| {side} | {plain_ms:.1f} | {backbone_ms:.1f} | {graph_ms:.1f} | {way_ms:.1f} | {ratios} |", flush=True)


def running(graph: Graph, images: np.ndarray) -> Callable[[], object]:
    return lambda: graph.run(images)


def exports(model: bytes, pixels: np.ndarray) -> Iterator[tuple[str, bytes, tuple[str, str]]]:
    """Every export by name, whether it would be refused or not."""
    for runtime, kind in RUNTIMES.items():
        if kind[1] != "int8":
            yield runtime, model, kind
            continue
        convolutions = backbone_convolutions(model)
        for share in INT8_SHARES:
            deepest = convolutions[-round(share * len(convolutions)) :]
            yield f"{runtime}, {len(deepest)} of {len(convolutions)}", quantise(model, deepest, pixels), kind


def print_accuracy(path: Path, data: Path, folder: Path, runs: int) -> None:
    original = Detector.load(path, threads=1)
    data_set = read_data_set(data, nominal_class=original.metadata.data["nominal_class"])
    held_back = find_calibration_images(original.metadata, data_set)
    pixels = np.stack([load(image, original.metadata.size, original.reading)[0] for image in held_back])
    model, rate = path.read_bytes(), original.calibration.false_alarm_rate
    before = calibration_scores(model, pixels, "onnxruntime", "f32", threads=1)
    detectors, rows = {"model": original}, {}
    for name, graph, kind in exports(model, pixels):
        after = calibration_scores(graph, pixels, *kind, threads=1)
        found = agreement(before, after, false_alarm_rate=rate, tolerance=TOLERANCE)
        calibration = Calibration(after, rate)
        metadata = replace(original.metadata, calibration=calibration, runtime=kind[0], precision=kind[1])
        file = folder / "export.onnx"
        file.write_bytes(with_metadata(graph, metadata))
        detectors[name] = Detector.load(file, threads=1)
        figures = evaluate(detectors[name], data_set).metrics
        rows[name] = (
            f"{figures['image_auroc']:.4f} | {figures['pixel_auroc']:.4f} | {figures['detection_rate']:.3f} | "
            f"{figures['false_alarm_rate']:.3f} | {found.verdicts_moved} | {found.mean_p_value_change:.3f} | "
            f"{'written' if found.holds else 'refused'}"
        )
    times = timed({name: running(one, pixels[:1]) for name, one in detectors.items()}, runs)
    print("| runtime | ms | image AUROC | pixel AUROC | detected | false alarms | verdicts moved | p moved, mean | |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for name, row in rows.items():
        print(f"| {name} | {times[name]:.1f} | {row} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 256, 384, 512])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    if options.model is not None:
        with tempfile.TemporaryDirectory() as folder:
            print_accuracy(options.model, options.data, Path(folder), options.runs)
        return
    print("| px | network | runtime | ms an image | images/s | images/s, 8 at a time |\n|---:|---|---|---:|---:|---:|")
    for side in options.sizes:
        print_speed(side, options.runs)
    columns = "backbone as timm exports it | backbone | detector | JPEG to verdict | ratio to the first | to the second"
    print(f"\n| px | {columns} |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for side in options.sizes:
        print_way(side, options.runs)


if __name__ == "__main__":
    main()
