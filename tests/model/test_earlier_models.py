"""A model file of an earlier release: what its detector had that today's has not is still taken as it is meant.

models/earlier_release.onnx was trained by the commit before the detector was replaced, on twelve images of noise at
32 x 32 pixels, with a tiny backbone of random weights.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blemish.conversion.calibration_images import find_calibration_images
from blemish.conversion.onnx_edit import without_refit
from blemish.datasets.layouts import read_data_set
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata
from helpers.images import noise, save_image, stained
from helpers.model_files import values_of, with_changes

MODEL = Path(__file__).parents[1] / "models/earlier_release.onnx"
SECOND = "A second model was refit on the calibration images too; it can only lower maps."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What it was trained on."""
    for number in range(12):
        save_image(tmp_path / f"data/train/good/{number}.png", noise(number))
    return tmp_path / "data"


@pytest.fixture
def without(tmp_path: Path) -> Detector:
    """The model without its second opinion."""
    path = tmp_path / "first.onnx"
    path.write_bytes(without_refit(MODEL.read_bytes()))
    return Detector.load(path)


def test_it_loads_and_scores() -> None:
    detector = Detector.load(MODEL)
    assert detector.metadata.has_refit
    assert detector.metadata.settings["anomalies"] == "scars"
    scores = detector.score([noise(100), stained(101)]).scores
    assert 2 * scores[0] < scores[1] < np.inf


def test_its_card_says_what_it_has(tmp_path: Path, run: Callable) -> None:
    page = tmp_path / "card.html"
    card = run("info", MODEL, "-o", page, "--json").json
    assert SECOND in card["guarantee"]
    assert SECOND in page.read_text("utf-8")
    assert card["supervision"] == "good images only + synthetic anomalies (scars)"
    assert (card["wide_cells"], card["settings"]["cells"]) == (False, "auto")


def test_what_its_several_networks_decided_is_said(tmp_path: Path, run: Callable) -> None:
    networks = [{"aligned": False, "wide_cells": number == 1, "gate": number == 2} for number in range(3)]
    several = with_changes(MODEL, tmp_path / "m.onnx", networks=tuple(networks), coarse_grid=True)
    assert run("info", several, "--json").json["networks"] == networks
    assert "on a coarse grid: good ones differ as wholes (1 of its 3 networks)" in run("info", several).out


def test_it_is_calibrated_without_the_refit(data: Path, without: Detector) -> None:
    detector = Detector.load(MODEL)
    images = find_calibration_images(detector.metadata, read_data_set(data))
    alone, both = without.score(images), detector.score(images)
    np.testing.assert_allclose(alone.scores, detector.calibration.scores, rtol=1e-3)
    assert both.scores.mean() < 0.99 * alone.scores.mean()
    for with_it, without_it in zip(both.maps, alone.maps, strict=True):
        assert (with_it <= without_it + 1e-4 * without_it.max()).all()


def test_its_export_is_calibrated_without_it_too(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from blemish.conversion.run import export

    made = export(MODEL, data, tmp_path / "m.openvino.onnx", target="openvino")
    there = Detector.load(made.file)
    assert there.metadata.has_refit
    np.testing.assert_allclose(there.calibration.scores, Detector.load(MODEL).calibration.scores, rtol=1e-2)


def test_only_higher_scores_of_it_are_drift() -> None:
    """They are lower than in calibration by their making; light is watched in both directions."""
    detector = Detector.load(MODEL)
    check = detector.drift_check(false_alarm_rate=0.2)
    light = {name: np.median(values) for name, values in detector.metadata.drift_reference.items()}
    for _ in range(100):
        check.add({"score": 0.0, **light})
    assert check._martingales["score"].highest == 0
    assert set(check._martingales["score"]._directions) == {"higher"}
    assert len(set(check._martingales["brightness"]._directions)) == 4


# Files that 0.1.0 wrote: trained on 64 x 64 pixels with timm's test_efficientnet of random weights, one on ten parts in
# any direction (with 60 directions and 12 circles in alignment, for a small file), one on twelve images of noise, three
# of them with a spot and two of these with a mask. What they scored then is stored beside them.
RELEASED = [MODEL.with_name(f"release_0_1_0_{name}.onnx") for name in ("aligned", "labelled")]


@pytest.mark.parametrize("model", RELEASED, ids=lambda path: path.stem)
def test_a_file_of_0_1_0_scores_as_it_did(model: Path) -> None:
    then = json.loads(model.with_suffix(".json").read_text())
    detector = Detector.load(model)
    now = detector.predict([noise(100), noise(101), stained(102)])
    np.testing.assert_allclose(now.scores, then["scores"], rtol=1e-4)
    assert now.p_values.tolist() == then["p_values"]
    assert now.verdicts == then["verdicts"]
    for anomaly_map, (highest, mean) in zip(now.maps, then["maps"], strict=True):
        assert anomaly_map.shape == (64, 64)
        assert anomaly_map.max() == pytest.approx(highest, rel=1e-4)
        assert anomaly_map.mean() == pytest.approx(mean, rel=1e-4)
    assert detector.calibration.threshold == then["threshold"]
    assert (detector.metadata.aligned, detector.metadata.supervision) == (then["aligned"], then["supervision"])
    assert detector.metadata.drift_reference.keys() == {"brightness", "sharpness"}


@pytest.mark.parametrize("model", RELEASED, ids=lambda path: path.stem)
def test_a_file_of_0_1_0_has_a_card_and_metadata_that_stay(model: Path, run: Callable) -> None:
    assert run("info", model, "--json").json["versions"]["blemish"] == "0.1.0"
    metadata = Detector.load(model).metadata
    assert ModelMetadata.from_json(metadata.to_json()) == metadata
    written, read = json.loads(metadata.to_json()), values_of(model)
    assert {name: written[name] for name in read} == read


def test_a_file_of_0_1_0_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from blemish.conversion.run import export

    for number in range(12):
        save_image(tmp_path / f"labelled/train/good/{number:02}.png", noise(number))
    for number in range(3):
        pixels, mask = noise(50 + number), np.zeros((64, 64), np.uint8)
        mask[8 + 8 * number : 24 + 8 * number, 20:40] = 255
        pixels[mask > 0] = 20
        save_image(tmp_path / f"labelled/train/spot/{number}.png", pixels)
        if number < 2:
            save_image(tmp_path / f"labelled/ground_truth/spot/{number}_mask.png", mask)
    model = next(path for path in RELEASED if "labelled" in path.name)
    made = export(model, tmp_path / "labelled", tmp_path / "m.onnx", target="openvino")
    here, there = Detector.load(model), Detector.load(made.file)
    np.testing.assert_allclose(there.calibration.scores, here.calibration.scores, rtol=1e-2)
