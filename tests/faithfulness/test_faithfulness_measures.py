"""Measures of heatmaps against their definitions."""

from itertools import pairwise

import numpy as np
import pytest

from blemish.faithfulness.inpainting import inpaint, inpaint_from_surroundings
from blemish.faithfulness.measures import (
    deletion_auc,
    insertion_auc,
    mass_inside,
    pointing_game,
    shift,
    shift_correlation,
)
from helpers.images import SIDE, noise


def square() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:36, 30:46] = True
    return mask


def test_deletion_and_insertion_are_areas_under_the_curve_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    pixels, fill = noise(0), np.full((SIDE, SIDE, 3), 100, np.uint8)
    heatmap = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.float32)  # no two alike

    def score(images: np.ndarray) -> np.ndarray:
        return (images.astype(float) ** 2).mean((1, 2, 3)).astype(np.float32)

    order = np.argsort(-heatmap.ravel())
    removed, inserted = [], []
    for step in range(21):
        marked = np.zeros(SIDE * SIDE, bool)
        marked[order[: round(step / 2000 * SIDE * SIDE)]] = True
        marked = marked.reshape(SIDE, SIDE)
        removed.append(score(inpaint(pixels, fill, marked)[None])[0] / score(pixels[None])[0])
        inserted.append(score(inpaint(fill, pixels, marked)[None])[0] / score(pixels[None])[0])
    for found, curve in (
        (deletion_auc(score, pixels, lambda image, marked: inpaint(image, fill, marked), heatmap), removed),
        (insertion_auc(score, pixels, fill, heatmap), inserted),
    ):
        assert found == pytest.approx(sum((a + b) / 2 for a, b in pairwise(curve)) / 20, rel=1e-5)


def test_a_map_that_marks_what_the_score_depends_on_is_the_more_faithful() -> None:
    """The score is the darkness of a square: marking it empties the score soonest, marking anything else does not."""
    mask, fill = square(), np.full((SIDE, SIDE, 3), 200, np.uint8)
    pixels = np.where(mask[..., None], 0, fill).astype(np.uint8)

    def score(images: np.ndarray) -> np.ndarray:
        return 1 + (200 - images.astype(np.float32)).sum((1, 2, 3))

    right, wrong = mask.astype(np.float32), np.roll(mask, 25, axis=0).astype(np.float32)
    for remove in (lambda image, marked: inpaint(image, fill, marked), inpaint_from_surroundings):
        assert deletion_auc(score, pixels, remove, right) < deletion_auc(score, pixels, remove, wrong) - 0.01
    assert insertion_auc(score, pixels, fill, right) > insertion_auc(score, pixels, fill, wrong) + 0.01


@pytest.mark.parametrize(
    ("peak", "expected"), [([(25, 35)], 1.0), ([(0, 0)], 0.0), ([(25, 35), (0, 0), (1, 1), (2, 2)], 0.25)]
)
def test_the_pointing_game_asks_where_the_highest_pixels_lie(peak: list, expected: float) -> None:
    heatmap = np.zeros((SIDE, SIDE), np.float32)
    for place in peak:
        heatmap[place] = 5
    assert pointing_game(heatmap, square()) == expected


def test_mass_inside_counts_what_is_above_the_level() -> None:
    heatmap = np.full((SIDE, SIDE), 1.0, np.float32)
    heatmap[square()] = 3.0
    heatmap[0, :64] = 5.0
    assert mass_inside(heatmap, square(), level=1.0) == pytest.approx(256 * 2 / (256 * 2 + 64 * 4))
    assert mass_inside(heatmap, square(), level=3.0) == 0.0
    assert mass_inside(heatmap, square(), level=9.0) == 0.0


def test_a_map_that_moves_along_has_shift_correlation_one_and_one_that_stays_does_not() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    along = lambda image: image[..., 0].astype(np.float32)  # noqa: E731
    assert shift_correlation(along, pixels, along(pixels)) == pytest.approx(1)
    still = along(pixels)
    assert abs(shift_correlation(lambda image: still, pixels, still)) < 0.1
    flat = np.zeros_like(still)
    assert shift_correlation(lambda image: flat, pixels, flat) == 0
    np.testing.assert_array_equal(shift(pixels, (2, -3))[2:, :-3], pixels[:-2, 3:])
