"""Images, masks and anomaly maps at another size, compared with loops over their pixels."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from blemish.imaging.resizing import resize_mask, to_network_size, upscale

sides = st.integers(1, 12)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape))
sizes = st.tuples(sides, sides)


def bilinear_weights(source: int, target: int) -> np.ndarray:
    """The triangle filter written out: weights (target, source), wider where it shrinks."""
    ratio = source / target
    reach = max(ratio, 1.0)
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * ratio
        for j in range(source):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


@given(st.tuples(*[st.integers(1, 12)] * 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_upscale_is_bilinear_and_antialiased(sides, seed):
    height, width, new_height, new_width = sides
    anomaly_map = np.random.default_rng(seed).random((height, width), dtype=np.float32) * 50
    rows, columns = bilinear_weights(height, new_height), bilinear_weights(width, new_width)
    result = upscale(anomaly_map, (new_height, new_width))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, rows @ anomaly_map @ columns.T, atol=1e-4)


@given(masks, sizes)
def test_any_loses_no_marked_pixel_and_marks_none_far_from_one(mask, size):
    height, width = mask.shape
    expected = np.zeros(size, bool)
    for row, column in np.argwhere(mask):
        expected[int(Fraction(row, height) * size[0]), int(Fraction(column, width) * size[1])] = True
    for row, column in np.ndindex(size):
        if height < size[0] or width < size[1]:
            expected[row, column] |= mask[row * height // size[0], column * width // size[1]]
    np.testing.assert_array_equal(resize_mask(mask, size, rule="any"), expected)


@given(masks, sizes)
def test_corner_takes_the_value_at_the_upper_left_corner(mask, size):
    result = resize_mask(mask, size, rule="corner")
    for row, column in np.ndindex(size):
        source = int(Fraction(row, size[0]) * mask.shape[0]), int(Fraction(column, size[1]) * mask.shape[1])
        assert result[row, column] == mask[source]


@given(masks, st.integers(1, 4))
def test_nearest_takes_the_value_at_the_centre(mask, factor):
    odd = 2 * factor - 1  # of an even number of pixels none lies in the middle
    large = np.repeat(np.repeat(mask, odd, 0), odd, 1)
    np.testing.assert_array_equal(resize_mask(mask, large.shape, rule="nearest"), large)
    np.testing.assert_array_equal(resize_mask(large, mask.shape, rule="nearest"), mask)


@given(masks, sizes, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_touched_is_what_resizing_an_image_makes_of_marked_pixels(mask, size, seed):
    first, second = np.random.default_rng(seed).integers(0, 256, (2, *mask.shape, 3), np.uint8)
    second = np.where(mask[..., None], second, first)
    touched = resize_mask(mask, size, rule="touched")
    same = [to_network_size(Image.fromarray(pixels), size)[~touched] for pixels in (first, second)]
    np.testing.assert_array_equal(*same)
    assert touched.any() == mask.any()


@given(masks, sizes)
def test_half_is_marked_where_at_least_half_is(mask, size):
    rows, columns = (bilinear_weights(old, new) for old, new in zip(mask.shape, size, strict=True))
    share = rows @ mask @ columns.T
    clear = abs(share - 0.5) > 1e-4
    if size != mask.shape:
        np.testing.assert_array_equal(resize_mask(mask, size, rule="half")[clear], share[clear] > 0.5)


@given(masks)
def test_at_its_own_size_a_mask_stays_as_it_is(mask):
    for rule in ("any", "half", "touched", "nearest", "corner"):
        np.testing.assert_array_equal(resize_mask(mask, mask.shape, rule=rule), mask)
