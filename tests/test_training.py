"""Training end to end on small drawn images: the file, its seeds, its split, its resume, its parity with torch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish import refinement
from blemish.checkpoint import Checkpoint
from blemish.datasets.layouts import read_data_set
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation import evaluate
from blemish.files import fingerprint
from blemish.training import train

SIZE = (64, 96)  # a rectangle: nothing may assume a square


def texture(rng: np.random.Generator) -> np.ndarray:
    return (120 + 20 * np.sin(np.arange(96) / 3) + rng.normal(0, 6, (64, 96))).clip(0, 255).astype(np.uint8)


def write_parts(root: Path, *, good: int = 12, labelled: int = 0) -> Path:
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


def test_it_finds_the_spots_and_says_what_it_learned_from(parts: Path, tmp_path: Path) -> None:
    stages = []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, progress=lambda stage, done, total: stages.append(stage))
    evaluation = evaluate(detector, read_data_set(parts))
    assert evaluation.metrics["image_auroc"] == 1.0
    assert evaluation.metrics["pixel_auroc"] > 0.95
    assert detector.metadata.supervision == "good images only"
    assert (detector.metadata.data["train_images"], detector.metadata.data["calibration_images"]) == (10, 2)
    assert list(dict.fromkeys(stages)) == ["reading", "features", "calibration"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_same_seed_gives_the_same_file_and_another_does_not(parts: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(parts, tmp_path / name, size=SIZE, seed=seed)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") != fingerprint(tmp_path / "c")


def test_no_used_image_counts_in_an_evaluation(parts: Path, tmp_path: Path) -> None:
    leaky = write_parts(tmp_path / "leaky")
    used = leaky / "train" / "good" / "train3.png"
    (leaky / "test" / "good" / "again.png").write_bytes(used.read_bytes())
    detector = train(parts, tmp_path / "m.onnx", size=SIZE)
    evaluation = evaluate(detector, read_data_set(leaky))
    assert evaluation.left_out == 1
    assert "again.png" not in {one.sample.path.name for one in evaluation.images}


def test_masks_are_learned_from(labelled_parts: Path, tmp_path: Path) -> None:
    stages = []
    detector = train(
        labelled_parts, tmp_path / "m.onnx", size=SIZE, epochs=3, progress=lambda stage, *_: stages.append(stage)
    )
    assert detector.metadata.supervision == "good images + 3 labelled defects (3 masks)"
    assert "head" in stages
    assert evaluate(detector, read_data_set(labelled_parts)).metrics["image_auroc"] == 1.0


@pytest.mark.parametrize("kind", ["confetti", "scars"])
def test_synthetic_anomalies_and_outliers(kind: str, parts: Path, tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / "others" / f"{index}.png", np.random.default_rng(index).integers(0, 255, (50, 80, 3), np.uint8))
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, epochs=1, anomalies=kind, outliers=tmp_path / "others")
    assert detector.metadata.supervision == f"good images + synthetic anomalies ({kind}) + outlier exposure (others)"


def test_a_killed_training_goes_on_to_the_same_file(
    labelled_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole" / "m.onnx"
    killed = tmp_path / "killed" / "m.onnx"
    for path in (whole, killed):
        path.parent.mkdir()
    train(labelled_parts, whole, size=SIZE, epochs=4)

    save_state = Checkpoint.save

    def save_then_die(self: Checkpoint, tensors: dict, numbers: dict) -> None:
        save_state(self, tensors, numbers)
        if numbers["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(labelled_parts, killed, size=SIZE, epochs=4)
    assert not killed.exists()
    monkeypatch.undo()

    told = []
    train(labelled_parts, killed, size=SIZE, epochs=4, notify=told.append)
    assert told == ["resumed after epoch 2 of 4"]
    assert fingerprint(killed) == fingerprint(whole)
    assert [path.name for path in killed.parent.iterdir()] == ["m.onnx"]


def test_early_stopping_keeps_the_best_epoch(
    labelled_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, *[2.0] * 50])
    monkeypatch.setattr(refinement, "_validate", lambda *_: next(losses))
    done = []
    train(
        labelled_parts,
        tmp_path / "m.onnx",
        size=SIZE,
        epochs=50,
        progress=lambda stage, epoch, total: done.append(epoch) if stage == "head" else None,
    )
    assert done[-1] == 2 + refinement.PATIENCE


def test_an_unreadable_image_is_told_and_left_out(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    (parts / "train" / "good" / "broken.png").write_bytes(b"no image")
    told = []
    detector = train(parts, tmp_path / "m.onnx", size=SIZE, notify=told.append)
    assert len(told) == 1
    assert "broken.png" in told[0]
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
        train(parts, **({"output": "m.onnx", "size": SIZE} | options))
    assert "\n" not in str(caught.value)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="at least two"):
        train(write_parts(tmp_path / "parts", good=1), tmp_path / "m.onnx", size=SIZE)


def test_weights_from_a_file_are_the_bundled_ones(parts: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from blemish.networks.backbones import Backbone

    save_file(Backbone(strides=(4, 8, 16)).trunk.state_dict(), tmp_path / "lite0.safetensors")
    bundled = train(parts, tmp_path / "a.onnx", size=SIZE)
    from_file = train(parts, tmp_path / "b.onnx", size=SIZE, weights=tmp_path / "lite0.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), np.uint8)
    np.testing.assert_array_equal(bundled.run(pixels)[0], from_file.run(pixels)[0])


def test_loading_what_it_wrote(parts: Path, tmp_path: Path) -> None:
    trained = train(parts, tmp_path / "m.onnx", size=SIZE)
    loaded = Detector.load(tmp_path / "m.onnx", false_alarm_rate=0.7)
    assert loaded.metadata == trained.metadata
    assert loaded.calibration.threshold < trained.calibration.threshold
