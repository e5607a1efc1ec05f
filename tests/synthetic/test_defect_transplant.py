"""Transplanted defects: what comes from the source, what stays the target's, and where they go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_cdt, distance_transform_edt
from sklearn.metrics import roc_auc_score

from blemish.synthetic import Synthetic
from blemish.synthetic.augment import Invariances
from blemish.synthetic.defect_transplant import transplant

MARGIN, FEATHER = 3, 1.5
ANY = Invariances(max_zoom=0.15, max_shift=0.05)

SIDE = 128
GROUND, DEFECT, UNDER = (100, 90, 80), (160, 60, 50), (120, 110, 100)
REACH = MARGIN + round(4 * FEATHER)  # pixels; the Gaussian of the seam ends four sigma from the cut


def turned_transplant(image: np.ndarray, mask: np.ndarray, target: np.ndarray, *, seed: int) -> Synthetic | None:
    rng = np.random.default_rng(seed)
    pose = ANY.draw(rng, mask.shape)
    return transplant(image, mask, target, rng, pose=pose, margin=MARGIN, ring=4, feather=FEATHER, places=30)


def flat(colour: tuple[int, int, int], *, noise: int = 0, seed: int = 0) -> np.ndarray:
    pixels = np.full((SIDE, SIDE, 3), colour, np.uint8)
    return pixels + np.random.default_rng(seed).integers(0, noise + 1, pixels.shape, np.uint8)


def square(top: int = 50, left: int = 40, height: int = 26, width: int = 30) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def with_defect(mask: np.ndarray, *, ground: tuple[int, int, int] = GROUND, noise: int = 0) -> np.ndarray:
    image = flat(ground, noise=noise, seed=1)
    image[mask] = DEFECT
    return image


def change(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.abs(image.astype(int) - target).sum(2)


MASKS = {
    "in the middle": square(),
    "at an edge": square(top=0),
    "in a corner": square(top=SIDE - 26, left=SIDE - 30),
    "thin": square(height=2, width=60),
    "one pixel": square(height=1, width=1),
    "two apart": square(top=20, height=10) | square(top=70, height=10),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_mask_is_where_the_image_changed_most_and_all_else_is_the_targets(mask: np.ndarray) -> None:
    image, target = with_defect(mask, noise=4), flat(UNDER, noise=4)
    made = 0
    for seed in range(10):
        result = turned_transplant(image, mask, target, seed=seed)
        if result is None:
            continue
        made += 1
        assert result.image.shape == target.shape
        assert result.image.dtype == np.uint8
        assert result.mask.any()
        assert roc_auc_score(result.mask.ravel(), change(result.image, target).ravel()) > 0.95
        untouched = distance_transform_cdt(~result.mask, "chessboard") > REACH
        np.testing.assert_array_equal(result.image[untouched], target[untouched])
    assert made >= 7  # at an edge, a few leave the image


def test_the_content_is_the_sources_with_the_targets_brightness() -> None:
    mask = square()
    for seed in range(10):
        result = turned_transplant(with_defect(mask), mask, flat(UNDER), seed=seed)
        deep = distance_transform_edt(result.mask) > 6
        assert deep.sum() > 100
        # The ground is 20 levels brighter in the target, so the defect is too; beyond the seam all is level.
        assert np.abs(result.image[deep].astype(int) - (np.array(DEFECT) + 20)).max() <= 1
        outside = distance_transform_edt(~result.mask) > 2
        assert np.abs(result.image[outside].astype(int) - UNDER).max() <= 2


def test_the_defect_keeps_its_shape() -> None:
    mask = square(height=20, width=44)
    for seed in range(10):
        found = turned_transplant(with_defect(mask), mask, flat(UNDER), seed=seed).mask
        long, short = np.sqrt(12 * np.linalg.eigvalsh(np.cov(np.nonzero(found))))[::-1]  # sides of a filled rectangle
        assert long / short == pytest.approx(44 / 20, rel=0.05)
        assert found.sum() == pytest.approx(mask.sum(), rel=0.4)  # nearer or farther by 15 %


def test_it_goes_where_the_surroundings_are_alike() -> None:
    mask, target = square(height=12, width=12), flat((200, 200, 200))
    target[:, : SIDE // 2] = GROUND
    for seed in range(20):
        result = turned_transplant(with_defect(mask), mask, target, seed=seed)
        assert not result.mask[:, SIDE // 2 :].any()


def test_it_goes_to_many_places() -> None:
    mask = square(height=12, width=12)
    masks = [
        turned_transplant(with_defect(mask, noise=9), mask, flat(GROUND, noise=9), seed=seed).mask for seed in range(20)
    ]
    middles = np.array([np.argwhere(one).mean(0) for one in masks])
    assert (middles.std(0) > SIDE / 8).all()


@pytest.mark.parametrize(
    "mask", [np.ones((SIDE, SIDE), dtype=bool), np.zeros((SIDE, SIDE), dtype=bool)], ids=["whole image", "empty"]
)
def test_a_mask_of_everything_or_nothing_gives_none(mask: np.ndarray) -> None:
    assert turned_transplant(with_defect(mask), mask, flat(UNDER), seed=0) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32))
def test_any_mask_of_any_size_is_used_or_declined(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, target = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < share
    before = image.copy(), mask.copy(), target.copy()
    result = turned_transplant(image, mask, target, seed=seed)
    again = turned_transplant(image, mask, target, seed=seed)
    for was, now in zip(before, (image, mask, target), strict=True):
        np.testing.assert_array_equal(was, now)
    assert (result is None) == (again is None)
    if result is not None:
        assert result.image.shape == image.shape
        assert result.mask.any()
        np.testing.assert_array_equal(result.image, again.image)
        np.testing.assert_array_equal(result.mask, again.mask)


def test_grey_stays_grey() -> None:
    mask = square()
    image, target = (np.repeat(one[..., :1], 3, axis=2) for one in (with_defect(mask, noise=9), flat(UNDER, noise=9)))
    result = turned_transplant(image, mask, target, seed=0).image
    assert (result == result[..., :1]).all()


@pytest.mark.parametrize(
    ("image", "mask", "target"),
    [
        (flat(GROUND), square()[:-1], flat(UNDER)),
        (flat(GROUND), square(), flat(UNDER)[:, :-1]),
        (flat(GROUND)[1:], square(), flat(UNDER)),
        (flat(GROUND)[..., 0], square(), flat(UNDER)),
        (flat(GROUND).astype(np.float32), square(), flat(UNDER)),
    ],
    ids=["mask", "target", "image", "one channel", "float"],
)
def test_shapes_that_disagree(image: np.ndarray, mask: np.ndarray, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must have one size|expected an RGB image"):
        turned_transplant(image, mask, target, seed=0)
