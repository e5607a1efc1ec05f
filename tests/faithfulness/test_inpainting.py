"""Inpainting against what it promises, and the mean of good images."""

from pathlib import Path

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.faithfulness.inpainting import NormalImages, inpaint, inpaint_from_surroundings
from helpers.images import SIDE, noise, save_image


def square() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:36, 30:46] = True
    return mask


def test_inpainting_is_exact_far_from_the_edge_and_from_surroundings_takes_the_surroundings() -> None:
    pixels, fill = noise(0), noise(1)
    nothing, everything = np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
    np.testing.assert_array_equal(inpaint(pixels, fill, nothing), pixels)
    np.testing.assert_array_equal(inpaint(pixels, fill, everything), fill)
    np.testing.assert_array_equal(inpaint_from_surroundings(pixels, everything), pixels)
    ramp = np.repeat(np.linspace(60, 180, SIDE)[None, :, None], SIDE, axis=0).repeat(3, axis=2)
    spoiled = np.where(square()[..., None], 0, ramp).astype(np.uint8)
    middle = inpaint_from_surroundings(spoiled, square())[25:31, 35:41].astype(float)
    assert abs(middle - ramp[25:31, 35:41]).max() < 30  # a tenth of the black is left, see `inpaint`


def test_the_mean_of_good_images(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{number}.png", noise(number)) for number in range(5)]
    (tmp_path / "broken.png").write_bytes(b"no image")
    nominal = NormalImages([*paths, tmp_path / "broken.png"], (SIDE, SIDE))
    literal = np.stack([noise(number) for number in range(5)]).astype(float).mean(0)
    np.testing.assert_array_equal(nominal.mean, np.round(literal))
    assert (nominal.images, len(nominal.failed)) == (5, 1)
    with pytest.raises(BlemishError, match="no good image"):
        NormalImages([tmp_path / "broken.png"], (SIDE, SIDE))
