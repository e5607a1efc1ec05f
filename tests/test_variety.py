"""Whether images differ as wholes, against the textbook's correlations and against images made to be alike or not."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blemish.images import load
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.wide_cells import WideCells
from blemish.variety import FEWEST, common_share, differ_as_wholes, in_one_light

DATA = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
C, SIDE = 3, 8


def made(own: float, parts: float, *, images: int, seed: int) -> torch.Tensor:
    """Features of a common layout, with a variance of whole images and one of parts, which are 2 x 2 cells."""
    rng = np.random.default_rng(seed)
    layout = rng.normal(0, 5, (C, SIDE, SIDE))
    whole = rng.normal(0, own**0.5, (images, C, 1, 1))
    part = np.kron(rng.normal(0, parts**0.5, (images, C, 4, 4)), np.ones((1, 1, 2, 2)))
    return torch.from_numpy(layout + whole + part).float()


@settings(max_examples=20)
@given(own=st.floats(0, 3), parts=st.floats(0.1, 3), seed=st.integers(0, 1000))
def test_the_share_is_that_of_the_variance_of_whole_images(own: float, parts: float, seed: int) -> None:
    share = common_share(made(own, parts, images=2000, seed=seed))
    assert share == pytest.approx(own / (own + parts), abs=0.06)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), images=st.integers(2, 9))
def test_it_is_covariances_over_variances_of_parts_that_do_not_touch(seed: int, images: int) -> None:
    features = np.random.default_rng(seed).normal(0, 1, (images, C, SIDE, SIDE))
    shares = []
    for channel in range(C):
        means = features[:, channel].reshape(images, 4, 2, 4, 2).mean((2, 4))
        common = whole = 0.0
        for (i, j), (k, m) in product(product(range(4), repeat=2), repeat=2):
            if max(abs(i - k), abs(j - m)) > 1:
                covariance = np.cov(means[:, i, j], means[:, k, m])
                common += covariance[0, 1]
                whole += (covariance[0, 0] + covariance[1, 1]) / 2
        shares.append(common / whole)
    assert common_share(torch.from_numpy(features)) == pytest.approx(np.mean(shares), abs=1e-6)


def test_places_where_images_hardly_vary_hardly_count() -> None:
    """A faint drift of a plain background does not make parts in its middle differ as wholes."""
    features = made(0, 1, images=500, seed=0)
    drift = 0.01 * made(1, 0, images=500, seed=1)
    features[..., :2], features[..., -2:] = drift[..., :2], drift[..., -2:]
    assert abs(common_share(features)) < 0.03


def test_images_without_any_variation_have_nothing_in_common() -> None:
    assert common_share(torch.ones(20, C, SIDE, SIDE)) == 0


@pytest.mark.parametrize(("images", "expected"), [(FEWEST - 1, False), (FEWEST, True)])
def test_of_a_few_images_nothing_is_said(images: int, expected: bool) -> None:
    assert differ_as_wholes(made(5, 0.1, images=images, seed=0)) == expected


def test_nor_of_small_ones() -> None:
    assert not differ_as_wholes(made(5, 0.1, images=20, seed=0)[..., :-1, :])


@pytest.mark.parametrize(("name", "expected"), [("screw", False), ("magnetic_tile", True)])
@pytest.mark.parametrize("first", [0, 1], ids=["even", "odd"])
def test_tiles_differ_as_wholes_and_screws_do_not(name: str, expected: bool, first: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the {name} images; set BLEMISH_DATA to the folder that holds {name}/")
    paths = sorted((DATA / name / "train" / "good").iterdir())[first::14]
    features = FeatureGrid(Backbone(), size=(256, 256)).eval().deepest()
    wide = WideCells(features, beyond=None)
    with torch.inference_mode():
        pixels = torch.from_numpy(in_one_light(np.stack([load(path, (256, 256))[0] for path in paths])))
        assert differ_as_wholes(wide.of_the_grid(features(pixels))) == expected


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), lamps=st.lists(st.floats(0.5, 2), min_size=1, max_size=5))
@example(seed=0, lamps=[1.015625])
def test_in_one_light_the_lamp_no_longer_shows(seed: int, lamps: list[float]) -> None:
    """Dark enough to be nowhere at the sensor's end."""
    part = np.random.default_rng(seed).uniform(10, 60, (6, 7, 3))
    images = np.rint(np.stack([lamp * part for lamp in [1.0, *lamps]])).astype(np.uint8)
    lit = in_one_light(images)
    assert np.abs(lit.astype(int) - lit[:1]).max() <= 4  # half a level, four times as bright, on both sides
    # Rounding to whole levels moves each mean by half a level at most, on either side.
    middle = np.median(images.mean((1, 2, 3)))
    np.testing.assert_allclose(lit.mean((1, 2, 3)), middle, rtol=1e-5, atol=0.5)


def test_a_black_image_stays_black() -> None:
    images = np.stack([np.zeros((4, 4, 3), np.uint8), *np.full((2, 4, 4, 3), 90, np.uint8)])
    np.testing.assert_array_equal(in_one_light(images), images)
