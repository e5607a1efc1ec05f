"""The curve of what each mask adds: which runs of a CSV file it takes, and its table by hand."""

import sys

import pytest

from blemish.errors import BlemishError
from conftest import load_script

mask_curve = load_script("mask_curve")

HEADER = "data,regime,seed,image_auroc,pixel_auroc,aupro,seconds\n"


def runs(*rows: tuple[str, str, int, float, float]) -> str:
    return HEADER + "".join(
        f'{data},"{regime}, 256 px",{seed},{image},{pixel},0.5,60\n' for data, regime, seed, image, pixel in rows
    )


MASKS = "all good images, {} of each defect type with masks"


def test_every_draw_and_the_mean_in_the_order_of_masks_and_seeds(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text(
        runs(
            ("tile", MASKS.format(5), 0, 1.0, 0.9),
            ("tile", MASKS.format(1), 1, 0.7, 0.8),
            ("tile", MASKS.format(1), 0, 0.5, 0.6),
            ("tile", "all good images", 0, 0.25, 0.125),
            ("tile", "10 good images", 0, 0.1, 0.1),
            ("tile", "all good images, 5 of each other defect type with masks, tested on crack", 0, 0.1, 0.1),
            ("tile", "all good images, 5 of each defect type without masks", 0, 0.1, 0.1),
        )
    )
    _, _, *rows = mask_curve.table(mask_curve.read_curves(file))
    # The sample standard deviation of two values is their distance over the root of two.
    assert rows == [
        "| tile | 0 | .250 | .250 | .125 | .125 |",
        "| tile | 1 | .500 .700 | .600 ± .141 | .600 .800 | .700 ± .141 |",
        "| tile | 5 | 1.000 | 1.000 | .900 | .900 |",
    ]


def test_the_picture_is_written_as_its_name_says(tmp_path, monkeypatch, capsys):
    file, output = tmp_path / "runs.csv", tmp_path / "curve.svg"
    file.write_text(runs(("tile", MASKS.format(1), 0, 0.5, 0.6), ("screw", MASKS.format(2), 0, 0.5, 0.6)))
    monkeypatch.setattr(sys, "argv", ["mask_curve.py", str(file), "-o", str(output)])
    mask_curve.main()
    assert len(capsys.readouterr().out.splitlines()) == 4
    drawn = output.read_text()
    assert all(text in drawn for text in ("tile", "screw", "masks of each defect type", "pixel AUROC"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [(None, "no such file"), (HEADER, "no run"), (runs(("tile", "10 good images", 0, 0.5, 0.5)), "no run")],
)
def test_a_file_without_such_runs_is_refused(tmp_path, text, fault):
    file = tmp_path / "runs.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BlemishError, match=fault):
        mask_curve.read_curves(file)
