"""The curve of what each mask adds: which of the panel's runs it takes."""

import sys

import pytest

from blemish.errors import BlemishError
from helpers.scripts import load_script

book, mask_curve = load_script("panel.book"), load_script("mask_curve")


def run(name: str, protocol: str, seed: int, image: float, pixel: float | None, *, method: str = "blemish"):
    return book.Run("abc", seed, name, method, protocol, 10, image, pixel)


def test_every_draw_in_the_order_of_masks_and_seeds():
    found = mask_curve.curves(
        [
            run("tile", "masks-5", 0, 1.0, 0.9),
            run("tile", "masks-1", 1, 0.7, 0.8),
            run("tile", "masks-1", 0, 0.5, 0.6),
            run("tile", "good", 0, 0.25, 0.125),
            run("tile", "good", 0, 0.1, 0.1, method="padim"),
            run("tile", "masks-1-without", 0, 0.1, 0.1),
            run("tile", "unseen-5-crack", 0, 0.1, 0.1),
            run("fabric", "good", 0, 0.1, None),
            run("screw", "good", 0, 0.1, 0.1),
        ]
    )
    assert {name: {masks: rows.tolist() for masks, rows in draws.items()} for name, draws in found.items()} == {
        "tile": {0: [[0.25, 0.125]], 1: [[0.5, 0.6], [0.7, 0.8]], 5: [[1.0, 0.9]]}
    }


def test_the_picture_is_written_as_its_name_says(tmp_path, monkeypatch):
    file, output = tmp_path / "runs.csv", tmp_path / "curve.svg"
    book.add_runs(file, [run("tile", "masks-1", 0, 0.5, 0.6), run("screw", "masks-5", 0, 0.5, 0.6)])
    monkeypatch.setattr(sys, "argv", ["mask_curve.py", str(file), "-o", str(output)])
    mask_curve.main()
    drawn = output.read_text()
    assert all(text in drawn for text in ("tile", "screw", "masks of each defect type", "pixel AUROC"))


def test_runs_without_masks_are_refused():
    with pytest.raises(BlemishError, match="no run with masks"):
        mask_curve.curves([run("tile", "good", 0, 0.5, 0.5)])
