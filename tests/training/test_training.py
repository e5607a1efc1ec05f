"""Training end to end on small drawn images: the file, its seeds, its split, its resume, its parity with torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from blemish.conversion.calibration_images import find_calibration_images
from blemish.datasets.layouts import read_data_set
from blemish.datasets.splits import split_nominal
from blemish.errors import BlemishError
from blemish.evaluation.run import evaluate
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS
from blemish.model.scored_image import ScoredImage
from blemish.networks.timm_cnn import TimmCNN
from blemish.training.config import DefectBranchConfig, TrainConfig
from blemish.training.plan import DetectorPlan
from blemish.training.run import train as train_with
from helpers.few_draws import FEW_DRAWS
from helpers.hammers import pictures
from helpers.keeping import Kept, keeping
from helpers.parts import save, write_parts

# Little of all that a training makes up.
FEW = DefectBranchConfig(nominal_copies=20, labelled_images=60, synthetic_images=40)
train = partial(train_with, defect_branch=FEW)
SIZE = (64, 96)  # a rectangle: nothing may assume a square
GAUSSIANS = ["reading", "principal components", "features", "calibration"]  # stages without labels


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def labelled_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("labelled"), labelled=3)


@dataclass(frozen=True)
class Trained:
    detector: Detector
    path: Path
    stages: list[str]


@pytest.fixture(scope="module")
def plain(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Without labels."""
    path, stages = tmp_path_factory.mktemp("plain") / "m.onnx", []
    detector = train(parts, path, size=SIZE, progress=lambda stage, *_: stages.append(stage))
    return Trained(detector, path, stages)


def test_it_finds_the_spots_and_says_what_it_learned_from(parts: Path, plain: Trained) -> None:
    evaluation, metadata = evaluate(plain.detector, read_data_set(parts)), plain.detector.metadata
    assert evaluation.metrics["image_auroc"] == 1.0
    assert evaluation.metrics["pixel_auroc"] > 0.95
    assert metadata.supervision == "good images only"
    assert (metadata.data["train_images"], metadata.data["calibration_images"]) == (10, 2)
    assert metadata.settings["strides"] == [4, 8, 16, 32]
    assert not {"anomalies", "cells"} & set(metadata.settings)
    assert not metadata.has_refit
    assert not metadata.coarse_grid
    assert list(dict.fromkeys(plain.stages)) == GAUSSIANS
    assert [path.name for path in plain.path.parent.iterdir()] == ["m.onnx"]


def test_the_file_holds_the_configuration_and_the_plan(plain: Trained) -> None:
    metadata = plain.detector.metadata
    config = TrainConfig.from_dict(metadata.config)
    assert config == TrainConfig(size=SIZE, defect_branch=FEW)
    plan = DetectorPlan.from_dict(metadata.plan or {})
    assert (plan.size, plan.supervision, plan.aligned) == (metadata.size, metadata.supervision, metadata.aligned)
    (network,) = plan.networks
    assert (network.fit, network.calibration) == tuple(len(metadata.roles[role]) for role in ("fit", "calibration"))


@pytest.mark.slow
@pytest.mark.parametrize("good", [2, 3])
def test_a_few_images_are_enough(good: int, tmp_path: Path) -> None:
    detector = train(write_parts(tmp_path / "parts", good=good), tmp_path / "m.onnx", size=SIZE, epochs=1)
    maps, scores, _ = detector.forward(np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8))
    assert np.isfinite(maps).all()
    assert (scores > 0).all()


# Parts that lie in any direction


def write_hammers(root: Path, *, good: int) -> tuple[Path, np.ndarray]:
    """A folder of good hammers and one with a spot on its head, with a mask; and where the spot is, row and column."""
    images, angles, centres = pictures(good + 1)
    for number, image in enumerate(images[:-1]):
        save(root / f"train/good/{number}.png", image)
    cos, sin = np.cos(np.deg2rad(angles[-1])), np.sin(np.deg2rad(angles[-1]))
    spot = centres[-1] + np.array([[cos, sin], [-sin, cos]]) @ [4, 29]
    rows, columns = np.indices(images.shape[1:3])
    mask = np.hypot(rows - spot[0], columns - spot[1]) < 4
    images[-1][mask] = 240
    save(root / "train/spot/0.png", images[-1])
    save(root / "ground_truth/spot/0_mask.png", 255 * mask.astype(np.uint8))
    return root, spot


def test_parts_are_turned_upright_where_they_lie_in_any_direction(tmp_path: Path) -> None:
    """Where they are not, and why, is a matter of the plan."""
    root, spot = write_hammers(tmp_path / "hammers", good=24)
    said: list[str] = []
    detector = train(root, tmp_path / "m.onnx", size=(128, 128), epochs=2, notify=said.append)
    assert detector.metadata.aligned
    assert any("turned upright" in sentence for sentence in said)
    # The labelled spot is found where it lies in its image, and a good part in a new direction is not alarming.
    (labelled,) = detector.predict_iter([root / "train/spot/0.png"])
    assert isinstance(labelled, ScoredImage)
    found = np.unravel_index(labelled.anomaly_map.argmax(), labelled.anomaly_map.shape)
    assert np.hypot(*(found - spot)) < 8
    good = detector.score(list(pictures(6, seed=9)[0])).scores
    assert labelled.score > 2 * good.max()


def test_the_same_seed_gives_the_same_file_and_another_does_not(labelled_parts: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(labelled_parts, tmp_path / name, size=SIZE, seed=seed, epochs=1, defect_branch=FEW_DRAWS)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")


def test_no_used_image_counts_in_an_evaluation(plain: Trained, tmp_path: Path) -> None:
    leaky = write_parts(tmp_path / "leaky")
    used = leaky / "train" / "good" / "train3.png"
    (leaky / "test" / "good" / "again.png").write_bytes(used.read_bytes())
    evaluation = evaluate(plain.detector, read_data_set(leaky))
    assert evaluation.left_out == 1
    assert "again.png" not in {one.sample.path.name for one in evaluation.images}


def test_the_file_says_what_became_of_each_image(plain: Trained, parts: Path) -> None:
    metadata, data = plain.detector.metadata, read_data_set(parts)
    split = split_nominal(len(data.train), false_alarm_rate=0.01, seed=0, validate=False)
    digests = [fingerprint(sample.path)[:FINGERPRINT_DIGITS] for sample in data.train]
    assert metadata.roles == {
        "fit": tuple(digests[index] for index in split.fit),
        "validation": (),
        "calibration": tuple(digests[index] for index in split.calibration),
        "labelled": (),
    }
    assert find_calibration_images(metadata, data) == find_calibration_images(replace(metadata, roles={}), data)


@pytest.mark.parametrize(
    ("labelled", "masks"),
    [(3, True), (3, False), pytest.param(10, True, marks=pytest.mark.slow)],
    ids=["masks", "no masks", "many"],
)
def test_labelled_defects_are_learned_from(labelled: int, masks: bool, tmp_path: Path) -> None:
    parts, stages = write_parts(tmp_path / "parts", labelled=labelled, masks=masks), []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, epochs=12, progress=lambda stage, *_: stages.append(stage))
    told = f"good images + {labelled} labelled defects ({labelled if masks else 'no'} masks)"
    assert detector.metadata.supervision == told
    roles = detector.metadata.roles
    assert len(roles["labelled"]) == labelled
    assert set(roles["validation"]) < set(roles["fit"])
    assert sorted(roles["fit"] + roles["calibration"] + roles["labelled"]) == list(detector.metadata.used_images)
    assert stages.count("defect branch") == 12
    assert list(dict.fromkeys(stages)) == [*GAUSSIANS[:-1], "defect branch", GAUSSIANS[-1]]
    evaluation = evaluate(detector, read_data_set(parts))
    assert evaluation.metrics["image_auroc"] == 1.0
    assert evaluation.metrics["pixel_auroc"] > 0.95


def write_others(folder: Path) -> Path:
    for index in range(3):
        save(folder / f"{index}.png", np.random.default_rng(index).integers(0, 255, (50, 80, 3), np.uint8))
    return folder


def test_labels_change_nothing_of_the_gaussians(labelled_parts: Path, parts: Path, tmp_path: Path) -> None:
    """What is learned from labels stands beside them, so other defects are found as far as without."""
    kept = Kept()
    with keeping(kept):
        for data in (parts, labelled_parts):
            train(data, tmp_path / "m.onnx", size=SIZE, epochs=1, defect_branch=FEW_DRAWS)
    alone, beside = (network.head for network in kept.networks)
    assert (len(alone.branches), len(beside.branches)) == (0, 1)
    torch.testing.assert_close(beside.distance.state_dict(), alone.distance.state_dict(), rtol=0, atol=0)


def test_outliers(parts: Path, tmp_path: Path) -> None:
    others = write_others(tmp_path / "others")
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, epochs=1, outlier_exposure=others, defect_branch=FEW_DRAWS)
    assert detector.metadata.supervision == "good images + outlier exposure (others)"


@pytest.mark.parametrize("name", ["confetti", pytest.param("perlin", marks=pytest.mark.slow)])
def test_synthetic_anomalies(name: str, parts: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    detector = train(
        parts,
        tmp_path / "m.onnx",
        size=SIZE,
        epochs=3,
        synthetic=name,
        defect_branch=FEW_DRAWS,
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert detector.metadata.supervision == f"good images + synthetic anomalies ({name})"
    assert detector.metadata.roles["validation"]
    assert stages.count("defect branch") == 3


@pytest.mark.parametrize(("old", "new"), [("outliers", "outlier_exposure"), ("ignore", "ignore_mask")])
def test_old_names_of_options_warn_and_are_not_given_beside_the_new_ones(
    old: str, new: str, parts: Path, tmp_path: Path
) -> None:
    with (
        pytest.warns(DeprecationWarning, match=rf"train\({old}=\.\.\.\) is now called train\({new}=\.\.\.\)") as warned,
        pytest.raises(BlemishError, match="nowhere"),
    ):
        train(parts, tmp_path / "m.onnx", **{old: tmp_path / "nowhere"})
    assert warned[0].filename == __file__
    with pytest.raises(BlemishError, match=f"{old} is the old name of {new}"):
        train(parts, tmp_path / "m.onnx", **{old: "a", new: "b"})


@pytest.mark.parametrize(("option", "value"), [("anomalies", "scars"), ("cells", "wide")])
def test_options_of_earlier_releases_change_nothing_and_say_so(
    option: str, value: str, parts: Path, plain: Trained, tmp_path: Path
) -> None:
    with pytest.warns(DeprecationWarning, match=f"{option}= no longer does anything: ") as warned:
        train(parts, tmp_path / "m.onnx", size=SIZE, **{option: value})
    (mine,) = (one for one in warned if one.category is DeprecationWarning and "no longer" in str(one.message))
    assert mine.filename == __file__
    assert fingerprint(tmp_path / "m.onnx") == fingerprint(plain.path)


def test_a_killed_training_goes_on_to_the_same_file(parts: Path, tmp_path: Path, killed_after: Callable) -> None:
    outliers = write_others(tmp_path / "others")

    def train_in(name: str) -> list[str]:
        told: list[str] = []
        (tmp_path / name).mkdir(exist_ok=True)
        options = {"size": SIZE, "epochs": 4, "outlier_exposure": outliers}
        train(parts, tmp_path / name / "m.onnx", notify=told.append, **options)
        return [one for one in told if not one.startswith("few good images")]

    assert train_in("whole") == []
    with killed_after(2, stage="defect branch"):
        train_in("killed")
    assert not (tmp_path / "killed" / "m.onnx").exists()
    assert train_in("killed") == ["defect branch: resumed after epoch 2 of 4"]
    assert fingerprint(tmp_path / "killed" / "m.onnx") == fingerprint(tmp_path / "whole" / "m.onnx")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["m.onnx"]


def test_an_unreadable_image_is_told_and_left_out(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    (parts / "train" / "good" / "broken.png").write_bytes(b"no image")
    told = []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, notify=told.append)
    assert len([one for one in told if "broken.png" in one]) == 1
    assert detector.metadata.data["train_images"] + detector.metadata.data["calibration_images"] == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (100, 96)}, "multiple of 32"),
        ({"false_alarm_rate": 0.0}, "between 0 and 1"),
        ({"epochs": 0}, "1 or more"),
        ({"backbone": "no_such_net"}, "no backbone called"),
        ({"backbone": "resnet18"}, "not on this computer"),
        ({"weights": Path("missing.safetensors")}, "no weights file"),
        ({"outlier_exposure": Path("missing")}, "missing"),
        ({"output": "nowhere/m.onnx"}, "no folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_refusals(options: dict, words: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlemishError, match=words) as caught:
        train(parts, **({"output": "m.onnx", "size": SIZE} | options))
    assert "\n" not in str(caught.value)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="at least two"):
        train(write_parts(tmp_path / "parts", good=1), tmp_path / "m.onnx", size=SIZE)


def test_weights_from_a_file_are_the_bundled_ones(parts: Path, plain: Trained, tmp_path: Path) -> None:
    save_file(TimmCNN().backbone.state_dict(), tmp_path / "lite0.safetensors")
    from_file = train(parts, tmp_path / "m.onnx", size=SIZE, weights=tmp_path / "lite0.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), np.uint8)
    np.testing.assert_array_equal(plain.detector.forward(pixels)[0], from_file.forward(pixels)[0])


def test_loading_what_it_wrote(plain: Trained) -> None:
    loaded = Detector.load(plain.path, false_alarm_rate=0.7)
    assert loaded.metadata == plain.detector.metadata
    assert loaded.calibration.threshold < plain.detector.calibration.threshold
