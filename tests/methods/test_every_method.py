"""What holds for every method: distances in units of nominal ones, one graph, and all verbs on its model files."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish.model.backends import open_graph
from blemish.model.detector import Detector
from blemish.networks.build import build_detector
from blemish.networks.detector import CalibratedNetwork
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import NormalModel
from blemish.plugins import METHODS
from blemish.training.config import DefectBranchConfig, FcddConfig
from blemish.training.method import method_kind
from blemish.training.onnx_export import to_onnx
from blemish.training.run import train
from helpers.images import noise, stained
from helpers.parts import write_parts
from helpers.small_networks import fit, new_model, random_pyramid

SIZE = (64, 96)
IMAGES = 16
# One of each kind in the fast tests: a normal model, and a method that is trained by gradient.
FAST = ("padim", "fcdd")
OTHERS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in METHODS if name != "gaussian"]
NORMAL_MODELS = [name for name in METHODS if issubclass(method_kind(name), NormalModel)]
SMALL = {
    "defect_branch": DefectBranchConfig(nominal_copies=8, labelled_images=8),
    "fcdd": FcddConfig(epoch_images=64, batch=8, learning_rate=1e-2, watched_images=2, hidden_channels=8),
}


@pytest.fixture(scope="module", params=NORMAL_MODELS)
def fitted(request: pytest.FixtureRequest) -> tuple[FeaturePyramid, NormalModel, torch.Tensor]:
    torch.manual_seed(0)
    pyramid = random_pyramid(SIZE)
    model = new_model(pyramid, request.param, memory=500)
    return pyramid, model, fit(pyramid, model, [noise(seed, size=SIZE) for seed in range(IMAGES)])


@torch.inference_mode()
def test_an_ordinary_place_of_a_new_nominal_image_is_about_one_away(
    fitted: tuple[FeaturePyramid, NormalModel, torch.Tensor],
) -> None:
    pyramid, model, distances = fitted
    assert distances.shape == (IMAGES, *pyramid.field.grid)
    new = model(pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in range(50, 60)]))))
    assert new.shape == (10, *pyramid.field.grid)
    for some in (distances, new):
        assert 0.7 < float(some.mean()) < 1.3
    bad = model(pyramid(torch.from_numpy(stained(100, size=SIZE)[None])))
    assert bad.max() > 2 * new.max()


def test_one_graph_computes_what_torch_does(fitted: tuple[FeaturePyramid, NormalModel, torch.Tensor]) -> None:
    pyramid, model, _ = fitted
    network = build_detector(pyramid, model)
    session = open_graph(to_onnx(CalibratedNetwork(network, [1.0, 2.0]), SIZE), "onnxruntime", "f32")
    pixels = np.stack([noise(100, size=SIZE), stained(101, size=SIZE), noise(102, size=SIZE)])
    maps, _, _ = session.run(pixels)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-3 * expected.max())


@pytest.mark.parametrize("method", OTHERS)
def test_every_verb_works_on_its_model_files(method: str, tmp_path: Path, run: Callable[..., Any]) -> None:
    parts, model = write_parts(tmp_path / "parts", labelled=2), tmp_path / "m.onnx"
    train(parts, model, size=SIZE, epochs=2, method=method, memory=500, **SMALL)
    assert run("evaluate", model, parts, "--json").json["image_auroc"] == 1.0
    assert run("predict", model, parts / "test/spot", "-o", tmp_path / "out", "--json").json["images"] == 4
    for verb, *rest in (
        ("info", model, "--json"),
        ("report", model, parts, "-o", tmp_path / "report.html", "--json"),
        ("audit", model, parts, "-o", tmp_path / "audit.html", "--json"),
        *(
            ("export", model, "--format", kind, "--data", parts, "-o", tmp_path / f"{kind}.onnx", "--json")
            for kind in ("onnx-int8", "openvino")
            if kind == "onnx-int8" or find_spec("openvino")
        ),
    ):
        outcome = run(verb, *rest)
        # Int8 may be too coarse for a model of twelve images: then it says so in a sentence.
        assert outcome.status == 0 or (verb == "export" and "decides differently" in outcome.err), outcome.err
    assert Detector.load(model).metadata.supervision.startswith("good images + 2 labelled defects")


@pytest.mark.slow
@pytest.mark.parametrize("method", OTHERS)
def test_it_calibrates_crosswise(method: str, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=6)
    detector = train(parts, tmp_path / "m.onnx", size=(64, 64), cross_conformal=2, method=method, memory=200, **SMALL)
    assert detector.calibration.folds == (3, 3)
