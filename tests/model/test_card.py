"""The model card and what is kept in a model file: read by ONNX's own tools, and gone without a trace when replaced."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from blemish.errors import BlemishError
from blemish.evaluation.confidence import intervals
from blemish.model.detector import Detector
from blemish.model.records import RECORD_KEY, read_record, save_record
from helpers.images import noise, save_image, stained


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "tiny.onnx"
    copy.write_bytes(tiny_model.read_bytes())
    return copy


# The record


def test_a_record_is_metadata_to_onnx_and_onnx_runtime(model: Path) -> None:
    value = {"image_auroc": 0.5, "data": "Schräubchen", "long": "x" * 300}
    save_record(model, "evaluation", value)
    entries = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert json.loads(entries[RECORD_KEY]) == {"evaluation": value}
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map[RECORD_KEY] == entries[RECORD_KEY]
    onnx.checker.check_model(onnx.load(model))
    assert read_record(model) == {"evaluation": value}


def test_nothing_else_in_the_file_changes(model: Path, tiny_model: Path) -> None:
    save_record(model, "evaluation", {"a": 1})
    before, after = tiny_model.read_bytes(), model.read_bytes()
    assert after[: len(before)] == before
    images = np.stack([noise(1), stained(2)])
    for one, other in zip(Detector.load(tiny_model).forward(images), Detector.load(model).forward(images), strict=True):
        np.testing.assert_array_equal(one, other)
    assert Detector.load(model).metadata == Detector.load(tiny_model).metadata


def test_parts_are_replaced_one_by_one(model: Path) -> None:
    save_record(model, "evaluation", {"a": 1})
    save_record(model, "audit", {"b": "y" * 500})
    save_record(model, "evaluation", {"a": 2})
    assert read_record(model) == {"evaluation": {"a": 2}, "audit": {"b": "y" * 500}}
    assert [entry.key for entry in onnx.load(model).metadata_props].count(RECORD_KEY) == 1
    size = model.stat().st_size
    save_record(model, "evaluation", {"a": 3})
    assert model.stat().st_size == size


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"no model at all", "not an ONNX model"), (b"\x72\xff\xff\xff\x7f", "not an ONNX model")],
    ids=["missing", "text", "cut short"],
)
def test_what_is_no_model_is_refused(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BlemishError, match=words):
        save_record(path, "audit", {})
    assert not path.exists() or path.read_bytes() == content


# The card


class Text(HTMLParser):
    """What a page says, and what it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def test_a_card_without_figures_says_how_to_get_them(model: Path, tmp_path: Path, run: Callable) -> None:
    outcome = run("info", model, "-o", tmp_path / "card.html")
    assert outcome.status == 0
    assert "no figures in the file: blemish evaluate MODEL DATA --save" in outcome.out
    page = Text(tmp_path / "card.html")
    assert "No figures in the file" in page.text
    assert "Not audited" in page.text
    assert page.loads == []
    result = run("info", model, "--json").json
    detector = Detector.load(model)
    assert result["fingerprint"] == detector.fingerprint
    assert result["data"] == dict(detector.metadata.data)
    assert (result["held_rate"], result["proven_rate"], result["evaluation"]) == (0.05, 0.05, None)


def test_saved_figures_are_on_the_card_with_their_intervals(
    model: Path, parts: Path, tmp_path: Path, run: Callable
) -> None:
    for number in range(3, 12):
        save_image(parts / f"test/good/{number}.png", noise(310 + number))
    measured = run("evaluate", model, parts, "--save", "--json").json
    from blemish.datasets.layouts import read_data_set
    from blemish.evaluation.run import evaluate

    expected = intervals(evaluate(Detector.load(model), read_data_set(parts)).images)
    assert measured["intervals"] == {name: pytest.approx(list(value)) for name, value in expected.items()}
    save_record(
        model, "audit", {"date": "2026-01-02", "images": 40, "verdict": "1 cue.", "flags": [{"words": "A stamp."}]}
    )
    card = run("info", model, "-o", tmp_path / "card.html", "--json").json
    for name in ("image_auroc", "pixel_auroc", "aupro", "detection_rate", "false_alarm_rate", "per_defect"):
        assert card["evaluation"][name] == measured[name]
    low, high = expected["false_alarm_rate"]
    for text in (Text(tmp_path / "card.html").text, run("info", model).out):
        assert f"{100 * low:.3g} % to {100 * high:.3g} %" in text
        assert f"{measured['image_auroc']:.3f}" in text
        assert "1 cue." in text
    assert "A stamp." in Text(tmp_path / "card.html").text


def test_the_card_shows_what_is_ignored_and_any_name_is_text(model: Path, tmp_path: Path, run: Callable) -> None:
    from blemish.imaging.ignore_mask import IgnoreMask, as_record
    from helpers.model_files import with_changes

    mask = np.zeros((64, 64), np.uint8)
    mask[:16] = 255
    save_image(tmp_path / "m<b>.png", mask)
    record = as_record(IgnoreMask(tmp_path / "m<b>.png"), (64, 64))
    ignoring = with_changes(model, tmp_path / "<i>x.onnx", ignored=record)
    result = run("info", ignoring, "-o", tmp_path / "card.html", "--json").json
    assert result["ignored"] == {"mask": "m<b>.png", "everywhere": True, "share": 0.25}
    page = Text(tmp_path / "card.html")
    assert "<i>x.onnx" in page.text
    assert "25 % of every image" in page.text
    assert [source[:22] for source in page.loads] == ["data:image/png;base64,"]


@pytest.mark.parametrize("has_refit", [False, True])
def test_the_card_says_what_else_the_calibration_images_do(
    has_refit: bool, model: Path, tmp_path: Path, run: Callable
) -> None:
    from helpers.model_files import with_changes

    changed = with_changes(model, tmp_path / "m.onnx", has_refit=has_refit)
    told = run("info", changed, "-o", tmp_path / "card.html", "--json").json["guarantee"]
    sentence = "A second model was refit on the calibration images too; it can only lower maps."
    assert (sentence in told) == has_refit
    assert (sentence in Text(tmp_path / "card.html").text) == has_refit


@pytest.mark.parametrize("which", ["aligned", "coarse_grid"])
@pytest.mark.parametrize("so", [False, True])
def test_the_card_says_how_images_are_compared(
    which: str, so: bool, model: Path, tmp_path: Path, run: Callable
) -> None:
    from helpers.model_files import with_changes

    words = {"aligned": "turns parts upright", "coarse_grid": "on a coarse grid"}[which]
    changed = with_changes(model, tmp_path / "m.onnx", **{which: so})
    assert (words in run("info", changed, "-o", tmp_path / "card.html").out) == so
    key = {"coarse_grid": "wide_cells"}.get(which, which)  # the key of 0.1.0
    assert run("info", changed, "--json").json[key] == so
    assert (words in Text(tmp_path / "card.html").text) == so


def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, run: Callable) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    outcome = run("info", tmp_path / "x.onnx")
    assert outcome.status == 2
    assert "not an ONNX model" in outcome.err
