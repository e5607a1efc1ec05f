"""The runtime needs nothing of the training layer, and importing the package costs next to nothing."""

from pathlib import Path

import pytest

from helpers.light import TRAINING_ONLY, loaded_after, run_without_training


@pytest.mark.parametrize("verb", ["doctor", "evaluate", "predict", "report", "--help", "train", "demo"])
def test_the_verb_works_without_the_training_packages(tiny_model, parts, tmp_path, verb):
    arguments: dict[str, list[str | Path]] = {
        "doctor": [parts],
        "evaluate": [tiny_model, parts],
        "predict": [tiny_model, parts / "test", "-o", tmp_path / "out", "--save-maps", "npy"],
        "report": [tiny_model, parts, "-o", tmp_path / "report.html"],
        "--help": [],
        "train": ["--help"],
        "demo": ["--help"],
    }
    done = run_without_training(verb, *arguments[verb])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("arguments", [["train", "x", "-o", "m.onnx"], ["demo"]], ids=["train", "demo"])
def test_training_without_its_packages_says_what_to_install(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    done = run_without_training(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "blemish[train]"' in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_imports_nothing_heavy():
    assert not {"numpy", "torch", "PIL", "scipy", "click", "onnxruntime"} & loaded_after("import blemish")


def test_help_imports_click_and_nothing_heavy():
    heavy = {"numpy", "torch", "PIL", "scipy", "rich", "matplotlib", "onnxruntime"}
    assert not heavy & loaded_after("from blemish.cli import main; main(['--help'])")


def test_a_process_that_decodes_imports_no_more_than_reading_images_takes():
    """The server starts such a process anew for every image that takes too long or ends it."""
    loaded = loaded_after("import blemish.serving.decoding")
    assert {"numpy", "PIL"} <= loaded
    assert not {"scipy", "contourpy", "onnxruntime", "starlette", "msgspec", *TRAINING_ONLY} & loaded


def test_the_detector_is_there_without_torch():
    loaded = loaded_after("import blemish; blemish.Detector.load; blemish.Scores; blemish.BlemishError")
    assert "onnxruntime" in loaded
    assert not set(TRAINING_ONLY) & loaded


def test_an_unknown_name_is_an_attribute_error():
    import blemish

    with pytest.raises(AttributeError, match="has no attribute 'detector_of_lies'"):
        _ = blemish.detector_of_lies
    assert not hasattr(blemish, "nothing")
