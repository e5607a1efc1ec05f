"""Turned and relit copies against SciPy's affine transform, and their promised bounds."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from blemish.synthetic.augment import Invariances, Pose, jitter_brightness_contrast

MAX_ZOOM, MAX_SHIFT, CONTRAST, BRIGHTNESS = 0.15, 0.05, (0.75, 1.3), 25.0
ANY = Invariances(max_zoom=MAX_ZOOM, max_shift=MAX_SHIFT)
relit = partial(jitter_brightness_contrast, contrast=CONTRAST, brightness=BRIGHTNESS)

seeds = st.integers(0, 2**32)
sides = st.integers(1, 60)


def texture(height: int, width: int, *, seed: int = 0, grey: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 1 if grey else 3), dtype=np.uint8)
    return np.broadcast_to(values, (height, width, 3)).copy()


def random_pose(seed: int, size: tuple[int, int]) -> Pose:
    return ANY.draw(np.random.default_rng(seed), size)


# Poses


@settings(max_examples=30, deadline=None)
@given(sides, sides, seeds)
def test_turning_is_the_affine_transform_about_the_middle(height: int, width: int, seed: int) -> None:
    image, pose = texture(height, width, seed=seed), random_pose(seed, (height, width))
    middle = (np.array([height, width]) - 1) / 2
    offset = middle + pose.shift - pose.matrix @ middle
    exact = [
        affine_transform(image[..., channel].astype(float), pose.matrix, offset, order=1, mode="reflect")
        for channel in range(3)
    ]
    assert np.abs(pose.apply(image) - np.stack(exact, axis=-1)).max() <= 0.5 + 1e-6  # rounded, not cut off


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), seeds)
def test_the_mask_goes_where_the_image_goes(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    pose = random_pose(seed, mask.shape)
    shown = pose.apply(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)[..., 0]
    turned = pose.apply_to_mask(mask)
    assert turned.dtype == bool
    # Of the four pixels that are mixed, the nearest has at least a quarter of the weight.
    assert turned[shown > 0.75 * 255 + 1].all()
    assert not turned[shown < 0.25 * 255 - 1].any()


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_random_poses_keep_their_bounds(seed: int) -> None:
    size = (200, 100)
    pose = random_pose(seed, size)
    zooms = np.linalg.svd(pose.matrix, compute_uv=False)  # a turned or mirrored circle stays a circle
    assert zooms[0] == pytest.approx(zooms[1])
    assert abs(np.log(zooms[0])) <= MAX_ZOOM + 1e-9
    assert (np.abs(pose.shift) <= MAX_SHIFT * np.array(size)).all()


def test_half_of_the_random_poses_are_mirrored_and_all_directions_occur() -> None:
    rng = np.random.default_rng(0)
    matrices = np.stack([ANY.draw(rng, (9, 9)).matrix for _ in range(400)])
    assert 150 < (np.linalg.det(matrices) < 0).sum() < 250
    quadrants = np.sign(matrices[:, 0, 0]) + 2 * np.sign(matrices[:, 1, 0])
    assert min(np.unique(quadrants, return_counts=True)[1]) > 60


@settings(max_examples=30, deadline=None)
@given(sides, sides, seeds)
def test_grey_stays_grey_and_is_what_the_channels_would_be(height: int, width: int, seed: int) -> None:
    image, pose = texture(height, width, seed=seed, grey=True), random_pose(seed, (height, width))
    turned = pose.apply(image)
    assert (turned == turned[..., :1]).all()
    # A hint of colour in one pixel takes the other way through; all else must come out alike.
    image[0, 0, 2] ^= 1
    assert np.abs(pose.apply(image).astype(int) - turned).max() <= 1


def test_nothing_is_left_black_beyond_the_edge() -> None:
    image = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    for seed in range(20):
        np.testing.assert_array_equal(random_pose(seed, (40, 60)).apply(image), image)


# Light


@settings(max_examples=50, deadline=None)
@given(sides, sides, seeds, st.booleans())
def test_relit_pixels_are_one_line_of_the_original_within_bounds(
    height: int, width: int, seed: int, grey: bool
) -> None:
    image = texture(height, width, seed=seed, grey=grey)
    result = relit(image, np.random.default_rng(seed))
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    away = image.astype(float) - image.mean()
    steep, flat = np.maximum(away * CONTRAST[0], away * CONTRAST[1]), np.minimum(away * CONTRAST[0], away * CONTRAST[1])
    assert (result <= (image.mean() + steep + BRIGHTNESS).clip(0, 255) + 0.5).all()
    assert (result >= (image.mean() + flat - BRIGHTNESS).clip(0, 255) - 0.5).all()
    # One line for every pixel and channel: equal levels stay equal, darker ones never become brighter.
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    for level in np.unique(image):
        assert len(np.unique(result[image == level])) == 1


def test_relit_reaches_most_of_its_range() -> None:
    image = np.tile(np.array([118, 138], np.uint8)[None, :, None], (10, 20, 3))  # far from 0 and 255
    results = [relit(image, np.random.default_rng(seed)).astype(float) for seed in range(200)]
    contrasts = [(one.max() - one.min()) / 20 for one in results]
    brightness = [one.mean() - 128 for one in results]
    assert min(contrasts) == pytest.approx(CONTRAST[0], abs=0.1)
    assert max(contrasts) == pytest.approx(CONTRAST[1], abs=0.1)
    assert min(brightness) == pytest.approx(-BRIGHTNESS, abs=2)
    assert max(brightness) == pytest.approx(BRIGHTNESS, abs=2)
