"""The simple noises against their distributions (scipy) and against the morphology of unions of squares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import binary_opening

from blemish.experiments.noise import NOISES, blob, gaussian, mixed_blob, solid, squares, uniform
from blemish.synthetic.confetti import add_noise

SIZE = (240, 240)


def drawn(noise, count, seed, *, channels=3, size=SIZE):
    rng = np.random.default_rng(seed)
    return np.stack([noise(size, rng, channels) for _ in range(count)])  # (count, H, W, C)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_fixes_float32_offsets_of_the_images_shape(name, channels):
    field, again = (NOISES[name]((17, 40), np.random.default_rng(3), channels) for _ in range(2))
    assert (field.shape, field.dtype) == ((17, 40, channels), np.float32)
    np.testing.assert_array_equal(field, again)


@pytest.mark.parametrize(
    ("noise", "distribution"),
    [(gaussian, stats.norm(0, 64)), (uniform, stats.uniform(0, 255))],
    ids=["gaussian", "uniform"],
)
def test_white_noise_follows_its_distribution_in_every_channel_alone(noise, distribution):
    values = drawn(noise, 1, seed=1)[0]
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > 0.01
    for first, second in [
        (values[1:], values[:-1]),
        (values[:, 1:], values[:, :-1]),
        (values[..., :2], values[..., 1:]),
    ]:
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_solid_noise_is_one_colour_each_grey_level_as_likely():
    fields = drawn(solid, 4000, seed=2, size=(2, 3))
    colours = fields[:, 0, 0]  # (4000, 3)
    assert (fields == colours[:, None, None]).all()
    counts = np.bincount(colours.astype(int).ravel(), minlength=256)
    assert counts.size == 256
    assert stats.chisquare(counts).pvalue > 0.01
    assert np.abs(np.corrcoef(colours.T) - np.eye(3)).max() < 0.06


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    side=st.integers(1, 12),
    density=st.floats(1e-3, 0.05),
    seed=st.integers(0, 1000),
)
def test_what_is_covered_is_a_union_of_squares_cut_at_the_border(height, width, side, density, seed):
    covered = squares((height, width), np.random.default_rng(seed), density=density, side=side)
    assert covered.any()
    # Repeating the edge completes the squares that the border cuts; opening then keeps just what squares can fill.
    whole = np.pad(covered, side, mode="edge")
    np.testing.assert_array_equal(binary_opening(whole, np.ones((side, side))), whole)


def test_number_of_squares_is_binomial_without_zero():
    rng = np.random.default_rng(4)
    counts = np.array([squares(SIZE, rng, density=1e-5, side=1).sum() for _ in range(4000)])
    binomial = stats.binom(240 * 240, 1e-5)
    for count in (1, 2, 3):
        probability = binomial.pmf(count) / (1 - binomial.pmf(0))
        assert abs((counts == count).mean() - probability) < 4 * np.sqrt(probability / counts.size)
    assert counts.min() == 1


def test_squares_lie_anywhere():
    rng = np.random.default_rng(5)
    middles = np.array([np.argwhere(squares((8, 12), rng, density=1e-3, side=1))[0] for _ in range(4000)])
    counts = np.zeros((8, 12))
    np.add.at(counts, tuple(middles.T), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_a_square_reaches_from_two_pixels_before_its_middle_to_three_after():
    middle = np.argwhere(squares((30, 30), np.random.default_rng(6), density=1e-4, side=1))
    found = np.argwhere(squares((30, 30), np.random.default_rng(6), density=1e-4, side=6))
    assert len(middle) == 1
    np.testing.assert_array_equal(found.min(0), np.maximum(middle[0] - 2, 0))
    np.testing.assert_array_equal(found.max(0), np.minimum(middle[0] + 3, 29))


def test_blob_noise_is_white_and_covers_what_its_density_says():
    fields = drawn(blob, 40, seed=7)
    assert set(np.unique(fields)) == {0, 255}
    assert (fields == fields[..., :1]).all()
    inside = fields[:, 6:-6, 6:-6, 0] > 0  # away from the border 36 places of a middle cover a pixel
    shares = inside.mean((1, 2))
    assert abs(shares.mean() - (1 - (1 - 0.002) ** 36)) < 4 * shares.std() / np.sqrt(len(shares))


def test_mixed_blob_noise_is_a_random_layer_and_a_white_one():
    fields = drawn(mixed_blob, 150, seed=8)
    white, coloured = (fields >= 255).all(-1), (fields % 255 != 0).any(-1)  # 0 or 255 in all three are rare
    some = 1 - (1 - 1e-5) ** (240 * 240)
    expected = (1 - (1 - 1e-5) ** (34 * 34)) / some
    for layer in (white, coloured):
        assert layer.any((1, 2)).all()
        shares = layer[:, 34:-34, 34:-34].mean((1, 2))
        assert abs(shares.mean() - expected) < 4 * shares.std() / np.sqrt(len(shares))
    values = (fields - 255 * white[..., None])[coloured]  # (pixels, 3)
    assert stats.chisquare(np.bincount(values.astype(int).ravel(), minlength=256)).pvalue > 0.01
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.02
    assert (fields[~(white | coloured)] != 0).mean() < 1e-5


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("level", [0, 128, 255], ids=["black", "grey", "white"])
def test_every_noise_shows_on_every_brightness(name, level):
    image = np.full((64, 64, 1), level, np.uint8)
    noisy = add_noise(image, NOISES[name]((64, 64), np.random.default_rng(9), 1))
    assert np.abs(noisy.astype(int) - image).mean() > 1
