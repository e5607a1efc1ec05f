"""`blemish audit` from the folder to the page: planted cues are flagged, clean folders are not."""

import re
from pathlib import Path

import numpy as np
import pytest

from blemish.auditing.run import audit
from blemish.datasets.layouts import read_data_set
from blemish.model.detector import Detector
from helpers.images import noise, save_image


def marked(seed: int) -> np.ndarray:
    """Noise with a black square in the lower right corner, always the same."""
    pixels = noise(seed)
    pixels[46:60, 44:60] = 0
    pixels[50:54, 48:56] = 255
    return pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """24 good images and 16 anomalous ones, 9 of which carry a mark."""
    root = tmp_path_factory.mktemp("audit") / "cue"
    for i in range(24):
        save_image(root / f"train/good/{i}.png", noise(i))
    for i in range(16):
        save_image(root / f"test/dent/{i:02}.png", marked(500 + i) if i < 9 else noise(600 + i))
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "clean"
    for i in range(24):
        save_image(root / f"train/good/{i}.png", noise(i))
    for i in range(16):
        save_image(root / f"test/dent/{i:02}.png", noise(600 + i))
    return root


class TestCommand:
    def test_a_mark_is_flagged_with_its_images_and_its_place(self, run, tiny_model, folder, tmp_path):
        page = tmp_path / "a.html"
        outcome = run("audit", tiny_model, folder, "-o", page, "--json")
        assert outcome.status == 0
        result = outcome.json
        assert result["flagged"] is True
        (flag, *_) = result["flags"]
        assert flag["kind"] == "pattern"
        assert flag["in_data"]
        assert {Path(path).name for path in flag["images"]} == {f"{i:02}.png" for i in range(9)}
        left, top, right, bottom = flag["box"]
        assert left > 0.5
        assert top > 0.5
        assert right > 0.8
        assert bottom > 0.8
        assert "lower right" in flag["words"]
        assert sum(cluster["images"] for cluster in result["clusters"]) >= 9
        for cluster in result["clusters"]:
            assert len(cluster["paths"]) == cluster["images"]

        # The page stands alone and begins with the verdict.
        text = page.read_text("utf-8")
        assert text.index(result["verdict"]) < text.index("Where the evidence sits")
        sources = re.findall(r'(?:src|href)="([^"#][^"]*)"', text)
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        assert "<script" not in text
        assert "url(" not in text

    def test_a_clean_folder_is_not_flagged(self, run, tiny_model, clean, tmp_path):
        outcome = run("audit", tiny_model, clean, "-o", tmp_path / "a.html", "--json")
        assert outcome.json["flagged"] is False
        assert outcome.json["flags"] == []

    def test_evidence_outside_the_region_of_interest_is_reported(self, run, tiny_model, folder, tmp_path):
        interest = np.zeros((100, 100), np.uint8)
        interest[:60] = 255
        roi = save_image(tmp_path / "roi.png", interest)
        outcome = run("audit", tiny_model, folder, "-o", tmp_path / "a.html", "--roi", roi, "--json")
        outside = {name: one["outside_roi"] for name, one in outcome.json["evidence"].items()}
        assert outside["alarms"] > 0.5
        assert any(flag["kind"] == "outside" for flag in outcome.json["flags"])

    def test_only_good_images_can_be_audited_too(self, run, tiny_model, tmp_path):
        for i in range(12):
            save_image(tmp_path / f"flat/{i}.png", noise(i))
        outcome = run("audit", tiny_model, tmp_path / "flat", "-o", tmp_path / "a.html")
        assert outcome.status == 0
        assert "No spurious cue found." in outcome.out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("missing.onnx", "cue"), "no such file"),
            (("model", "missing"), "no such folder"),
            (("model", "few"), "an audit needs 10 or more"),
            (("model", "cue", "--roi", "missing.png"), "no such file"),
            (("model", "cue", "--roi", "black.png"), "black everywhere"),
            (("model", "cue", "--roi", "white.png"), "white everywhere"),
            (("model", "cue", "--roi", "text.png"), "text.png"),
            (("model", "cue", "-o", "few/train/good/0.png/a.html"), "cannot"),
            (("model", "cue", "--false-alarm-rate", "2"), "--false-alarm-rate"),
            (("model",), "DATA"),
        ],
    )
    def test_a_mistake_gets_one_sentence(self, run, tiny_model, folder, tmp_path, monkeypatch, arguments, words):
        for i in range(3):
            save_image(tmp_path / f"few/train/good/{i}.png", noise(i))
        save_image(tmp_path / "black.png", np.zeros((9, 9), np.uint8))
        save_image(tmp_path / "white.png", np.full((9, 9), 255, np.uint8))
        (tmp_path / "text.png").write_text("no picture")
        monkeypatch.chdir(tmp_path)
        known = {"model": tiny_model, "cue": folder}
        outcome = run("audit", *(known.get(one, one) for one in arguments))
        assert outcome.status == 2
        assert outcome.out == ""
        assert len(outcome.err.strip().splitlines()) == 1
        assert words in outcome.err


def test_the_old_names_of_an_audit_still_work_and_warn(tiny_model, clean):
    region = np.ones((10, 10), bool)
    region[:2] = False
    with pytest.warns(DeprecationWarning, match=r"audit\(interest=\.\.\.\) is now called audit\(roi"):
        found = audit(Detector.load(tiny_model), read_data_set(clean), interest=region)
    assert found.roi is not None
    for old, new in (("material", "data"), ("suspects", "findings"), ("hanging", "dependent"), ("interest", "roi")):
        with pytest.warns(DeprecationWarning, match=f"Audit.{old} is now called Audit.{new}"):
            assert getattr(found, old) is getattr(found, new)
