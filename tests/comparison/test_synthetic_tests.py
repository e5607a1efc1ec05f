"""Test images with synthetic defects: masks are where they differ, grey stays grey, a seed gives the same files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.comparison.synthetic_tests import SyntheticTests
from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.model.detector import Detector
from helpers.images import noise, save_image
from helpers.killing import contents


@pytest.fixture
def data(tmp_path):
    for number in range(3):
        save_image(tmp_path / f"data/train/good/{number}.png", noise(number))
        save_image(tmp_path / f"data/test/good/{number}.png", noise(10 + number, size=(80, 96)))
    save_image(tmp_path / "data/test/good/grey.png", noise(20)[..., 0])
    return read_data_set(tmp_path / "data")


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_each_copy_differs_from_its_source_and_only_in_the_mask(data, tmp_path, tiny_model):
    made = SyntheticTests(data, tmp_path / "out", 0).of(Detector.load(tiny_model), 0)
    defective = [sample for sample in made.test if sample.anomalous]
    assert {sample.defect for sample in defective} == {"confetti", "perlin"}
    assert len(defective) == 2 * 4
    assert len(made.test) == 3 * 4
    for sample in defective:
        good = pixels(made.root / "test/good" / sample.path.relative_to(made.root / "test" / sample.defect))
        mask = pixels(sample.mask) > 0
        assert mask.any()
        assert not (pixels(sample.path) != good)[~mask].any()
        if sample.path.stem == "grey":
            assert (pixels(sample.path) == pixels(sample.path)[..., :1]).all()


def test_a_seed_gives_the_same_files_and_another_one_others(data, tmp_path, tiny_model):
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        SyntheticTests(data, folder, seed).of(Detector.load(tiny_model), seed)
    first, second, other = map(contents, folders)
    assert first == second
    assert first != other


def test_a_folder_that_was_not_finished_is_made_anew(data, tmp_path, tiny_model):
    tests = SyntheticTests(data, tmp_path / "out", 0)
    tests.of(Detector.load(tiny_model), 0)
    whole = contents(tmp_path / "out")
    (tests.root(0) / "sources.json").unlink()
    save_image(tests.root(0) / "test/good/left.png", noise(0))
    tests.of(Detector.load(tiny_model), 0)
    assert contents(tmp_path / "out") == whole


def test_an_unreadable_image_is_passed_over(data, tmp_path, tiny_model):
    data.test[0].path.write_bytes(b"no image")
    made = SyntheticTests(data, tmp_path / "out", 0).of(Detector.load(tiny_model), 0)
    assert sum(not sample.anomalous for sample in made.test) == 3


def test_without_a_readable_image_that_is_said(data, tmp_path, tiny_model):
    for sample in data.test:
        sample.path.write_bytes(sample.path.name.encode())
    with pytest.raises(BlemishError, match="none of the good images"):
        SyntheticTests(data, tmp_path / "out", 0).of(Detector.load(tiny_model), 0)
