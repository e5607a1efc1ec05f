"""TensorBoard's event files, read back with TensorBoard itself."""

import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError
from blemish.training.config import DefectBranchConfig
from blemish.training.run import train as train_with
from helpers.parts import write_parts

# Little of all that a training makes up.
FEW = DefectBranchConfig(nominal_copies=20, labelled_images=60, synthetic_images=40)
train = partial(train_with, size=(64, 96), epochs=3, defect_branch=FEW)
CURVES = ("loss", "learning rate")
NUMBERS = ("seconds", "training images", "calibration images", "threshold", "false-alarm rate")
WORDS = ("method", "backbone", "size", "seed", "supervision", "calibration")


def events(folder: Path) -> Any:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return reader.EventAccumulator(str(folder), size_guidance=dict.fromkeys(reader.DEFAULT_SIZE_GUIDANCE, 0)).Reload()


def picture(read: Any, tag: str) -> np.ndarray:
    (event,) = read.Images(tag)
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))


@pytest.fixture(autouse=True)
def _tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def test_a_training_with_labels_logs_curves_heatmaps_scores_and_figures(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=3)
    detector = train(parts, tmp_path / "m.onnx", tensorboard=tmp_path / "log")
    read = events(tmp_path / "log")
    for name in CURVES:
        assert [point.step for point in read.Scalars(name)] == [1, 2, 3]
    assert read.Scalars("loss")[-1].value < read.Scalars("loss")[0].value

    tags = read.Tags()
    assert sorted(tags["scalars"]) == sorted([*CURVES, *(f"figures/{name}" for name in NUMBERS)])
    figures = {name: read.Scalars(f"figures/{name}")[0].value for name in NUMBERS}
    assert figures["threshold"] == pytest.approx(detector.calibration.threshold)
    assert figures["training images"] == detector.metadata.data["train_images"]
    assert figures["calibration images"] == detector.calibration.images
    assert 0 < figures["seconds"] < 300
    words = {
        name: read.Tensors(f"figures/{name}/text_summary")[0].tensor_proto.string_val[0].decode() for name in WORDS
    }
    assert words["calibration"] == detector.calibration.statement()
    assert (words["method"], words["size"], words["seed"]) == ("gaussian", "64 x 96", "0")

    (histogram,) = read.Histograms("calibration scores")
    scores = detector.calibration.scores
    assert histogram.histogram_value.num == len(scores)
    assert histogram.histogram_value.min == pytest.approx(min(scores))
    assert histogram.histogram_value.max == pytest.approx(max(scores))

    images = sorted(tags["images"])
    assert [tag for tag in images if "labelled" in tag] == [
        f"heatmaps/labelled/train/spot/train{number}.png" for number in range(3)
    ]
    assert len(images) == 3 + len(scores)
    spot = picture(read, "heatmaps/labelled/train/spot/train0.png")
    assert np.ptp(spot.astype(int), axis=2).max() > 100  # a photograph in grey, and the colours of a heatmap


def test_the_calibration_images_with_the_highest_scores_are_shown(tmp_path: Path) -> None:
    detector = train(write_parts(tmp_path / "parts", good=60), tmp_path / "m.onnx", tensorboard=tmp_path / "log")
    read = events(tmp_path / "log")
    shown = [tag.removeprefix("heatmaps/calibration/") for tag in read.Tags()["images"]]
    scores = [scored.score for scored in detector.predict_iter([tmp_path / "parts" / name for name in shown])]
    np.testing.assert_allclose(scores, sorted(detector.calibration.scores, reverse=True)[:8], rtol=1e-6)
    assert not set(CURVES) & set(read.Tags()["scalars"])  # nothing was learned in epochs


@pytest.mark.slow
def test_each_fold_has_curves_of_its_own(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=2)
    detector = train(parts, tmp_path / "m.onnx", tensorboard=tmp_path / "log", cross_conformal=2)
    read = events(tmp_path / "log")
    curves = {f"fold {fold}/{name}" for fold in (1, 2) for name in CURVES}
    assert {tag for tag in read.Tags()["scalars"] if not tag.startswith("figures/")} == curves
    assert all([point.step for point in read.Scalars(curve)] == [1, 2, 3] for curve in curves)
    (histogram,) = read.Histograms("calibration scores")
    assert histogram.histogram_value.num == detector.calibration.images == 12


@pytest.mark.slow
def test_a_log_leaves_no_trace_in_the_model_file(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=2)
    train(parts, tmp_path / "plain.onnx")
    detector = train(parts, tmp_path / "logged.onnx", tensorboard=tmp_path / "log")
    assert "tensorboard" not in detector.metadata.config
    assert (tmp_path / "plain.onnx").read_bytes() == (tmp_path / "logged.onnx").read_bytes()


@pytest.mark.slow
def test_a_resumed_training_may_log_elsewhere_and_goes_on_at_its_step(
    tmp_path: Path, killed_after: Callable[..., Any]
) -> None:
    parts = write_parts(tmp_path / "parts", labelled=2)
    with killed_after(2):
        train(parts, tmp_path / "m.onnx", tensorboard=tmp_path / "first")
    train(parts, tmp_path / "m.onnx", tensorboard=tmp_path / "second")
    assert [point.step for point in events(tmp_path / "second").Scalars("loss")] == [3]
    assert [point.step for point in events(tmp_path / "first").Scalars("loss")][:1] == [1]  # closed when it was killed


def test_parts_under_a_mask_are_striped_and_do_not_count(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=8)
    for file in (parts / "train/good").iterdir():
        mask = np.zeros((64, 96), np.uint8)
        mask[:, :48] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / file.name)
    train(parts, tmp_path / "m.onnx", tensorboard=tmp_path / "log", ignore_mask=tmp_path / "masks")
    read = events(tmp_path / "log")
    shown = picture(read, read.Tags()["images"][0])[:, :256].astype(int)
    assert shown[:, :120].mean() < 0.6 * shown[:, 136:].mean()


def test_a_missing_package_is_named_before_an_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    stages: list[str] = []
    with pytest.raises(BlemishError, match=r'pip install "blemish\[tensorboard\]"'):
        train(
            write_parts(tmp_path / "parts"),
            tmp_path / "m.onnx",
            tensorboard=tmp_path / "log",
            progress=lambda stage, *_: stages.append(stage),
        )
    assert stages == []
    assert not (tmp_path / "m.onnx").exists()


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file", "utf-8")
    with pytest.raises(BlemishError, match="log: the TensorBoard log cannot be written: ") as refused:
        train(write_parts(tmp_path / "parts"), tmp_path / "m.onnx", tensorboard=tmp_path / "log")
    assert "\n" not in str(refused.value)


def test_the_command_line_writes_a_log(tmp_path: Path, run: Callable[..., Any]) -> None:
    parts = write_parts(tmp_path / "parts", good=6)
    outcome = run("train", parts, "-o", tmp_path / "m.onnx", "--size", "64x96", "--tensorboard", tmp_path / "log")
    assert outcome.status == 0, outcome.err
    assert "calibration scores" in events(tmp_path / "log").Tags()["histograms"]
