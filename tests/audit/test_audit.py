"""`blemish audit` from the folder to the page: planted cues are flagged, clean folders are not."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.audit import counterfactuals
from blemish.audit.appearance import relight
from blemish.audit.counterfactuals import insert_cue, remove_cue
from blemish.audit.data import AuditData
from blemish.audit.findings import probability, sides, where
from blemish.audit.locations import fixed_frame
from blemish.audit.search import Searches
from blemish.datasets.layouts import Sample
from blemish.io.text import whole_percent
from helpers.images import SIDE, noise, save_image


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


class Brightest:
    """A detector whose map is the brightness of each pixel."""

    def forward(self, pixels):
        maps = pixels.mean(axis=3, dtype=np.float32)
        return maps, maps.max(axis=(1, 2)), np.ones(len(pixels), np.float32)


def audit_data(pixels: np.ndarray, threshold: float) -> AuditData:
    size = pixels.shape[1:3]
    return AuditData(
        samples=tuple(Sample(Path(f"{i}.png")) for i in range(len(pixels))),
        pixels=pixels,
        compared=pixels,
        masks=np.zeros((len(pixels), *size), bool),
        ignored=np.zeros(size, bool),
        maps=pixels.mean(axis=3, dtype=np.float32),
        threshold=threshold,
    )


class TestSearches:
    def test_where_all_images_are_alarms_there_is_nothing_to_fill_a_place_from(self):
        pixels = np.random.default_rng(0).integers(90, 110, (12, SIDE, SIDE, 3), dtype=np.uint8)
        pixels[:, 10:20, 10:20] = 250
        images = audit_data(pixels, 200)
        images = replace(images, compared=np.zeros((12, 256, 256, 3), np.uint8))
        (place, *_) = Searches(Brightest(), images, {}, roi=None, seed=0).locations([])
        assert len(place.carriers) == 12
        assert place.removed is None
        assert not place.flagged


class TestCounterfactuals:
    @pytest.fixture
    def lamps(self) -> tuple[AuditData, np.ndarray]:
        """Dark images, the first three with a white patch, whose region is returned too."""
        pixels = np.full((8, SIDE, SIDE, 3), 40, np.uint8)
        pixels += np.arange(8, dtype=np.uint8)[:, None, None, None]
        pixels[:3, 40:50, 40:50] = 250
        region = np.zeros((SIDE, SIDE), bool)
        region[36:54, 36:54] = True
        return audit_data(pixels, 200), region

    def test_removing_the_cause_loses_the_alarm(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.arange(3), region, donors=np.arange(3, 8))
        assert change.alarms == 3
        assert change.lost.tolist() == [0, 1, 2]

    def test_removing_something_else_does_not(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.arange(3), np.roll(region, -30, 1), donors=np.arange(3, 8))
        assert change.lost.tolist() == []

    def test_the_donor_is_the_most_similar_other_image(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.array([6]), region, donors=np.array([3, 4, 6]))
        assert change.pixels[0, 45, 45, 0] == images.pixels[4, 45, 45, 0]

    def test_inserting_it_makes_alarms(self, lamps):
        images, region = lamps
        change = insert_cue(Brightest(), images, np.arange(3, 8), region, donors=np.arange(3))
        assert change.non_alarms == 5
        assert change.gained.tolist() == [3, 4, 5, 6, 7]

    def test_at_most_forty_images_are_changed(self, lamps):
        assert len(counterfactuals._sample(np.arange(1000))) == counterfactuals.MAX_CHANGED

    def test_relighting_undoes_a_lamp(self):
        rng = np.random.default_rng(0)
        plain = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        lit = plain.copy()
        lit[:8] = (plain[:8] * 0.8 + (30, 20, 5)).astype(np.uint8)
        back = relight(lit, np.arange(20) < 8, ignored=np.zeros((32, 32), bool), give=False)
        assert np.abs(back.astype(int) - plain[:8]).max() <= 3

    def test_aligned_parts_are_told_from_scattered_ones(self):
        rng = np.random.default_rng(1)
        part = np.kron(rng.integers(0, 255, (16, 16)), np.ones((16, 16)))
        aligned = np.stack([part + rng.normal(0, 4, part.shape) for _ in range(12)])
        scattered = np.stack([np.roll(one, rng.integers(0, 256, 2), (0, 1)) for one in aligned])
        region = np.zeros((256, 256), bool)
        region[100:160, 100:160] = True

        def as_pixels(images: np.ndarray) -> np.ndarray:
            return np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)

        assert fixed_frame(as_pixels(aligned), region)
        assert not fixed_frame(as_pixels(scattered), region)


class TestWords:
    @pytest.mark.parametrize(
        ("box", "words"),
        [
            ((80, 100, 0, 40), "lower left 8 % of the image"),
            ((0, 10, 90, 100), "upper right 1 % of the image"),
            ((0, 100, 0, 4), "left 4 % of the image"),
            ((96, 100, 0, 100), "lower 4 % of the image"),
            ((45, 55, 45, 55), "middle 1 % of the image"),
            ((0, 100, 0, 100), "greater part, 100 % of the image"),
            ((10, 15, 10, 15), "upper left 0.2 % of the image"),
        ],
    )
    def test_places(self, box, words):
        region = np.zeros((100, 100), bool)
        region[box[0] : box[1], box[2] : box[3]] = True
        assert where(region) == words

    def test_numbers(self):
        assert [probability(p) for p in (0.034, 0.00051, 0.00002)] == ["p = 0.034", "p = 0.00051", "p < 0.0001"]
        assert [whole_percent(share) for share in (0.004, 0.04, 0.4)] == ["0.4 %", "4 %", "40 %"]
        assert sides((0, 24), (118, 120), first=True) == "24 of 120 anomalous images and none of 118 good ones"
