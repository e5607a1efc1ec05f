"""Runs of MLflow in a folder, read back with MLflow itself."""

import json
import os
import subprocess
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

pytest.importorskip("mlflow", reason='MLflow is not installed: pip install "blemish[mlflow]"')

from blemish.training.log_mlflow import DEFAULTS, MLflowLog, without_credentials

# Little of all that a training makes up.
FEW = DefectBranchConfig(nominal_copies=20, labelled_images=60, synthetic_images=40)
train = partial(train_with, size=(64, 96), epochs=3, defect_branch=FEW)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second attempt; and MLflow's variables are as they were after each test."""
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def only_run(place: Path, experiment: str = "blemish") -> tuple[Any, Any]:
    """The client and the one run in a folder."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(place))
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, run


def artifacts(client: Any, run: Any, folder: str | None = None) -> list[str]:
    """The paths of all files of a run."""
    listed = client.list_artifacts(run.info.run_id, folder)
    return [path for one in listed for path in (artifacts(client, run, one.path) if one.is_dir else [one.path])]


def test_a_training_with_labels_logs_curves_heatmaps_scores_and_figures(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", labelled=3)
    detector = train(parts, tmp_path / "screws.onnx", mlflow=str(tmp_path / "runs"))
    client, run = only_run(tmp_path / "runs")
    assert (run.info.run_name, run.info.status) == ("screws", "FINISHED")
    for name in ("loss", "learning rate"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3]
    assert run.data.metrics["threshold"] == pytest.approx(detector.calibration.threshold)
    assert run.data.metrics["training images"] == detector.metadata.data["train_images"]
    assert run.data.params["calibration"] == detector.calibration.statement()
    assert run.data.params["method"] == "gaussian"

    files = artifacts(client, run)
    assert [path for path in files if "labelled" in path] == [
        f"heatmaps/labelled/train/spot/train{number}.png.png" for number in range(3)
    ]
    scores = detector.calibration.scores
    assert len([path for path in files if path.startswith("heatmaps/calibration/")]) == len(scores)
    local = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    spot = np.asarray(Image.open(local / "heatmaps/labelled/train/spot/train0.png.png")).astype(int)
    assert np.ptp(spot, axis=2).max() > 100  # a photograph in grey, and the colours of a heatmap
    kept = json.loads((local / "calibration scores.json").read_text("utf-8"))
    assert kept == {"calibration scores": pytest.approx(list(scores))}
    assert Image.open(local / "calibration scores.png").size == (600, 400)


@pytest.mark.slow
def test_each_fold_has_curves_of_its_own_and_both_logs_may_be_kept(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    parts = write_parts(tmp_path / "parts", labelled=2)
    logs = {"mlflow": str(tmp_path / "runs"), "tensorboard": tmp_path / "log"}
    train(parts, tmp_path / "m.onnx", cross_conformal=2, **logs)
    _, run = only_run(tmp_path / "runs")
    curves = {f"fold {fold}/{name}" for fold in (1, 2) for name in ("loss", "learning rate")}
    assert {name for name in run.data.metrics if "/" in name} == curves
    assert curves < set(event_accumulator.EventAccumulator(str(tmp_path / "log")).Reload().Tags()["scalars"])


@pytest.mark.slow
def test_a_log_leaves_no_trace_in_the_model_file_nor_in_what_an_unfinished_training_leaves(
    tmp_path: Path, killed_after: Callable[..., Any]
) -> None:
    parts = write_parts(tmp_path / "parts", labelled=2)
    train(parts, tmp_path / "plain.onnx")
    with killed_after(2):
        train(parts, tmp_path / "m.onnx", mlflow=(tmp_path / "runs").as_uri())
    known = [parts, tmp_path / "plain.onnx", tmp_path / "runs"]
    left = [path for path in tmp_path.rglob("*") if path.is_file() and not {path, *path.parents} & set(known)]
    assert left
    assert not any(b"runs" in path.read_bytes() for path in left)
    assert only_run(tmp_path / "runs")[1].info.status == "FAILED"
    detector = train(parts, tmp_path / "m.onnx", mlflow=str(tmp_path / "more"))
    client, run = only_run(tmp_path / "more")
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [3]
    assert not {"mlflow", "tensorboard"} & set(detector.metadata.config)
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()


@pytest.mark.slow
def test_a_server_that_goes_ends_the_log_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("no\nanswer")

    monkeypatch.setattr(MlflowClient, "log_metric", gone)
    said: list[str] = []
    parts = write_parts(tmp_path / "parts", labelled=2)
    train(parts, tmp_path / "m.onnx", mlflow=str(tmp_path / "runs"), notify=said.append)
    place = tmp_path / "runs"
    warning = f"warning: the log is not complete: {place}: the MLflow log cannot be written: no answer"
    assert [sentence for sentence in said if "log" in sentence] == [warning]


@pytest.mark.parametrize("uri", ["http://me:pass+word@127.0.0.1:9/x", "postgresql://me:pass+word@127.0.0.1:9/x"])
def test_a_place_that_cannot_be_used_is_refused_without_its_password(uri: str, tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(BlemishError, match=r"://\*\*\*@127.0.0.1:9/x: the MLflow log cannot be written: ") as refused:
        train(
            write_parts(tmp_path / "parts"),
            tmp_path / "m.onnx",
            mlflow=uri,
            progress=lambda stage, *_: stages.append(stage),
        )
    assert "pass+word" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert stages == []


@pytest.mark.parametrize(
    ("uri", "text", "shown"),
    [
        ("http://a:b1@h/x", "GET http://a:b1@h/x/api failed: b1", "GET http://***@h/x/api failed: ***"),
        ("http://token@h", "http://token@h", "http://***@h"),
        ("http://h/x", "http://h/x", "http://h/x"),
        ("runs", "runs: no such file", "runs: no such file"),
        ("http://a:b@[x/", "http://a:b@[x/ is none", "the URI is none"),
    ],
)
def test_credentials_are_never_said(uri: str, text: str, shown: str) -> None:
    assert without_credentials(text, uri) == shown


def test_the_experiment_may_be_named_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "line 3")
    MLflowLog(str(tmp_path / "runs"), run="a").close()
    client, first = only_run(tmp_path / "runs", "line 3")
    MLflowLog(str(tmp_path / "runs"), run="b").close()
    assert len(client.search_runs([first.info.experiment_id])) == 2


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BlemishError, match=r'pip install "blemish\[mlflow\]"'):
        train(write_parts(tmp_path / "parts"), tmp_path / "m.onnx", mlflow=str(tmp_path / "runs"))


def test_its_usage_statistics_are_off() -> None:
    code = "import blemish; from mlflow.telemetry.utils import is_telemetry_disabled as off; print(off())"
    testing = ("CI", "PYTEST_CURRENT_TEST", "MLFLOW_TESTING", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if name not in testing}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if "No module named 'mlflow.telemetry'" in done.stderr:
        pytest.skip("this MLflow has none")
    assert done.stdout == "True\n", done.stderr


def test_the_command_line_writes_a_run(tmp_path: Path, run: Callable[..., Any]) -> None:
    parts = write_parts(tmp_path / "parts", good=6)
    outcome = run("train", parts, "-o", tmp_path / "m.onnx", "--size", "64x96", "--mlflow", tmp_path / "runs")
    assert outcome.status == 0, outcome.err
    assert only_run(tmp_path / "runs")[1].info.status == "FINISHED"
