"""Perlin-masked textures: noise against a literal reference, the blend against its equation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.perlin import OPACITY, Perlin, perlin_mask, perlin_noise, permuted_patches
from helpers.images import save_image

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def slow_noise(size, cells, rng, angle):
    """Perlin noise pixel by pixel, from the definition: gradients dot offsets, faded between four corners."""
    places = []
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = (row + 0.5) / size[0] - 0.5, (column + 0.5) / size[1] - 0.5
            places.append(
                (
                    cells[0] * (math.cos(angle) * y - math.sin(angle) * x),
                    cells[1] * (math.sin(angle) * y + math.cos(angle) * x),
                )
            )
    top, left = (min(math.floor(place[axis]) for place in places) for axis in (0, 1))
    bottom, right = (max(math.floor(place[axis]) for place in places) for axis in (0, 1))
    angles = rng.uniform(0, 2 * np.pi, size=(bottom - top + 2, right - left + 2))

    def fade(t):
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    values = []
    for y, x in places:
        total = 0.0
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                turn = angles[row - top, column - left]
                dot = math.sin(turn) * (y - row) + math.cos(turn) * (x - column)
                total += dot * fade(1 - abs(y - row)) * fade(1 - abs(x - column))
        values.append(math.sqrt(2) * total)
    return np.reshape(values, size)


@pytest.mark.parametrize(("cells", "angle"), [((1, 1), 0.0), ((2, 4), 0.0), ((3, 1), 0.7), ((4, 8), -1.5)])
def test_the_noise_is_perlins(cells, angle):
    fast = perlin_noise((12, 17), cells, np.random.default_rng(1), angle=angle)
    np.testing.assert_allclose(fast, slow_noise((12, 17), cells, np.random.default_rng(1), angle), atol=1e-12)


@given(seed=st.integers(0, 10_000), rows=st.integers(8, 80), columns=st.integers(8, 80))
def test_the_mask_is_somewhere_and_the_noise_within_its_bounds(seed, rows, columns):
    mask = perlin_mask((rows, columns), np.random.default_rng(seed))
    assert mask.shape == (rows, columns)
    assert mask.any()
    noise = perlin_noise((rows, columns), (4, 2), np.random.default_rng(seed), angle=0.3)
    assert np.abs(noise).max() <= 1


@given(seed=st.integers(0, 10_000))
def test_the_mask_has_the_pixels_that_changed_and_lies_within_the_noise(seed):
    made = Perlin()(IMAGE, np.random.default_rng(seed))
    np.testing.assert_array_equal(made.mask, (made.image != IMAGE).any(2))
    rng = np.random.default_rng(seed)
    noise, texture, opacity = perlin_mask(IMAGE.shape[:2], rng), permuted_patches(IMAGE, rng), rng.uniform(0.2, 1.0)
    blended = opacity * texture.astype(float) + (1 - opacity) * IMAGE
    assert np.abs(made.image[noise] - blended[noise]).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(made.image[~noise], IMAGE[~noise])


def test_a_seed_decides_everything():
    first, second, other = (Perlin()(IMAGE, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, second.image)
    assert (first.image != other.image).any()


def test_the_texture_comes_from_the_folder_at_an_opacity_within_its_range(tmp_path):
    save_image(tmp_path / "white.png", np.full((90, 70, 3), 255, np.uint8))
    make = Perlin(outliers=OutlierFolder(tmp_path))
    black = np.zeros((32, 32, 3), np.uint8)
    levels = []
    for seed in range(200):
        made = make(black, np.random.default_rng(seed))
        values = np.unique(made.image[made.mask])
        assert len(values) == 1  # one opacity an image
        levels.append(values[0] / 255)
    assert OPACITY[0] - 1e-2 <= min(levels) < 0.25
    assert 0.95 < max(levels) <= OPACITY[1]


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 1000))
def test_patches_keep_their_pixels(rows, columns, seed):
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    mixed = permuted_patches(image, np.random.default_rng(seed))
    assert mixed.shape == image.shape
    assert {tuple(pixel) for pixel in mixed.reshape(-1, 3)} <= {tuple(pixel) for pixel in image.reshape(-1, 3)}
    if rows % 8 == columns % 8 == 0:
        assert sorted(map(tuple, mixed.reshape(-1, 3))) == sorted(map(tuple, image.reshape(-1, 3)))


def test_other_than_rgb_is_refused():
    with pytest.raises(ValueError, match="expected an RGB image"):
        Perlin()(IMAGE[..., 0], np.random.default_rng(0))
