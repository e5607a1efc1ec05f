"""The command line's promises: names, JSON keys, exit statuses, and what goes to which stream."""

import errno
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import blemish
from blemish.cli import VERBS, cli, main
from blemish.cli.common import open_screen
from blemish.training.config import TrainConfig
from helpers.images import noise, save_image

KEYS = {
    "doctor": {"layout", "train", "test", "masks", "problems"},
    "evaluate": {
        *("image_auroc", "pixel_auroc", "aupro", "image_ap", "f1_max", "false_alarm_rate", "detection_rate"),
        *("images", "images_per_second", "per_defect", "model", "data", "failed", "left_out"),
        *("calibration_statement", "seconds"),
    },
    "predict": {"images", "failed", "anomalous", "unsure", "ok", "seconds"},
    "report": {"report"},
}


@pytest.fixture
def commands(tiny_model, parts, tmp_path) -> dict[str, list[object]]:
    """A command line that works for every verb that needs no training."""
    return {
        "doctor": ["doctor", parts],
        "evaluate": ["evaluate", tiny_model, parts],
        "predict": ["predict", tiny_model, parts / "test", "-o", tmp_path / "out"],
        "report": ["report", tiny_model, parts, "-o", tmp_path / "report.html"],
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(run, verb):
    outcome = run(verb, "--help")
    assert outcome.status == 0
    assert re.search(rf"Example:\n +blemish {verb}\b", outcome.out)
    assert outcome.err == ""


def test_help_names_every_verb_and_so_does_no_argument_at_all(run):
    outcome = run("--help")
    assert outcome.status == 0
    assert all(re.search(rf"^  {verb} ", outcome.out, re.MULTILINE) for verb in VERBS)
    assert run() == outcome


def test_version(run):
    assert run("--version").out.split()[-1] == blemish.__version__


@pytest.mark.parametrize("verb", KEYS)
def test_json_is_one_object_alone_on_stdout(run, commands, verb):
    outcome = run(*commands[verb], "--json")
    assert outcome.status == 0
    assert outcome.json.keys() >= KEYS[verb]  # json.loads refuses anything beside the object
    assert outcome.err == ""  # and nothing needed saying


@pytest.mark.parametrize("verb", KEYS)
def test_text_says_what_json_says(run, commands, verb, tmp_path):
    outcome = run(*commands[verb])
    assert outcome.status == 0
    told = {
        "doctor": "2 defective in 1 type, 2 masks",
        "evaluate": "5 test images",
        "predict": "5 images",
        "report": str(tmp_path / "report.html"),
    }
    assert told[verb] in outcome.out
    assert outcome.err == ""


def test_messages_go_to_stderr_also_with_json(run, tiny_model, parts, tmp_path):
    (parts / "test/good/broken.png").write_bytes(b"")
    outcome = run("predict", tiny_model, parts / "test", "-o", tmp_path / "out", "--json")
    assert outcome.status == 0
    assert outcome.json["failed"] == 1
    assert outcome.json["images"] == outcome.json["ok"] + outcome.json["unsure"] + outcome.json["anomalous"] == 5
    assert outcome.err == f"{parts / 'test/good/broken.png'}: empty (0 bytes)\n"


def test_evaluate_counts_what_it_could_not_read(run, tiny_model, parts):
    (parts / "test/good/broken.png").write_bytes(b"")
    outcome = run("evaluate", tiny_model, parts, "--json")
    assert (outcome.status, outcome.json["images"], outcome.json["failed"]) == (0, 5, 1)
    assert outcome.err == f"{parts / 'test/good/broken.png'}: empty (0 bytes)\n"


def test_another_false_alarm_rate_is_taken(run, commands):
    statement = run(*commands["evaluate"], "--false-alarm-rate", "0.2", "--json").json["calibration_statement"]
    assert "20 %" in statement
    strict = run(*commands["predict"], "--json").json["anomalous"]
    loose = run(*commands["predict"], "--false-alarm-rate", "0.9", "--json").json["anomalous"]
    assert strict < loose


def test_nominal_class_chooses_the_good_class(run, tiny_model, tmp_path):
    for split in ("train", "test"):
        for name in ("cats", "dogs"):
            for i in range(2):
                save_image(tmp_path / f"pets/{split}/{name}/{i}.png", noise(hash((split, name, i)) % 1000))
    outcome = run("doctor", tmp_path / "pets", "--nominal-class", "cats", "--json")
    assert (outcome.json["layout"], outcome.json["nominal_class"]) == ("one-vs-rest", "cats")
    outcome = run("evaluate", tiny_model, tmp_path / "pets", "--nominal-class", "dogs", "--json")
    assert list(outcome.json["per_defect"]) == ["cats"]


USAGE_FAULTS = {
    "no such verb": (["frobnicate"], "frobnicate"),
    "a missing argument": (["predict"], "MODEL"),
    "no output": (["predict", "m.onnx", "a.png"], "--output"),
    "no such option": (["doctor", "x", "--fast"], "--fast"),
    "a rate above 1": (["evaluate", "m.onnx", "x", "--false-alarm-rate", "2"], "--false-alarm-rate"),
    "a rate that is no number": (["train", "x", "-o", "m.onnx", "--false-alarm-rate", "1 %"], "--false-alarm-rate"),
    "no such map format": (["predict", "m.onnx", "a.png", "-o", "out", "--save-maps", "jpg"], "tiff"),
    "a size in words": (["train", "x", "-o", "m.onnx", "--size", "large"], "256x384"),
    "a size of three sides": (["train", "x", "-o", "m.onnx", "--size", "64x64x3"], "256x384"),
    "no epochs": (["train", "x", "-o", "m.onnx", "--epochs", "0"], "--epochs"),
    "a negative seed": (["demo", "--seed", "-1"], "--seed"),
    "no such device": (["train", "x", "-o", "m.onnx", "--device", "abacus"], "cuda"),
    "an odd size": (["train", "x", "-o", "m.onnx", "--size", "100"], "multiple of 32"),
    "no training folder": (["train", "nowhere", "-o", "m.onnx"], "nowhere: no such folder"),
    "a model in no folder": (["train", "x", "-o", "no/folder/m.onnx"], "no folder"),
    "a model that is a folder": (["train", "x", "-o", "."], "it is a folder"),
    "a report in no folder": (["report", "m.onnx", "x", "-o", "no/folder/r.html"], "no folder"),
    "no model": (["predict", "m.onnx", "a.png", "-o", "out"], "m.onnx: no such file"),
    "no data": (["doctor", "nowhere"], "nowhere: no such folder"),
}


@pytest.mark.parametrize(("arguments", "named"), USAGE_FAULTS.values(), ids=USAGE_FAULTS)
def test_a_users_mistake_is_one_sentence_and_status_2(run, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    outcome = run(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    sentence = outcome.err.splitlines()[-1]
    assert sentence.startswith("blemish: ")
    assert named in sentence
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_known_before_training_starts(run, parts, tmp_path, monkeypatch):
    def refuse(path, flags, mode=0o777, **_):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("builtins.open", refuse)
    outcome = run("train", parts, "-o", tmp_path / "m.onnx")
    assert outcome.status == 2
    assert outcome.err.startswith(f"blemish: cannot write {tmp_path / 'm.onnx'}: no permission")
    assert len(outcome.err.splitlines()) == 1  # not even the line about the backbone


@pytest.mark.parametrize(("option", "why"), [("anomalies", "synthetic"), ("cells", "three depths")])
def test_options_of_earlier_releases_are_taken_once_more_and_said(run, parts, tmp_path, monkeypatch, option, why):
    def train(data, output, config, *, notify, **settings):
        assert option not in settings
        assert config == TrainConfig()
        notify("training")
        raise blemish.BlemishError("far enough")

    monkeypatch.setitem(vars(blemish), "train", train)  # gone again afterwards
    outcome = run("train", parts, "-o", tmp_path / "m.onnx", f"--{option}", "none")
    (said,) = (line for line in outcome.err.splitlines() if f"--{option}" in line)
    assert said.startswith(f"--{option} no longer does anything: ")
    assert why in said
    assert "no longer" not in run("train", parts, "-o", tmp_path / "m.onnx").err
    assert f"--{option}" not in run("train", "--help").out


def test_without_the_training_packages_one_sentence_says_what_to_install(run, parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [
        name for name in sys.modules if name.startswith("blemish.training.")
    ]:  # as in an environment that never had it
        monkeypatch.delitem(sys.modules, name, raising=False)
    outcome = run("train", parts, "-o", tmp_path / "m.onnx")
    assert outcome.status == 2
    assert 'pip install "blemish[train]"' in outcome.err
    with pytest.raises(blemish.BlemishError, match=r'pip install "blemish\[train\]"'):
        _ = blemish.train


def test_interrupting_leaves_status_130_and_one_line(run, tiny_model, parts, tmp_path, monkeypatch):
    """Ctrl-C in the middle of a batch: no table and no half-written file under any name."""
    calls = 0

    def interrupt(self, scored):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr("blemish.model.detector.Detector.regions", interrupt)
    outcome = run("predict", tiny_model, parts / "test", "-o", tmp_path / "out")
    assert (outcome.status, outcome.out, outcome.err.strip()) == (130, "", "blemish: interrupted")
    left = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(name.startswith("heatmaps/") and name.endswith(".png") for name in left)
    assert not any(Path(name).name.startswith(".") for name in left)


def test_a_fault_of_ours_is_not_dressed_up_as_a_users_mistake(monkeypatch, tmp_path):
    monkeypatch.setattr("blemish.datasets.layouts.read_data_set", lambda *_, **__: 1 / 0)
    monkeypatch.delitem(sys.modules, "blemish.cli.doctor", raising=False)
    with pytest.raises(ZeroDivisionError):
        main(["doctor", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "blemish.cli.doctor")


def test_a_reader_that_leaves_early_gets_no_traceback():
    """As in `blemish --help | head -1`: the pipe is closed before anything is written."""
    code = (
        "import os, sys; from blemish.cli import main; r, w = os.pipe(); os.close(r); os.dup2(w, 1); "
        "sys.exit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_python_m_blemish_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "blemish", "doctor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("blemish: Missing argument 'DATA'")


def test_bars_are_drawn_only_on_a_terminal(monkeypatch):
    drawn = {}
    for terminal in (True, False):
        stream = StringIO()
        console = Console(file=stream, force_terminal=terminal)
        monkeypatch.setattr("blemish.cli.common.Console", lambda stderr, console=console: console)
        with open_screen() as screen:
            screen.progress("scoring", 1, 2)
            screen.notify("[bold]line1/a.png[/bold]: truncated")
        drawn[terminal] = stream.getvalue()
    assert "scoring" in drawn[True]
    assert drawn[False] == "[bold]line1/a.png[/bold]: truncated\n"


def test_every_verb_takes_json():
    context = cli.make_context("blemish", ["--help"], resilient_parsing=True)
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert any("--json" in parameter.opts for parameter in command.params), verb
