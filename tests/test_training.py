"""Training end to end on small drawn images: the file, its seeds, its split, its resume, its parity with torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from blemish import copies, evidence, gate, training_anomalies
from blemish.datasets.layouts import read_data_set
from blemish.datasets.splits import split_nominal
from blemish.detector import Detector, ScoredImage
from blemish.errors import BlemishError
from blemish.evaluation import evaluate
from blemish.exporting.held_back import held_back_images
from blemish.files import fingerprint
from blemish.model_file import FINGERPRINT_DIGITS
from blemish.networks.backbones import Backbone
from blemish.synthetic.turned import ANY, Freedom, exposed
from blemish.training import train
from hammers import pictures
from keeping import Kept, keeping

SIZE = (64, 96)  # a rectangle: nothing may assume a square
CLOSED_FORM = {"size": SIZE, "anomalies": "none"}  # for what has nothing to do with the gate
HELD_BACK = ("held back", "copies held back")  # stages of the second opinion


def texture(rng: np.random.Generator) -> np.ndarray:
    return (120 + 20 * np.sin(np.arange(96) / 3) + rng.normal(0, 6, (64, 96))).clip(0, 255).astype(np.uint8)


def write_parts(root: Path, *, good: int = 12, labelled: int = 0, masks: bool = True) -> Path:
    rng = np.random.default_rng(0)
    for split, defect, number in (
        ("train", "good", good),
        ("test", "good", 4),
        ("train", "spot", labelled),
        ("test", "spot", 4),
    ):
        for index in range(number):
            pixels = texture(rng)
            mask = np.zeros_like(pixels)
            if defect == "spot":
                row, column = rng.integers(8, 40), rng.integers(8, 70)
                mask[row : row + 14, column : column + 14] = 255
                pixels[mask > 0] = 20
                if masks or split == "test":
                    save(root / "ground_truth" / defect / f"{split}{index}_mask.png", mask)
            save(root / split / defect / f"{split}{index}.png", pixels)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


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
def closed_form(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path, stages = tmp_path_factory.mktemp("closed form") / "m.onnx", []
    detector = train(parts, path, **CLOSED_FORM, progress=lambda stage, *_: stages.append(stage))
    return Trained(detector, path, stages)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of all that a training makes up."""
    monkeypatch.setattr(gate, "MOST_SYNTHETIC", 40)
    monkeypatch.setattr(evidence, "COPIES", 20)
    monkeypatch.setattr(training_anomalies, "MOST_LABELLED", 60)
    monkeypatch.setattr(copies, "ENOUGH_IMAGES", 20)


def test_it_finds_the_spots_and_says_what_it_learned_from(parts: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, progress=lambda stage, *_: stages.append(stage))
    evaluation = evaluate(detector, read_data_set(parts))
    assert evaluation.metrics["image_auroc"] == 1.0
    assert evaluation.metrics["pixel_auroc"] > 0.95
    assert detector.metadata.supervision == "good images only + synthetic anomalies (scars)"
    assert (detector.metadata.data["train_images"], detector.metadata.data["calibration_images"]) == (10, 2)
    wanted = ["reading", "features", "copies", "synthetic anomalies", "gate", *HELD_BACK, "calibration"]
    assert list(dict.fromkeys(stages)) == wanted
    assert stages.count("gate") == 6
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_without_synthetic_anomalies_it_is_the_closed_form(parts: Path, closed_form: Trained) -> None:
    assert closed_form.detector.metadata.supervision == "good images only"
    assert list(dict.fromkeys(closed_form.stages)) == ["reading", "features", "copies", *HELD_BACK, "calibration"]
    assert evaluate(closed_form.detector, read_data_set(parts)).metrics["image_auroc"] == 1.0


@pytest.mark.parametrize("good", [2, 3])
def test_a_few_images_are_enough(good: int, tmp_path: Path, few: None) -> None:
    detector = train(write_parts(tmp_path / "parts", good=good), tmp_path / "m.onnx", size=SIZE, epochs=1)
    maps, scores, _ = detector.run(np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8))
    assert np.isfinite(maps).all()
    assert (scores > 0).all()


def copies_of(
    images: np.ndarray, fit: list[int], freedom: Freedom = ANY, *, upright: bool = False
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """What a training makes of images, round by round (rounds, N, H, W, 3), and the progress it tells."""
    told: list[tuple[int, int]] = []
    rounds = copies.turned_copies(
        images,
        fit,
        extract=torch.from_numpy,
        freedom=freedom,
        share=slice(0, len(fit)),
        rounds=copies.rounds_of_turned(len(fit), freedom=freedom, upright=upright),
        seed=0,
        progress=lambda *step: told.append(step),
    )
    made = [torch.cat(list(batches)).numpy() for batches in rounds]
    return np.stack(made) if made else np.empty((0, *images.shape)), told


@pytest.mark.parametrize(
    ("images", "rounds"),
    [
        (124, 1),
        (126, 0),
        (63, 1),
        (62, 2),
        (41, 3),
        (125, 0),
        (25, 4),
        (1, 124),
    ],
)
def test_copies_make_few_images_up_to_a_hundred_and_twenty_five(images: int, rounds: int) -> None:
    aligned = Freedom(sideways=True, upside_down=True, turned=False)
    made, told = copies_of(np.zeros((images, 4, 6, 3), np.uint8), list(range(images)), aligned)
    assert len(made) == rounds
    assert images * (1 + rounds) >= 125
    assert not rounds or told[-1] == (rounds * images, rounds * images)


@pytest.mark.parametrize(("images", "rounds"), [(125, 0), (124, 2), (40, 7), (8, 38)])
def test_it_takes_more_copies_where_parts_lie_in_any_direction(images: int, rounds: int) -> None:
    made, _ = copies_of(np.zeros((images, 4, 6, 3), np.uint8), list(range(images)))
    assert len(made) == rounds


@pytest.mark.parametrize(("images", "rounds"), [(40, 0), (39, 1), (8, 4), (3, 13)])
def test_upright_parts_take_fewer_copies(images: int, rounds: int) -> None:
    made, _ = copies_of(np.zeros((images, 4, 6, 3), np.uint8), list(range(images)), upright=True)
    assert len(made) == rounds
    assert images * (1 + rounds) >= 40


def test_every_image_has_an_exposure_of_its_own_whoever_makes_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 10, 3), np.uint8)
    chosen = list(range(1, 38))

    def made(share: slice) -> np.ndarray:
        batches = copies.exposed_copies(
            images, chosen, extract=torch.from_numpy, share=share, seed=3, progress=lambda *_: None
        )
        return torch.cat(list(batches)).numpy()

    whole = made(slice(0, 37))
    expected = [exposed(images[one], np.random.default_rng((3, place))) for place, one in enumerate(chosen)]
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(np.concatenate([made(slice(0, 20)), made(slice(20, 37))]), whole)


def test_copies_are_mirrored_then_turned_in_the_order_of_the_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 20, 3), np.uint8)
    fit = [0, 3, *range(5, 23)]  # more than one batch
    made, _ = copies_of(images, fit)
    for copy, axes in zip(made[:3], [(2,), (1,), (1, 2)], strict=True):
        np.testing.assert_array_equal(copy, np.flip(images[fit], axes))
    assert len(made) > 3
    assert len(np.unique(made.reshape(-1, images[0].size), axis=0)) == made.shape[0] * made.shape[1]
    np.testing.assert_array_equal(copies_of(images, fit)[0], made)


def test_enough_images_are_not_copied(tmp_path: Path) -> None:
    stages = set()
    parts = write_parts(tmp_path / "parts", good=157)  # 126 to fit to
    options = CLOSED_FORM | {"size": (32, 32)}
    train(parts, tmp_path / "m.onnx", **options, progress=lambda stage, *_: stages.add(stage))
    assert stages == {"reading", "features", "held back", "calibration"}


def test_many_outsiders_among_good_images_are_not_learned_from(tmp_path: Path) -> None:
    told: dict[int, list[str]] = {}
    scores = {}
    for defective in (0, 10):
        root = write_parts(tmp_path / str(defective), good=157)
        for index in range(defective):  # most of them are fitted to, the others calibrate
            wrong = striped(2 + index % 4)
            wrong[:4, :6] = 10 * index  # copies would count once
            save(root / f"train/good/wrong{index}.png", wrong)
        told[defective] = []
        options = CLOSED_FORM | {"size": (32, 32)}
        detector = train(root, tmp_path / f"{defective}.onnx", **options, notify=told[defective].append)
        scores[defective] = detector.score([np.repeat(striped(3)[..., None], 3, axis=2)]).scores[0]
    found = {defective: [one for one in told[defective] if "look unlike the others" in one] for defective in told}
    assert not found[0]
    assert len(found[10]) == 1
    assert "and are not learned from" in found[10][0]
    assert scores[10] > 0.5 * scores[0]  # had they been learned from, they would be ordinary


# Parts that lie in any direction


def write_hammers(root: Path, *, good: int, still: bool = False) -> tuple[Path, np.ndarray]:
    """A folder of good hammers and one with a spot on its head, with a mask; and where the spot is, row and column."""
    images, angles, centres = pictures(good + 1, still=still)
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


@pytest.mark.parametrize(
    ("still", "options", "aligned"),
    [(False, {}, True), (False, {"align": False}, False), (True, {}, False), (False, {"ignore": "mask.png"}, False)],
    ids=["any direction", "not asked for", "one direction", "with a mask that lies still"],
)
def test_parts_are_turned_upright_where_they_lie_in_any_direction(
    still: bool, options: dict[str, Any], aligned: bool, tmp_path: Path, few: None
) -> None:
    root, spot = write_hammers(tmp_path / "hammers", good=24, still=still)
    if "ignore" in options:
        options = {"ignore": tmp_path / "mask.png"}
        save(tmp_path / "mask.png", np.pad(np.full((8, 8), 255, np.uint8), ((0, 120), (0, 120))))
    told: list[str] = []
    detector = train(root, tmp_path / "m.onnx", size=(128, 128), epochs=2, notify=told.append, **options)
    assert detector.metadata.aligned == aligned
    assert any("turned upright" in sentence for sentence in told) == aligned
    if not aligned:
        return
    # The labelled spot is found where it lies in its image, and a good part in a new direction is not alarming.
    (labelled,) = detector.stream([root / "train/spot/0.png"])
    assert isinstance(labelled, ScoredImage)
    found = np.unravel_index(labelled.anomaly_map.argmax(), labelled.anomaly_map.shape)
    assert np.hypot(*(found - spot)) < 8
    good = detector.score(list(pictures(6, seed=9)[0])).scores
    assert labelled.score > 2 * good.max()


def striped(rows: int) -> np.ndarray:
    pixels = np.full((SIZE[0], SIZE[1]), 250, np.uint8)
    pixels[::rows] = 5
    return pixels


def test_the_same_seed_gives_the_same_file_and_another_does_not(parts: Path, tmp_path: Path, few: None) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(parts, tmp_path / name, size=SIZE, seed=seed, epochs=1)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")


def test_no_used_image_counts_in_an_evaluation(closed_form: Trained, tmp_path: Path) -> None:
    leaky = write_parts(tmp_path / "leaky")
    used = leaky / "train" / "good" / "train3.png"
    (leaky / "test" / "good" / "again.png").write_bytes(used.read_bytes())
    evaluation = evaluate(closed_form.detector, read_data_set(leaky))
    assert evaluation.left_out == 1
    assert "again.png" not in {one.sample.path.name for one in evaluation.images}


def test_the_file_says_what_became_of_each_image(closed_form: Trained, parts: Path) -> None:
    metadata, data = closed_form.detector.metadata, read_data_set(parts)
    split = split_nominal(len(data.train), false_alarm_rate=0.01, seed=0, validate=False)
    digests = [fingerprint(sample.path)[:FINGERPRINT_DIGITS] for sample in data.train]
    assert metadata.roles == {
        "fit": tuple(digests[index] for index in split.fit),
        "validation": (),
        "calibration": tuple(digests[index] for index in split.calibration),
        "labelled": (),
    }
    assert held_back_images(metadata, data) == held_back_images(replace(metadata, roles={}), data)


@pytest.mark.parametrize(("labelled", "masks"), [(3, True), (3, False), (10, True)], ids=["masks", "no masks", "many"])
def test_labelled_defects_are_learned_from_in_the_place_of_a_gate(
    labelled: int, masks: bool, tmp_path: Path, few: None
) -> None:
    parts, stages = write_parts(tmp_path / "parts", labelled=labelled, masks=masks), []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, epochs=12, progress=lambda stage, *_: stages.append(stage))
    told = f"good images + {labelled} labelled defects ({labelled if masks else 'no'} masks)"
    assert detector.metadata.supervision == told
    roles = detector.metadata.roles
    assert len(roles["labelled"]) == labelled
    assert set(roles["validation"]) < set(roles["fit"])
    assert sorted(roles["fit"] + roles["calibration"] + roles["labelled"]) == list(detector.metadata.used_images)
    assert stages.count("evidence") == 12
    assert "gate" not in stages
    evaluation = evaluate(detector, read_data_set(parts))
    assert evaluation.metrics["image_auroc"] == 1.0
    assert evaluation.metrics["pixel_auroc"] > 0.95


def write_others(folder: Path) -> Path:
    for index in range(3):
        save(folder / f"{index}.png", np.random.default_rng(index).integers(0, 255, (50, 80, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("differ", "lamp", "options", "wide"),
    [
        (True, 0, {}, True),
        (False, 0, {}, False),
        (False, 0.2, {}, False),
        (True, 0, {"cells": "small"}, False),
        (False, 0, {"cells": "wide"}, True),
    ],
    ids=["differ", "alike", "alike under a lamp that flickers", "small asked for", "wide asked for"],
)
def test_images_that_differ_as_wholes_are_compared_by_wide_cells(
    differ: bool, lamp: float, options: dict[str, Any], wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise as coarse as each image has it, or all alike."""
    monkeypatch.setattr(copies, "ENOUGH_IMAGES", 1)  # nothing is turned
    for index in range(20):
        rng, cell = np.random.default_rng(index), 2 ** (index % 4) if differ else 2
        pixels = np.kron(rng.integers(60, 200, (128 // cell, 128 // cell)), np.ones((cell, cell)))
        pixels *= np.exp(rng.normal(-lamp, lamp))
        save(tmp_path / "parts" / f"train/good/{index}.png", pixels.astype(np.uint8))
    told: list[str] = []
    options = CLOSED_FORM | {"size": (128, 128)} | options
    kept = Kept()
    with keeping(kept):
        detector = train(tmp_path / "parts", tmp_path / "m.onnx", notify=told.append, **options)
    assert detector.metadata.wide_cells == wide
    (network,), (material,) = kept.networks, kept.materials
    assert (network.head.focus is not None) == wide
    if network.head.focus is not None:  # small cells have learned from all images, each under another exposure too
        images, exposures = material.pixels.images[list(material.fit)], []
        for number, image in enumerate(images):
            exposures.append(exposed(image, np.random.default_rng((0, number))))
        with torch.inference_mode():
            deepest = network.features(torch.from_numpy(np.concatenate([images, np.stack(exposures)])))[:, -112:]
        np.testing.assert_allclose(network.head.focus.gaussian.mean.numpy(), deepest.mean(0).numpy(), atol=1e-3)
    assert any("differ as wholes" in sentence for sentence in told) == (wide and "cells" not in options)


@pytest.mark.parametrize(("cells", "views"), [("small", 1), ("wide", 2)])
def test_by_wide_cells_there_are_two_views(cells: str, views: int, tmp_path: Path, few: None) -> None:
    kept = Kept()
    with keeping(kept):
        train(write_parts(tmp_path / "parts", labelled=3), tmp_path / "m.onnx", size=SIZE, epochs=1, cells=cells)
    assert len(kept.networks[0].head.gaussian.views) == views


def test_synthetic_anomalies_and_outliers(parts: Path, tmp_path: Path, few: None) -> None:
    options = {"size": SIZE, "epochs": 1, "anomalies": "confetti", "outliers": write_others(tmp_path / "others")}
    detector = train(parts, tmp_path / "m.onnx", **options)
    wanted = "good images + synthetic anomalies (confetti) + outlier exposure (others)"
    assert detector.metadata.supervision == wanted


def test_a_training_killed_in_one_stage_then_the_other_goes_on_to_the_same_file(
    parts: Path, tmp_path: Path, killed_after: Callable, few: None
) -> None:
    outliers = write_others(tmp_path / "others")

    def train_in(name: str) -> list[str]:
        told: list[str] = []
        (tmp_path / name).mkdir(exist_ok=True)
        options = {"size": SIZE, "epochs": 4, "outliers": outliers}
        train(parts, tmp_path / name / "m.onnx", notify=told.append, **options)
        return [one for one in told if not one.startswith("few good images")]

    def die_in(stage: str) -> None:
        with killed_after(2, stage=stage):
            train_in("killed")
        assert not (tmp_path / "killed" / "m.onnx").exists()

    assert train_in("whole") == []
    die_in("gate")
    die_in("evidence")
    assert train_in("killed") == ["gate: resumed after epoch 4 of 4", "evidence: resumed after epoch 2 of 4"]
    assert fingerprint(tmp_path / "killed" / "m.onnx") == fingerprint(tmp_path / "whole" / "m.onnx")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["m.onnx"]


def test_an_unreadable_image_is_told_and_left_out(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    (parts / "train" / "good" / "broken.png").write_bytes(b"no image")
    told = []
    detector = train(parts, tmp_path / "m.onnx", **CLOSED_FORM, notify=told.append)
    assert len([one for one in told if "broken.png" in one]) == 1
    assert detector.metadata.data["train_images"] + detector.metadata.data["calibration_images"] == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (100, 96)}, "multiple of 32"),
        ({"false_alarm_rate": 0.0}, "between 0 and 1"),
        ({"epochs": 0}, "1 or more"),
        ({"backbone": "no_such_net"}, "no timm backbone"),
        ({"backbone": "resnet18"}, "not on this computer"),
        ({"weights": Path("missing.safetensors")}, "no weights file"),
        ({"outliers": Path("missing")}, "missing"),
        ({"output": "nowhere/m.onnx"}, "no folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_refusals(options: dict, words: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlemishError, match=words) as caught:
        train(parts, **({"output": "m.onnx"} | CLOSED_FORM | options))
    assert "\n" not in str(caught.value)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="at least two"):
        train(write_parts(tmp_path / "parts", good=1), tmp_path / "m.onnx", **CLOSED_FORM)


def test_weights_from_a_file_are_the_bundled_ones(parts: Path, closed_form: Trained, tmp_path: Path) -> None:
    save_file(Backbone(strides=(4, 8, 16)).trunk.state_dict(), tmp_path / "lite0.safetensors")
    from_file = train(parts, tmp_path / "m.onnx", **CLOSED_FORM, weights=tmp_path / "lite0.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), np.uint8)
    np.testing.assert_array_equal(closed_form.detector.run(pixels)[0], from_file.run(pixels)[0])


def test_loading_what_it_wrote(closed_form: Trained) -> None:
    loaded = Detector.load(closed_form.path, false_alarm_rate=0.7)
    assert loaded.metadata == closed_form.detector.metadata
    assert loaded.calibration.threshold < closed_form.detector.calibration.threshold


def test_two_good_images_are_enough_and_no_gate_is_claimed(tmp_path: Path) -> None:
    detector = train(write_parts(tmp_path / "parts", good=2), tmp_path / "m.onnx", size=SIZE)
    assert detector.metadata.supervision == "good images only"
    pixels = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), np.uint8)
    assert np.isfinite(detector.run(pixels)[0]).all()
