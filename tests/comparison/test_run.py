"""A whole comparison: figures are those of the model files, finished runs are not repeated, failures are rows."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from blemish.comparison import run as comparing
from blemish.comparison.run import compare
from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.run import evaluate
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.plugins import METHODS
from blemish.training.config import TrainConfig
from helpers.comparing import pretend_to_train
from helpers.images import noise, save_image, stained


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def rows(out):
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def good_only(tmp_path_factory):
    """A folder of good images, all for training."""
    folder = tmp_path_factory.mktemp("data") / "good"
    for number in range(15):
        save_image(folder / f"{number}.png", noise(number, size=(64, 64)))
    return folder


def test_figures_are_those_of_the_model_files(parts, out):
    found = compare(parts, out, methods=["padim", "gaussian"], seeds=1, size=64, align=False)
    assert [row.method for row in found.rows] == ["padim", "gaussian"]
    assert not found.synthetic
    for row, line in zip(found.rows, rows(out), strict=True):
        (run,) = row.runs
        model = out / f"models/{row.method}-seed-0.onnx"
        alone = evaluate(Detector.load(model), read_data_set(parts))
        assert Detector.load(model).metadata.settings["method"] == row.method
        for name in ("image_auroc", "pixel_auroc", "aupro", "detection_rate", "false_alarm_rate"):
            assert row.figures[name].mean == alone.metrics[name] == run.figures[name]
            assert float(line[name]) == alone.metrics[name]
        assert run.megabytes == model.stat().st_size / 1e6
        assert min(run.milliseconds, run.seconds) > 0
        assert line["method"] == row.method
        low, high = run.intervals["image_auroc"]
        assert low <= run.figures["image_auroc"] <= high
    page = (out / "compare.html").read_text()
    assert set(re.findall(r'src="([a-z]+):', page)) == {"data"}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


@pytest.mark.slow
def test_images_of_one_folder_calibrate_or_carry_synthetic_defects(good_only, out):
    found = compare(good_only, out, methods=["gaussian", "padim"], size=64, align=False, false_alarm_rate=0.3)
    assert found.synthetic
    assert found.runs[0].figures["false_alarm_rate"] is None
    assert {kind for run in found.runs for kind in run.per_defect} == {"confetti", "perlin"}
    for run in found.runs:
        metadata = Detector.load(out / f"models/{run.method}-seed-{run.seed}.onnx").metadata
        used = json.loads((out / f"synthetic/seed-{run.seed}/sources.json").read_text())
        assert set(used.values()) <= set(metadata.roles["calibration"])
        assert not set(used.values()) & set(metadata.roles["fit"])
    page = (out / "compare.html").read_text()
    assert "The defects are synthetic" in page
    assert "no good test image either" in page


def test_a_finished_comparison_trains_nothing_and_gives_the_same(parts, out, tiny_model, monkeypatch):
    trained = pretend_to_train(monkeypatch, tiny_model)
    first = compare(parts, out, methods=["gaussian", "padim"], seeds=2)
    assert trained == [("gaussian", 0), ("padim", 0), ("gaussian", 1), ("padim", 1)]
    trained.clear()
    again = compare(parts, out, methods=["gaussian", "padim"], seeds=2)
    assert trained == []
    assert again.runs == first.runs
    compare(parts, out, methods=["patchcore", "padim"], seeds=1)
    assert trained == [("patchcore", 0)]
    assert len(rows(out)) == 5


class KilledError(BaseException):
    """Ends a process between any two steps."""


@pytest.mark.parametrize("step", ["training", "evaluation"])
def test_a_killed_comparison_goes_on_where_it_was(parts, out, tiny_model, monkeypatch, step):
    def die(method, seed):
        raise KilledError

    def die_at_padim(method, seed):
        if method == "padim" and step == "training":
            raise KilledError

    with monkeypatch.context() as patch:
        pretend_to_train(patch, tiny_model, before=die_at_padim)
        measure = comparing.measure_run
        if step == "evaluation":
            patch.setattr(
                comparing,
                "measure_run",
                lambda *given, **how: die(0, 0) if how["method"] == "padim" else measure(*given, **how),
            )
        with pytest.raises(KilledError):
            compare(parts, out, methods=["gaussian", "padim", "patchcore"])
    kept = {row["method"]: row["failed"] for row in rows(out)}
    assert kept["gaussian"] == ""
    trained = pretend_to_train(monkeypatch, tiny_model)
    found = compare(parts, out, methods=["gaussian", "padim", "patchcore"])
    assert trained == ([("padim", 0)] if step == "training" else []) + [("patchcore", 0)]
    assert [run.failed for run in found.runs] == [None] * 3


def test_a_model_file_that_has_changed_is_trained_again(parts, out, tiny_model, monkeypatch):
    trained = pretend_to_train(monkeypatch, tiny_model)
    compare(parts, out, methods=["gaussian", "padim"])
    (out / "models/padim-seed-0.onnx").unlink()
    compare(parts, out, methods=["gaussian", "padim"])
    assert trained[2:] == [("padim", 0)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlemishError("too few images"), "too few images"),
        (MemoryError(), "too little memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate\nmore"), "too little memory (CUDA out of memory."),
        (ValueError("bad shape"), "ValueError: bad shape"),
    ],
)
def test_a_method_that_fails_is_a_row_and_the_others_go_on(parts, out, tiny_model, monkeypatch, error, reason):
    def fail(method, seed):
        if method == "padim":
            raise error

    pretend_to_train(monkeypatch, tiny_model, before=fail)
    found = compare(parts, out, methods=["padim", "gaussian"])
    failed, made = found.runs
    assert failed.failed.startswith(reason)
    assert made.failed is None
    assert found.rows[0].figures["image_auroc"].mean is None
    assert {row["method"]: bool(row["failed"]) for row in rows(out)} == {"padim": True, "gaussian": False}
    assert reason in (out / "compare.html").read_text()


def test_where_every_method_fails_that_is_said_in_one_sentence(parts, out, tiny_model, monkeypatch):
    def fail(method, seed):
        raise BlemishError("no such weights")

    pretend_to_train(monkeypatch, tiny_model, before=fail)
    with pytest.raises(BlemishError, match="no method could be compared; gaussian, seed 0: no such weights"):
        compare(parts, out, methods=["gaussian", "padim"])
    assert not (out / "compare.html").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 64}, r"other options \(size\)"),
        ({"synthetic": "confetti", "align": False}, r"other options \(align, synthetic\)"),
        ({}, "other images or masks"),
    ],
)
def test_another_comparison_in_the_same_folder_is_refused(parts, out, tiny_model, monkeypatch, change, words):
    pretend_to_train(monkeypatch, tiny_model)
    compare(parts, out, methods=["gaussian"])
    before = fingerprint(out / "results.csv")
    if not change:
        save_image(parts / "test/good/new.png", noise(999))
    with pytest.raises(BlemishError, match=words):
        compare(parts, out, methods=["gaussian"], **change)
    assert fingerprint(out / "results.csv") == before


def test_seeds_begin_with_that_of_the_configuration(parts, out, tiny_model, monkeypatch):
    trained = pretend_to_train(monkeypatch, tiny_model)
    compare(parts, out, TrainConfig(seed=5), methods=["gaussian"], seeds=2)
    assert trained == [("gaussian", 5), ("gaussian", 6)]


def test_every_registered_method_is_compared_unless_some_are_named(parts, out, tiny_model, monkeypatch):
    trained = pretend_to_train(monkeypatch, tiny_model)
    compare(parts, out)
    assert [method for method, _ in trained] == list(METHODS)


def test_synthetic_defects_are_made_of_good_test_images_that_nobody_learned_from(parts, out, tiny_model, monkeypatch):
    for image in (parts / "test/stain").iterdir():
        image.unlink()
    pretend_to_train(monkeypatch, tiny_model)
    found = compare(parts, out, methods=["gaussian"])
    assert found.synthetic
    assert found.runs[0].figures["images"] == 3 + 2 * 3
    assert found.runs[0].figures["false_alarm_rate"] is not None
    for number in range(3):
        copy = out / f"synthetic/test/good/test/good/{number}.png"
        assert np.array_equal(np.asarray(Image.open(copy)), noise(300 + number))


def test_copies_have_the_ignore_masks_of_their_sources(parts, out, tmp_path, tiny_model, monkeypatch):
    for image in (parts / "test/stain").iterdir():
        image.unlink()
    half = np.zeros((64, 64), np.uint8)
    half[:, :32] = 255
    save_image(tmp_path / "masks/test/good/0.png", half)
    pretend_to_train(monkeypatch, tiny_model)
    found = compare(parts, out, methods=["gaussian"], ignore_mask=tmp_path / "masks")
    # Three of nine images, the good one and its two copies; a little more than a half of each is ignored.
    assert 3 / 9 * 0.5 <= found.runs[0].figures["ignored"] <= 3 / 9 * 0.6


def test_labelled_defects_of_the_training_split_are_transplanted(parts, out, tiny_model, monkeypatch):
    for image in (parts / "test/stain").iterdir():
        image.unlink()
    save_image(parts / "train/stain/0.png", stained(1))
    mask = np.zeros((64, 64), np.uint8)
    mask[28:36, 28:36] = 255
    save_image(parts / "ground_truth/train/stain/0_mask.png", mask)
    pretend_to_train(monkeypatch, tiny_model)
    found = compare(parts, out, methods=["gaussian"])
    assert "transplanted" in found.runs[0].per_defect
    assert any("have learned from" in sentence for sentence in found.warnings)


BAD = {
    "no method": ({"methods": []}, "there is no method to compare"),
    "unknown method": ({"methods": ["gaussian", "nope"]}, "the method must be one of"),
    "no seed": ({"seeds": 0}, "the number of seeds must be"),
    "several devices": ({"devices": 2}, "in one process"),
    "another configuration": ({"config": {"size": 64}}, "must be a TrainConfig"),
    "unknown option": ({"sice": 64}, "there is no option sice"),
}


@pytest.mark.parametrize(("given", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(parts, out, given, sentence):
    with pytest.raises(BlemishError, match=sentence):
        compare(parts, out, **given)
    assert not out.exists()


def test_an_output_inside_the_data_is_refused(parts):
    with pytest.raises(BlemishError, match="lies in the data"):
        compare(parts, parts / "compared")
    assert not (parts / "compared").exists()


def test_a_table_of_others_is_not_replaced(parts, out):
    out.mkdir()
    (out / "results.csv").write_text("part,weight\n1,2\n")
    with pytest.raises(BlemishError, match="is no table of a comparison"):
        compare(parts, out)
    assert (out / "results.csv").read_text() == "part,weight\n1,2\n"


def test_a_damaged_journal_is_said(parts, out, tiny_model, monkeypatch):
    pretend_to_train(monkeypatch, tiny_model)
    compare(parts, out, methods=["gaussian"])
    (out / "comparison.json").write_text("{")
    with pytest.raises(BlemishError, match=r"comparison.json is damaged"):
        compare(parts, out, methods=["gaussian"])


def test_cross_conformal_without_test_images_is_refused(good_only, out):
    with pytest.raises(BlemishError, match="every good image is learned from"):
        compare(good_only, out, cross_conformal=3)
