"""The evaluation of a model file: progress, and what it says of the model."""

import json
from dataclasses import fields
from pathlib import Path

from blemish.datasets.layouts import read_data_set
from blemish.evaluation.run import evaluate
from blemish.model.detector import Detector
from helpers.model_files import with_changes


def test_progress_counts_every_image_of_the_one_stage(tiny_model: Path, parts: Path) -> None:
    (parts / "test/good/1.png").write_bytes(b"no image")
    calls = []
    evaluation = evaluate(Detector.load(tiny_model), read_data_set(parts), progress=lambda *step: calls.append(step))
    assert calls == [("scoring", done, 5) for done in range(1, 6)]
    assert [Path(path).name for path, _ in evaluation.failed] == ["1.png"]


def test_the_settings_of_the_model_hold_no_list_of_images(tiny_model: Path, parts: Path, tmp_path: Path) -> None:
    many = [f"{number:016x}" for number in range(500)]
    model = with_changes(
        tiny_model,
        tmp_path / "m.onnx",
        used_images=tuple(many),
        roles={"fit": tuple(many[19:]), "calibration": tuple(many[:19])},
        drift_reference={"brightness": [float(number) for number in range(500)]},
    )
    detector = Detector.load(model)
    shown = evaluate(detector, read_data_set(parts)).metadata
    assert shown["fingerprint"] == detector.fingerprint
    assert shown["settings"] == {"backbone": "random", "seed": 0}
    assert all(len(json.dumps(value, default=str)) < 2000 for value in shown.values())
    assert {field.name for field in fields(detector.metadata)} - shown.keys() == {
        "used_images", "roles", "calibration", "regions", "drift_reference", "config", "plan", "ignored"
    }  # fmt: skip
