"""Model files of experiments: the same scores as the torch modules, calibrated on images that were not learned from."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from blemish import Detector
from blemish.conformal.split import Calibration
from blemish.errors import BlemishError
from blemish.experiments.augmentation import Normalisation, Preparation
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.deployed import PreparedNetwork, deployed
from blemish.experiments.methods import build_method
from blemish.experiments.model_file import hold_out
from blemish.experiments.networks.lite0 import Lite0Features
from blemish.experiments.recipe import Recipe
from blemish.experiments.runner import Plan, run_experiment
from blemish.experiments.trial import Settings
from blemish.model.metadata import ModelMetadata
from blemish.training.onnx_export import export_onnx
from helpers.images import noise, save_image, stained


def pictures(count: int, side: int) -> np.ndarray:
    """Smooth coloured images with noise, uint8 (N, S, S, 3)."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 4, 4)).astype(np.float32))
    smooth = F.interpolate(coarse, (side, side), mode="bilinear").permute(0, 2, 3, 1).numpy()
    return (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)


def in_channels(images: np.ndarray, channels: int) -> torch.Tensor:
    """The images as an experiment reads them, uint8 (N, C, S, S): Pillow converts them to grey."""
    mode = "L" if channels == 1 else "RGB"
    read = [np.array(Image.fromarray(image).convert(mode)).reshape(*image.shape[:2], channels) for image in images]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2)


def settled(method, inputs: torch.Tensor) -> None:
    """Gives batch normalisation statistics of its own, as a training would."""
    method.network.train()
    with torch.no_grad():
        method.network(inputs)
    method.network.eval()


NORMALISATIONS = ("lcn", "standard", "imagenet")


@pytest.mark.parametrize(
    ("network", "normalisation"),
    [
        *product(("cnn28", "cnn32"), NORMALISATIONS),
        ("lite0-f", "lcn"),
        *(pytest.param("lite0-f", one, marks=pytest.mark.slow) for one in NORMALISATIONS[1:]),
    ],
)
@pytest.mark.parametrize("method_name", ["fcdd", "hsc", "autoencoder"])
def test_the_file_scores_as_the_torch_module(tmp_path, method_name, network, normalisation):
    recipe = Recipe.load("custom").with_network(network).with_setting("normalisation", normalisation)
    if network == "cnn28" and normalisation == "imagenet":
        pytest.skip("ImageNet's constants are those of colour images")
    images, channels = pictures(6, recipe.size), recipe.reading.channels
    torch.manual_seed(0)
    method = build_method(method_name, recipe, mode="corrected")
    raw = in_channels(images, channels)
    constants = Normalisation.fit(recipe, ArrayImages(raw))
    preparation = Preparation(recipe.size, recipe.augmentation, constants, "corrected")
    inputs = torch.stack([preparation.test(image) for image in raw])
    settled(method, inputs)
    with torch.no_grad():
        scores = method.scores(inputs)
        maps = scores[:, None, None].expand(-1, *inputs.shape[2:]) if method_name == "hsc" else method.maps(inputs)
    path = tmp_path / "model.onnx"
    graph = deployed(method, constants, recipe)
    size = (recipe.size, recipe.size)
    export_onnx(graph, ModelMetadata(size, "", {}, {}, (), Calibration((0.5, 1.0), 0.5), 0, 1), path)
    found_maps, found_scores, _ = Detector.load(path).forward(images)
    within = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(found_scores, maps.amax((1, 2)), **within)
    np.testing.assert_allclose(found_maps, maps, **within)
    assert torch.equal(method.maps(inputs) if method_name != "hsc" else maps, maps)  # the run's network is as it was


def test_grey_is_pillows():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    colours[0, 0, :256] = np.arange(256)[:, None]  # and every grey
    constants = Normalisation(False, torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1 / 255))
    network = PreparedNetwork(FirstChannel(), constants, channels=1, side=300)
    grey = np.array(Image.fromarray(colours[0]).convert("L"))
    assert np.array_equal(network(torch.from_numpy(colours))[0].round().numpy(), grey)


class FirstChannel(torch.nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, 0]


def test_the_features_of_one_size_are_those_of_any():
    features = Lite0Features().eval()
    images = torch.rand(1, 3, 72, 104)
    with torch.no_grad():
        free = features(images)
        features.fix_size((72, 104))
        assert torch.allclose(features(images), free, atol=1e-5)


# Whole runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """25 good images, of which two are copies of others, and four with a hole."""
    root = tmp_path_factory.mktemp("models") / "parts"
    for number in range(23):
        save_image(root / f"train/good/{number}.png", noise(number, size=(40, 48)))
    for number in (23, 24):
        save_image(root / f"train/good/{number}.png", noise(0, size=(40, 48)))
    for number in range(4):
        save_image(root / f"test/good/{number}.png", noise(100 + number, size=(40, 48)))
        save_image(root / f"test/hole/{number}.png", stained(200 + number, size=(40, 48)))
        mask = np.zeros((40, 48), np.uint8)
        mask[10:30, 12:36] = 255
        save_image(root / f"ground_truth/hole/{number}.png", mask)
    return root


def arguments(folder: Path, output: Path, *more: object) -> tuple[object, ...]:
    given = ("--data", folder, "-o", output, "--network", "cnn28", "--epochs", 1, "--device", "cpu")
    return ("experiment", "custom", *given, *more)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fcdd", "hsc", "autoencoder", "gaussian"])
def test_the_model_file_goes_through_the_other_verbs(run, folder, tmp_path, method):
    assert run(*arguments(folder, tmp_path / "out", "--method", method, "--models")).status == 0
    model = tmp_path / "out/runs" / method / "parts/seed-0/model.onnx"
    evaluated = run("evaluate", model, folder, "--json")
    assert evaluated.status == 0, evaluated.err
    assert evaluated.json["images"] == 8
    assert run("info", model, "--json").json["calibration_images"] == 5
    predicted = run("predict", model, folder / "test/hole", "-o", tmp_path / "predicted")
    assert predicted.status in (0, 1), predicted.err
    metadata = Detector.load(model).metadata
    roles = metadata.roles
    assert not set(roles["fit"]) & set(roles["calibration"])
    assert len(metadata.used_images) == 25
    assert (metadata.data["layout"], metadata.data["nominal_class"]) == ("mvtec", None)
    assert metadata.settings["circumstances"]["calibration"] == f"{len(roles['calibration'])} of 25 nominal images"
    assert ("flat" in metadata.supervision) == (method == "hsc")


def test_images_learned_from_are_left_out_of_an_evaluation(run, folder, tmp_path):
    assert run(*arguments(folder, tmp_path / "out", "--masks", 2, "--models")).status == 0
    model = tmp_path / "out/runs/fcdd/parts/seed-0/model.onnx"
    assert run("evaluate", model, folder, "--json").json["images"] == 6
    assert len(Detector.load(model).metadata.roles["labelled"]) == 2


def test_classes_are_nominal_in_turn(run, tmp_path):
    for split, count in (("train", 6), ("test", 3)):
        for number in range(count):
            save_image(tmp_path / f"data/{split}/plain/{number}.png", noise(number + 50 * (split == "test")))
            save_image(tmp_path / f"data/{split}/stained/{number}.png", stained(number + 50 * (split == "test")))
    assert run(*arguments(tmp_path / "data", tmp_path / "out", "--models")).status == 0
    for name in ("plain", "stained"):
        model = tmp_path / "out/runs/fcdd" / name / "seed-0/model.onnx"
        assert Detector.load(model).metadata.data["nominal_class"] == name
        assert run("evaluate", model, tmp_path / "data", "--nominal-class", name, "--json").json["images"] == 6


def plan(folder: Path, output: Path, *, models: bool) -> Plan:
    recipe = Recipe.load("custom").with_network("cnn28")
    return Plan(recipe, ("fcdd",), (), 1, folder, None, output, Settings(device="cpu", epochs=1), models=models)


def made(plan: Plan) -> list[str]:
    sentences: list[str] = []
    run_experiment(plan, progress=lambda *_: None, notify=sentences.append)
    return sentences


@pytest.mark.slow
def test_a_run_with_a_model_file_is_another_run(folder, tmp_path):
    place = tmp_path / "runs/fcdd/parts/seed-0"

    def key() -> str:
        return json.loads((place / "run.json").read_text("utf-8"))["key"]

    assert len(made(plan(folder, tmp_path, models=False))) == 1
    first = key()
    assert not (place / "model.onnx").exists()
    (sentence,) = made(plan(folder, tmp_path, models=True))
    assert sentence.endswith(str(place / "model.onnx"))
    assert made(plan(folder, tmp_path, models=True)) == []
    assert key() != first
    (place / "model.onnx").unlink()
    assert len(made(plan(folder, tmp_path, models=True))) == 1  # it is made again
    assert len(made(plan(folder, tmp_path, models=False))) == 1
    assert key() == first
    assert not (place / "model.onnx").exists()  # not beside the weights of another training


def test_copies_are_on_one_side():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (10, 3, 28, 28), dtype=np.uint8))
    task = Task(ArrayImages(pixels.repeat(2, 1, 1, 1)), ArrayImages(pixels), torch.zeros(10), ("good",) * 10)
    split = hold_out(task, Recipe.load("custom").with_network("cnn32"), "fcdd", seed=1).split
    assert len(split.calibration) == 2
    assert len(split.fit) == 16
    assert not {index % 10 for index in split.fit} & {index % 10 for index in split.calibration}


@pytest.mark.parametrize("name", ["pascal-voc", "planted-cue"])
def test_experiments_with_swapped_roles_write_no_model_files(run, tmp_path, name):
    outcome = run("experiment", name, "--data", tmp_path, "-o", tmp_path / "out", "--models")
    assert outcome.status != 0
    assert "as anomalous; leave out --models" in outcome.err


def test_two_images_at_least(folder, tmp_path):
    save_image(tmp_path / "one/train/good/1.png", noise(1))
    save_image(tmp_path / "one/test/good/1.png", noise(2))
    save_image(tmp_path / "one/test/hole/1.png", stained(2))
    with pytest.raises(BlemishError, match="training needs at least two"):
        made(plan(tmp_path / "one", tmp_path / "out", models=True))
