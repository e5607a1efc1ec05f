"""One scoring path: the torch module, the graph, its exports, and an environment without torch agree."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.conformal.split import Calibration
from blemish.conversion.onnx_edit import backbone_convolutions, quantise, with_metadata
from blemish.conversion.run import TARGETS, Format, export, score
from blemish.errors import BlemishError
from blemish.imaging.images import load
from blemish.model.backends import open_graph
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata
from blemish.networks.alignment import N_ANGLES, N_RADII, Alignment, Silhouettes
from blemish.networks.build import build_detector
from blemish.networks.detector import CalibratedNetwork, DetectorNetwork
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.head import BackgroundWeight
from blemish.networks.input_mask import InputMask
from blemish.networks.timm_cnn import DEFAULT_BACKBONE
from blemish.training.config import MapConfig
from blemish.training.onnx_export import export_onnx
from blemish.training.run import train
from helpers.images import noise
from helpers.small_networks import fit, new_model, random_branch

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
TOLERANCE = 1e-4  # of the range of the scores
# Of the same range, for scores and for the worst pixel of a map. Distances are in units of the smallest deviations
# that nominal features have: what rounding to 8 bits does to features is far larger there than in the features.
EXPORT_TOLERANCE: dict[Format, tuple[float, float]] = {
    "openvino": (1e-4, 1e-4),
    "openvino-bf16": (0.1, 0.4),
    "onnx-int8": (0.1, 0.4),
}

SIZES = ((640, 480), (1024, 1024), (33, 1000), (1000, 33))  # of a photograph, width by height
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


PARTS = {
    "good images only": (),
    "with a defect branch": ("defect branch",),
    "upright": ("defect branch", "alignment"),
    "with an input mask": ("defect branch", "input mask"),
}


def fitted_network(*parts: str) -> DetectorNetwork:
    """The default backbone, with Gaussians and a defect branch of noise."""
    torch.manual_seed(0)
    pyramid = FeaturePyramid(load_extractor(DEFAULT_BACKBONE), size=SIZE).eval()
    foreground = torch.ones(pyramid.field.grid, dtype=torch.bool)
    foreground[:, 4:] = "alignment" not in parts
    model, images = new_model(pyramid), np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
    fit(pyramid, model, list(images))
    branch = None
    if "defect branch" in parts:
        with torch.inference_mode():
            maps = pyramid(torch.from_numpy(images[:8]))
        branch = random_branch(pyramid, maps, unit=0.5)  # as loud as the distances, or more
    ignored = np.zeros(SIZE, dtype=bool)
    ignored[:20, 50:] = True
    return build_detector(
        pyramid,
        model,
        background=BackgroundWeight(foreground, MapConfig().background_weight),
        defect_branch=branch,
        input_mask=InputMask(ignored, images[0]) if "input mask" in parts else None,
        alignment=turning() if "alignment" in parts else None,
        sigma=4.0,
    )


def turning() -> Alignment:
    """Turns images of noise by whatever its template makes of them."""
    return Alignment(Silhouettes(SIZE, 10.0), torch.rand(N_ANGLES, N_RADII), radius=30.0, size=SIZE)


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
    scored = list(detector.predict_iter(images, batch_size=3))  # another batch than the graph was traced with
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


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_is_the_torch_module_at_any_batch_size(model: tuple[DetectorNetwork, Path], batch: int) -> None:
    network, path = model
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)
    maps, scores, _ = Detector.load(path).forward(pixels)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(maps, expected, rtol=0, atol=TOLERANCE * expected.max())
    np.testing.assert_allclose(scores, expected.max((1, 2)), rtol=TOLERANCE)


@pytest.fixture(params=EXPORT_TOLERANCE)
def target(request: pytest.FixtureRequest) -> Format:
    target: Format = request.param
    if target.startswith("openvino") and importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    if target.endswith("bf16") and not request.getfixturevalue("bfloat16"):
        pytest.skip("this processor has no bfloat16 arithmetic")
    return target


def assert_parity(
    reference: Detector, exported: Detector, images: list[Path], target: Format, *, on_the_border: float = 0
) -> None:
    """The same maps and scores within the format's tolerance, and the same verdicts outside it.

    Of a map's pixels a share may lie `on_the_border`: halfway between two that they could be read from.
    """
    expected = list(reference.predict_iter(images))
    allowed, allowed_in_map = (share * np.ptp([one.score for one in expected]) for share in EXPORT_TOLERANCE[target])
    for one, there in zip(expected, exported.predict_iter(images), strict=True):
        assert there.source == one.source
        agree = np.isclose(there.anomaly_map, one.anomaly_map, atol=allowed_in_map, rtol=0)  # a nan never does
        assert (~agree).mean() <= on_the_border
        assert there.score == pytest.approx(one.score, abs=allowed)
        assert there.score == there.anomaly_map.max()
        thresholds = (reference.calibration.threshold, reference.calibration.unsure_threshold)
        if min(abs(one.score - threshold) for threshold in thresholds) > allowed:
            assert there.verdict == one.verdict


def mixed_images(folder: Path) -> list[Path]:
    """Images of every size and mode, and some that look as the calibration images do."""
    calm = [folder / f"calm{seed}.png" for seed in range(5)]
    for seed, path in enumerate(calm):
        Image.fromarray(noise(500 + seed)).save(path)
    return write_images(folder) + calm


def test_an_export_scores_as_the_model_does(tiny_model: Path, tmp_path: Path, target: Format) -> None:
    reference = Detector.load(tiny_model)
    images = mixed_images(tmp_path)
    nominal = np.stack([noise(seed) for seed in range(100, 119)])
    runtime, precision = TARGETS[target]
    model = tiny_model.read_bytes()
    if precision == "int8":
        convolutions = backbone_convolutions(model)
        # The ranges must hold what is shown: what lies beyond them is cut off, as the documentation says.
        shown = np.stack([load(path, reference.metadata.size)[0] for path in images])
        model = quantise(model, convolutions[len(convolutions) // 2 :], np.concatenate([nominal, shown]))
    calibration = Calibration(score(open_graph(model, runtime, precision), nominal), 0.05)
    metadata = replace(reference.metadata, calibration=calibration, runtime=runtime, precision=precision)
    (tmp_path / "export.onnx").write_bytes(with_metadata(model, metadata))
    exported = Detector.load(tmp_path / "export.onnx")
    assert_parity(reference, exported, images, target)

    pixels = np.stack([noise(seed) for seed in range(600, 620)])
    _, scores, p_values = exported.forward(pixels)  # the graph's own p-values follow the export's calibration
    np.testing.assert_allclose(p_values, [calibration.p_value(float(one)) for one in scores], atol=1e-6)


@pytest.fixture(scope="module", params=[False, True], ids=["as they lie", "upright"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    data = Path(os.environ.get("BLEMISH_DATA", ROOT.parent / "shared" / "data")) / "screw"
    if not data.is_dir():
        pytest.skip("no screw images beside the checkout; name their folder's parent in BLEMISH_DATA")
    path = tmp_path_factory.mktemp("trained") / "screw.onnx"
    detector = train(data, path, align=request.param)
    assert detector.metadata.aligned == request.param
    return path, data


def reshaped(photograph: Path, folder: Path) -> list[Path]:
    """One photograph in the sizes and modes that cameras have."""
    image = Image.open(photograph).convert("RGB")
    sixteen_bit = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    pictures = {f"{width}x{height}.png": image.resize((width, height)) for width, height in SIZES}
    pictures |= {"grey.png": image.convert("L"), "sixteen-bit.png": sixteen_bit}
    for name, picture in pictures.items():
        picture.save(folder / name)
    return [folder / name for name in pictures]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_export_of_a_trained_model_scores_as_it_does(
    trained: tuple[Path, Path], tmp_path: Path, target: Format
) -> None:
    model, data = trained
    upright = Detector.load(model).metadata.aligned
    if upright and target == "openvino-bf16":
        with pytest.raises(BlemishError, match="decides differently"):
            export(model, data, tmp_path / "export.onnx", target=target)
        return
    made = export(model, data, tmp_path / "export.onnx", target=target)
    images = sorted((data / "test").glob("*/000.png")) + reshaped(data / "test" / "good" / "001.png", tmp_path)
    # A turned map is read at the nearest half pixel, and which that is may hang on the last digit of an angle.
    border = 2e-3 if upright else 0
    assert_parity(Detector.load(model), Detector.load(made.file), images, target, on_the_border=border)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_environment_without_torch_scores_the_same(tmp_path: Path) -> None:
    """Installs the runtime alone, from a package index, and scores in it."""
    network = fitted_network(*PARTS["with a defect branch"])
    metadata = ModelMetadata(SIZE, "good images only", {}, {}, (), Calibration((20.0, 30.0)), 0.0, 1000.0)
    export_onnx(network, metadata, tmp_path / "m.onnx")
    images = write_images(tmp_path)
    here = Detector.load(tmp_path / "m.onnx").score(images)

    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # only what is installed
    run = functools.partial(subprocess.run, env=environment, capture_output=True)
    run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    if run([python, "-m", "pip", "install", "--quiet", "markupsafe"]).returncode != 0:
        pytest.skip("no package index can be reached")
    run([python, "-m", "pip", "install", "--quiet", ROOT], check=True)
    assert run([python, "-c", "import torch"]).returncode != 0
    script = (
        "import json, sys; from blemish import Detector; s = Detector.load(sys.argv[1]).score(sys.argv[2:]);"
        "print(json.dumps([s.scores.tolist(), s.p_values.tolist(), s.verdicts, [m.tolist() for m in s.maps]]))"
    )
    out = run([python, "-c", script, tmp_path / "m.onnx", *images], check=True).stdout
    scores, p_values, verdicts, maps = json.loads(out)
    tolerance = TOLERANCE * np.ptp(here.scores)
    np.testing.assert_allclose(scores, here.scores, atol=tolerance, rtol=0)
    np.testing.assert_allclose(p_values, here.p_values, atol=1e-6)
    assert verdicts == here.verdicts
    for there, map_here in zip(maps, here.maps, strict=True):
        np.testing.assert_allclose(there, map_here, atol=tolerance, rtol=0)
