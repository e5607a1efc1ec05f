"""`blemish predict` over a whole batch: discoveries by Benjamini and Hochberg, and the drift check."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from blemish.conformal.drift import DriftMonitor, drift_statistics
from blemish.model.detector import Detector
from helpers.images import noise, save_image, stained
from helpers.model_files import with_changes

DARK = 40


@pytest.fixture(scope="module")
def watchful(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with light and focus of sixty good images in its file."""
    seen = [drift_statistics(noise(1000 + seed), 0.0) for seed in range(60)]
    watched = {name: tuple(one[name] for one in seen) for name in ("brightness", "sharpness")}
    return with_changes(tiny_model, tmp_path_factory.mktemp("watchful") / "m.onnx", drift_reference=watched)


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    for number in range(6):
        save_image(tmp_path / f"batch/{number}.png", noise(number))
    for number in range(6, 9):
        save_image(tmp_path / f"batch/{number}.png", stained(number))
    (tmp_path / "batch/9.png").write_bytes(b"no image")
    return tmp_path / "batch"


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_discoveries_are_those_of_scipy(rate: float, table: str, batch: Path, tiny_model: Path, run: Callable) -> None:
    out = batch.parent / "out"
    arguments = ("predict", tiny_model, batch, "-o", out, "--format", table, "--false-discovery-rate", rate, "--json")
    result = run(*arguments).json
    if table == "csv":
        rows = list(csv.DictReader((out / "scores.csv").open()))
        found = [(float(row["q_value"]), row["discovered"] == "True") for row in rows[:9]]
        assert (rows[9]["q_value"], rows[9]["discovered"]) == ("", "")
        p_values = [float(row["p_value"]) for row in rows[:9]]
    else:
        parquet = pytest.importorskip("pyarrow.parquet").read_table(out / "scores.parquet").to_pylist()
        found = [(row["q_value"], row["discovered"]) for row in parquet[:9]]
        assert (parquet[9]["q_value"], parquet[9]["discovered"]) == (None, None)
        p_values = [row["p_value"] for row in parquet[:9]]
    expected = false_discovery_control(p_values)
    np.testing.assert_allclose([q for q, _ in found], expected)
    assert [discovered for _, discovered in found] == (expected <= rate + 1e-9).tolist()
    assert result["discoveries"] == (expected <= rate + 1e-9).sum()


def test_without_the_option_the_table_is_as_ever(batch: Path, tiny_model: Path, run: Callable) -> None:
    outcome = run("predict", tiny_model, batch, "-o", batch.parent / "out")
    assert (batch.parent / "out/scores.csv").read_text().splitlines()[0] == "path,score,p_value,verdict"
    assert "discovered" not in outcome.out


def test_a_batch_too_large_for_its_calibration_is_told(batch: Path, tiny_model: Path, run: Callable) -> None:
    """Nine images, nineteen for calibration: at 5 % no single one can be discovered."""
    outcome = run("predict", tiny_model, batch, "-o", batch.parent / "out", "--false-discovery-rate", 0.05)
    assert "19 calibration images support 9 discoveries or more among 9 images" in outcome.err


def test_discoveries_of_a_cross_conformal_model_are_refused(batch: Path, tiny_model: Path, run: Callable) -> None:
    calibration = replace(Detector.load(tiny_model).calibration, folds=(10, 9))
    model = with_changes(tiny_model, batch.parent / "crossed.onnx", calibration=calibration)
    outcome = run("predict", model, batch, "-o", batch.parent / "out", "--false-discovery-rate", 0.1)
    assert outcome.status == 2
    assert "nothing is proven" in outcome.err


def test_darker_images_are_drift(watchful: Path, tmp_path: Path, run: Callable) -> None:
    for number in range(70):
        pixels = noise(number) if number < 10 else noise(number) - DARK
        save_image(tmp_path / f"line/{number}.png", pixels)
    outcome = run("predict", watchful, tmp_path / "line", "-o", tmp_path / "out", "--no-heatmaps", "--json")
    drift = outcome.json["drift"]
    check = Detector.load(watchful).drift_check()
    for scored in Detector.load(watchful).predict_iter([tmp_path / f"line/{number}.png" for number in range(70)]):
        alarm = check.add({"score": scored.score, **scored.drift_features})
        if alarm is not None:
            break
    assert alarm is not None
    assert Path(drift["image"]).name == f"{alarm.image - 1}.png"
    assert (drift["statistic"], drift["direction"]) == (alarm.statistic, alarm.direction)
    assert (drift["statistic"], drift["direction"]) == ("brightness", "lower")
    text = run("predict", watchful, tmp_path / "line", "-o", tmp_path / "out", "--no-heatmaps").out
    assert f"drift at image {alarm.image}" in text


def test_images_like_those_of_the_calibration_are_no_drift(watchful: Path, tmp_path: Path, run: Callable) -> None:
    for number in range(30):
        save_image(tmp_path / f"line/{number}.png", noise(500 + number))
    outcome = run("predict", watchful, tmp_path / "line", "-o", tmp_path / "out", "--no-heatmaps")
    assert "drift" not in outcome.out
    outcome = run("predict", watchful, tmp_path / "line", "-o", tmp_path / "out", "--no-heatmaps", "--json")
    assert outcome.json["drift"]["image"] is None
    assert outcome.json["drift"]["images"] == 30


def test_a_model_from_before_has_no_drift_check(batch: Path, tiny_model: Path, run: Callable) -> None:
    assert run("predict", tiny_model, batch, "-o", batch.parent / "out", "--json").json["drift"] is None


def test_the_check_in_the_file_is_the_check_of_its_numbers(watchful: Path) -> None:
    detector = Detector.load(watchful)
    numbers = {"score": list(detector.calibration.scores)} | {
        name: list(values) for name, values in json.loads(detector.metadata.to_json())["watched"].items()
    }
    ours, literal = detector.drift_check(), DriftMonitor(numbers)
    for seed in range(40):
        for check in (ours, literal):
            check.add(drift_statistics(noise(seed) - seed, 1.0))
    assert ours.p_value == literal.p_value


def test_the_servers_metrics_hold_the_check(watchful: Path, tiny_model: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    from blemish.serving.metrics import Metrics

    detector, blind = Detector.load(watchful), Detector.load(tiny_model)
    metrics, check = Metrics({"m": detector, "old": blind}), detector.drift_check()

    def read() -> dict[tuple[str, ...], float]:
        families = parser.text_string_to_metric_families(metrics.text().decode())
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

    for scored in detector.predict_iter([noise(seed) - DARK for seed in range(80)]):
        metrics.scored("m", scored)
        check.add({"score": scored.score, **scored.drift_features})
        found = read()
        assert found["blemish_drift_p_value", "m"] == pytest.approx(check.p_value)
        assert found["blemish_drift_alarm", "m"] == float(check.drift is not None)
        if check.drift is not None:
            break
    assert check.drift is not None
    assert np.isnan(found["blemish_drift_alarm", "old"])


def test_a_mask_that_calibration_did_not_have_is_no_drift(watchful: Path, tmp_path: Path) -> None:
    """It lowers every score, and would change brightness where the rest of the images is darker."""
    mask = np.zeros((64, 64), np.uint8)
    mask[8:] = 255
    save_image(tmp_path / "mask.png", mask)
    masked, plain = Detector.load(watchful, ignore_mask=tmp_path / "mask.png"), Detector.load(watchful)
    images = [noise(700 + number) for number in range(40)]
    check = masked.drift_check()
    for one, other in zip(masked.predict_iter(images), plain.predict_iter(images), strict=True):
        assert one.drift_features == other.drift_features
        check.add({"score": one.score, **one.drift_features})
    assert check.drift is None
