"""Small outlier images cut from photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from blemish.errors import BlemishError
from helpers.images import noise, save_image
from helpers.scripts import load_script

outlier_crops = load_script("outlier_crops")


def photographs(folder: Path) -> Path:
    for number in range(3):
        save_image(folder / f"{number}.png", noise(number, size=(60, 90)))
    return folder


def test_crops_are_as_large_and_as_compressed_as_the_example(tmp_path):
    like = tmp_path / "like.jpg"
    Image.new("RGB", (20, 10)).save(like, quality=31, subsampling="4:2:2")
    made = outlier_crops.write_crops(photographs(tmp_path / "in"), tmp_path / "out", like=like, number=4, seed=0)
    files = sorted((tmp_path / "out").iterdir())
    assert made == len(files) == 12
    with Image.open(like) as example:
        for file in files:
            with Image.open(file) as crop:
                assert crop.size == (20, 10)
                assert crop.quantization == example.quantization
                assert JpegImagePlugin.get_sampling(crop) == JpegImagePlugin.get_sampling(example)


def test_crops_lie_inside_and_cover_at_least_half_of_the_shorter_side(rng):
    rows, columns = np.indices((60, 90))
    where = Image.fromarray(np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8))
    sides, middles = [], []
    for crop in outlier_crops.crops(where, 300, (30, 30), rng):
        pixels = np.asarray(crop, dtype=float)
        sides.append(np.ptp(pixels[..., 0]) * 30 / 29)
        middles.append(pixels[..., :2].mean((0, 1)))
    assert 28 < min(sides) < 33
    assert 57 < max(sides) < 62
    assert np.ptp(middles, axis=0) == pytest.approx((30, 60), abs=6)


def test_the_same_seed_gives_the_same_files_and_png_stays_png(tmp_path):
    like = save_image(tmp_path / "like.png", noise(9, size=(8, 8)))
    source = photographs(tmp_path / "in")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        outlier_crops.write_crops(source, tmp_path / name, like=like, number=2, seed=seed)
    bytes_of = {name: [file.read_bytes() for file in sorted((tmp_path / name).glob("*.png"))] for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]
    assert len(bytes_of["a"]) == 6


def test_a_file_that_is_no_image_is_named_and_leaves_nothing(tmp_path):
    source = photographs(tmp_path / "in")
    (source / "notes.txt").write_text("not an image")
    with pytest.raises(BlemishError, match=r"notes\.txt"):
        outlier_crops.write_crops(source, tmp_path / "out", like=source / "0.png", number=1, seed=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "output", "sentence"), [("none", "out", "no photographs"), ("in", "in", "in exists")]
)
def test_bad_input_is_one_sentence(source, output, sentence, tmp_path):
    photographs(tmp_path / "in")
    with pytest.raises(BlemishError, match=sentence):
        outlier_crops.write_crops(tmp_path / source, tmp_path / output, like=tmp_path / "in/0.png", number=1, seed=0)
