"""What a comparison depends on: contents and options, and not names of folders or what no run is changed by."""

import shutil

import numpy as np
import pytest

from blemish.comparison.key import difference, key_of
from blemish.datasets.layouts import read_data_set
from blemish.training.config import TrainConfig
from helpers.images import noise, save_image


def test_the_same_images_in_another_place_have_the_same_key(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "moved")
    assert key_of(read_data_set(parts), TrainConfig()) == key_of(read_data_set(tmp_path / "moved"), TrainConfig())


@pytest.mark.parametrize("change", ["image", "mask", "new image", "label"])
def test_other_data_are_told(parts, change):
    before = key_of(read_data_set(parts), TrainConfig())
    if change == "image":
        save_image(parts / "train/good/0.png", noise(999))
    elif change == "mask":
        save_image(parts / "ground_truth/stain/0_mask.png", np.eye(64, dtype=np.uint8) * 255)
    elif change == "new image":
        save_image(parts / "train/good/9.png", noise(999))
    else:
        shutil.move(parts / "test/stain", parts / "test/dent")
        shutil.move(parts / "ground_truth/stain", parts / "ground_truth/dent")
    assert difference(key_of(read_data_set(parts), TrainConfig()), before) == "other images or masks"


def test_method_seed_and_download_do_not_count_and_contents_of_named_files_do(parts, tmp_path):
    data, weights = read_data_set(parts), tmp_path / "weights.pth"
    weights.write_bytes(b"1")
    before = key_of(data, TrainConfig(weights=weights))
    assert difference(key_of(data, TrainConfig(weights=weights, method="padim", seed=3, download=True)), before) is None
    weights.write_bytes(b"2")
    assert difference(key_of(data, TrainConfig(weights=weights)), before) == "other options (weights)"
