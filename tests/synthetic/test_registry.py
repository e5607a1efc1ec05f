"""Synthetic anomalies by name."""

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.plugins import SYNTHETIC
from blemish.synthetic.confetti import confetti
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.perlin import Perlin
from blemish.synthetic.registry import synthetic_anomaly
from helpers.images import noise, save_image


def test_the_built_in_ones():
    assert {"none", "confetti", "perlin"} <= set(SYNTHETIC)


@pytest.mark.parametrize("name", ["none", "confetti", "perlin"])
def test_each_makes_an_image_and_its_mask(name):
    image = noise(0)
    made = synthetic_anomaly(name)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(made.mask, (made.image != image).any(2))
    assert made.mask.any() == (name != "none")


def test_a_function_is_taken_as_it_is_and_a_class_gets_the_folder(tmp_path):
    save_image(tmp_path / "white.png", np.full((64, 64, 3), 255, np.uint8))
    folder = OutlierFolder(tmp_path)
    assert synthetic_anomaly("confetti", outliers=folder) is confetti
    made = synthetic_anomaly("perlin", outliers=folder)
    assert isinstance(made, Perlin)
    black = np.zeros((64, 64, 3), np.uint8)
    assert made(black, np.random.default_rng(0)).image.max() >= 0.2 * 255


def test_an_unknown_name_is_refused():
    with pytest.raises(BlemishError, match="there is no synthetic anomaly called 'scars'; there are none, confetti"):
        synthetic_anomaly("scars")
