"""One scoring path: the torch module, the graph, and a second environment without torch give the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.calibration import Calibration
from blemish.closed_form import CrossFit
from blemish.detector import Detector
from blemish.export import export_onnx
from blemish.images import load
from blemish.model_file import ModelMetadata
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.heads import CellNetwork, GaussianHead, Head, with_norm
from blemish.networks.network import CalibratedNetwork, DetectorNetwork

ROOT = Path(__file__).parent.parent
SIZE = (64, 96)
TOLERANCE = 1e-4  # of the range of the scores

IMAGES = {
    "wide.png": ((480, 640), "RGB"),
    "large.jpg": ((1024, 1024), "RGB"),
    "narrow.png": ((1000, 33), "RGB"),
    "network-size.png": (SIZE, "RGB"),
    "one-pixel.png": ((1, 1), "RGB"),
    "grey.png": ((100, 80), "L"),
    "sixteen-bit.png": ((70, 90), "I;16"),
    "alpha.png": ((90, 70), "RGBA"),
    "palette.gif": ((60, 60), "P"),
    "cmyk.jpg": ((64, 64), "CMYK"),
}


def write_images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for name, ((height, width), mode) in IMAGES.items():
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16))
        else:
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)
        image.save(folder / name)
    return [folder / name for name in IMAGES]


PARTS = {"closed form": (), "with gate": ("gate",), "with gate and evidence": ("gate", "evidence")}


def fitted_network(*parts: str) -> DetectorNetwork:
    torch.manual_seed(0)
    features = FeatureGrid(Backbone(), size=SIZE).eval()
    head = Head(GaussianHead(channels=features.channels, grid=features.field.grid))
    with torch.no_grad():
        pixels = torch.randint(0, 256, (40, *SIZE, 3), dtype=torch.uint8)
        CrossFit(head.gaussian).fit(features(some) for some in pixels.split(8))
        nominal = features(pixels[:8])
        if "gate" in parts:
            head.gate = standing_network(with_norm(head.gaussian.whiten(nominal)), unit=1.0)
        if "evidence" in parts:
            head.evidence = standing_network(nominal, unit=0.1)  # as large as the closed form's norm, or more
    return DetectorNetwork(features, head, sigma=4.0).eval()


def standing_network(nominal: torch.Tensor, *, unit: float) -> CellNetwork:
    """Random weights, but logits in the range that training leaves them in."""
    network = CellNetwork(channels=nominal.shape[1])
    network.standardise_by(nominal)
    logits = network(nominal)
    network.centre.fill_(logits.mean())
    network.spread.fill_(unit * logits.std())
    return network


@pytest.fixture(scope="module", params=PARTS.values(), ids=PARTS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectorNetwork, Path]:
    network = fitted_network(*request.param)
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    metadata = ModelMetadata(SIZE, "good images only", {}, {}, (), Calibration((1.0, 20.0, 30.0, 900.0)), 0.0, 1000.0)
    export_onnx(network, metadata, path)
    return network, path


def test_the_graph_is_the_torch_module(model: tuple[DetectorNetwork, Path], tmp_path: Path) -> None:
    network, path = model
    detector = Detector.load(path)
    calibrated = CalibratedNetwork(network, detector.calibration.scores).eval()
    images = write_images(tmp_path)
    scored = list(detector.stream(images, batch_size=3))  # another batch than the graph was traced with
    scores = np.array([one.score for one in scored])
    for image, one in zip(images, scored, strict=True):
        pixels, _ = load(image, SIZE)
        with torch.inference_mode():
            maps, score, p_value = calibrated(torch.from_numpy(pixels)[None])
        tolerance = TOLERANCE * np.ptp(scores)
        np.testing.assert_allclose(one.anomaly_map, maps[0].numpy(), atol=tolerance, rtol=0)
        assert one.score == pytest.approx(score.item(), abs=tolerance)
        assert one.p_value == pytest.approx(p_value.item(), abs=1e-6)
        assert one.p_value == pytest.approx(detector.calibration.p_value(one.score), abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_environment_without_torch_scores_the_same(tmp_path: Path) -> None:
    """Installs the runtime alone, from a package index, and scores in it."""
    network = fitted_network("gate", "evidence")
    metadata = ModelMetadata(SIZE, "good images only", {}, {}, (), Calibration((20.0, 30.0)), 0.0, 1000.0)
    export_onnx(network, metadata, tmp_path / "m.onnx")
    images = write_images(tmp_path)
    here = Detector.load(tmp_path / "m.onnx").score(images)

    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0
    script = (
        "import json, sys; from blemish import Detector; s = Detector.load(sys.argv[1]).score(sys.argv[2:]);"
        "print(json.dumps([s.scores.tolist(), s.p_values.tolist(), s.verdicts, [m.tolist() for m in s.maps]]))"
    )
    out = subprocess.run([python, "-c", script, tmp_path / "m.onnx", *images], check=True, capture_output=True).stdout
    scores, p_values, verdicts, maps = json.loads(out)
    tolerance = TOLERANCE * np.ptp(here.scores)
    np.testing.assert_allclose(scores, here.scores, atol=tolerance, rtol=0)
    np.testing.assert_allclose(p_values, here.p_values, atol=1e-6)
    assert verdicts == here.verdicts
    for there, map_here in zip(maps, here.maps, strict=True):
        np.testing.assert_allclose(there, map_here, atol=tolerance, rtol=0)
