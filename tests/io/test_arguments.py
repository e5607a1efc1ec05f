"""Arguments of the Python API that are of another kind: one sentence before any work, and nothing is guessed."""

from types import SimpleNamespace

import numpy as np
import pytest

import blemish
from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.io.arguments import one_of, one_path, rate, several_paths, whole
from blemish.model.detector import Detector
from helpers.images import noise, save_image

TRAINING = {
    "size": [-1, 64.0, "64", (64,), None],
    "seed": ["x", -1, 2**32, None, 1.5, True],
    "false_alarm_rate": [0, 1, 2, "0.1", None, float("nan"), True],
    "backbone": [None, "", 3],
    "download": ["no", 1, None],
    "bits": [7, 17, "12", 12.0],
    "cross_conformal": [1, 0, "5", 2.5, True],
    "groups": [3, "", "(", "nothing like it", b"a", ["a.csv"], "nowhere.csv"],
    "align": ["x", 1, 0, None],
    "epochs": [0, 1.5, "6", None, True],
    "device": ["tpu", None, 0, "cuda:0"],
    "devices": [0, 1.5, "2", None],
    "nodes": [0, 1.5, "2", None],
    "nominal_class": [3, "", ["a"]],
    "good": [3, [3], [None], ""],
    "bad": [3, [["a"]]],
    "masks": [3.5, b"a\0"],
    "weights": [3, ["a"], ""],
    "outlier_exposure": [3, ["a"], ""],
    "method": [3, "", "padin"],
    "synthetic": [3, "", "scars"],
    "memory": [0, "5", None],
    "gaussian": [3, {"ridge": 1}],
    "ignore_mask": [3, np.zeros((4, 4), np.uint8), ""],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in TRAINING.items() for value in values]
)
def test_training_refuses_what_its_options_do_not_know(option, value, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "blemish.training.session.load_extractor", lambda name, **options: SimpleNamespace(multiple=32, pretrained=True)
    )  # needs no weights file
    monkeypatch.setattr("blemish.training.data.read_pixels", lambda *images, **options: pytest.fail("work has begun"))
    for i in range(3):
        save_image(tmp_path / f"a/{i}.png", noise(i))
    with pytest.raises(BlemishError) as caught:
        blemish.train(tmp_path / "a", tmp_path / "m.onnx", **{option: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("false_alarm_rate", value) for value in (0, 1, -1, "0.1", True, float("nan"))),
        *(("threads", value) for value in (0, -1, 1.5, "2", True, 10**9)),
        *(("ignore_mask", value) for value in (3, "", np.zeros((4, 4), np.uint8), ["a.png"])),
    ],
)
def test_loading_refuses_what_its_options_do_not_know(option, value, tiny_model):
    with pytest.raises(BlemishError) as caught:
        Detector.load(tiny_model, **{option: value})
    assert option.split("_")[0] in str(caught.value)


def test_a_model_is_a_path_and_not_its_content(tiny_model):
    for model in (tiny_model.read_bytes(), "", b"", None, [tiny_model], 3):
        with pytest.raises(BlemishError, match="the model must be one path, not "):
            Detector.load(model)


@pytest.mark.parametrize("size", [0, "8", 2.5, None, True])
def test_a_batch_has_a_whole_number_of_images(size, tiny_model):
    detector = Detector.load(tiny_model, threads=1)
    for ask in (detector.predict, detector.predict_iter):
        with pytest.raises(BlemishError, match="the batch size must be "):
            ask(noise(1), batch_size=size)


def test_numbers_of_numpy_are_numbers(tiny_model):
    detector = Detector.load(tiny_model, threads=np.int64(1), false_alarm_rate=np.float32(0.25))
    assert detector.calibration.false_alarm_rate == 0.25
    assert len(detector.score(noise(1), batch_size=np.uint8(2)).scores) == 1
    assert whole(np.int32(7), "it", least=1) == 7
    assert rate(np.float64(0.5), "it") == 0.5
    one_of(True, "it", (True, False))


def test_folders_named_by_hand_may_be_bytes(tmp_path):
    for i in range(3):
        save_image(tmp_path / f"a/{i}.png", noise(i))
    named = [tmp_path / "a", str(tmp_path / "a"), bytes(tmp_path / "a"), [bytes(tmp_path / "a")]]
    assert len({len(read_data_set(None, good=good).train) for good in named}) == 1
    assert several_paths(b"a", "it") == (one_path("a", "it"),)
