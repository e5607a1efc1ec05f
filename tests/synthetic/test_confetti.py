import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from blemish.synthetic import confetti as module
from blemish.synthetic.confetti import Blob, add_noise, confetti, confetti_noise, draw_blobs, rasterise

GREY = np.full((240, 240, 3), 128, np.uint8)


def literal_raster(blobs: list[Blob], size: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel: is its middle on the inner side of all four edges between the turned corners?"""
    canvas = np.zeros((*size, 3), np.float32)
    for blob, row, col in itertools.product(blobs, range(size[0]), range(size[1])):
        turn = np.exp(1j * np.deg2rad(blob.angle))
        centre, half = complex(blob.col, blob.row), turn * blob.side / 2
        corners = [centre + half * corner for corner in (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j)]
        point = complex(col + 0.5, row + 0.5)
        sides = [
            ((end - start).conjugate() * (point - start)).imag  # cross product
            for start, end in itertools.pairwise([*corners, corners[0]])
        ]
        if all(side >= 0 for side in sides):
            canvas[row, col] = blob.offset
    return canvas


blob_strategy = st.builds(
    Blob,
    row=st.floats(0, 17).map(lambda x: x + 1e-3 * np.pi),  # off the lattice: no pixel's middle lies on an edge
    col=st.floats(0, 23).map(lambda x: x + 1e-3 * np.e),
    side=st.integers(2, 30).map(float),
    angle=st.floats(-45, 45).map(lambda x: 0.999 * x + 1e-2),
    offset=st.tuples(*[st.integers(-256, -1).map(float)] * 3),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(blob_strategy, min_size=1, max_size=3))
def test_blobs_cover_the_pixels_whose_middle_lies_in_the_turned_square(blobs):
    np.testing.assert_array_equal(rasterise(blobs, (17, 23)), literal_raster(blobs, (17, 23)))


def test_noise_is_the_sum_of_both_layers_under_a_25_by_25_gaussian_of_sigma_5(monkeypatch):
    coloured = Blob(row=30.3, col=5.1, side=20, angle=30, offset=(-10, -100, -200))
    black = Blob(row=40.2, col=15.7, side=31, angle=-12, offset=(-255, -255, -255))
    layer = {True: [coloured], False: [black]}
    monkeypatch.setattr(module, "draw_blobs", lambda *args, **options: layer[options["coloured"]])
    tap = np.exp(-(np.arange(-12, 13) ** 2) / 50)
    kernel = np.outer(tap, tap) / tap.sum() ** 2
    layers = rasterise([coloured], (240, 240)) + rasterise([black], (240, 240))
    expected = np.stack(
        [convolve2d(np.pad(layers[..., c], 12, mode="reflect"), kernel, mode="valid") for c in range(3)],
        axis=-1,
    )
    np.testing.assert_allclose(confetti_noise((240, 240), np.random.default_rng(0)), expected, atol=1e-3)


@pytest.mark.parametrize(("density", "mean"), [(1.8e-5, 1.0368), (1.2e-5, 0.6912)], ids=["coloured", "black"])
@pytest.mark.parametrize("size", [(240, 240), (480, 480)], ids=str)
def test_number_of_blobs_is_poisson_but_never_zero(density, mean, size):
    rng = np.random.default_rng(1)
    counts = np.array([len(draw_blobs(size, rng, density=density, coloured=False)) for _ in range(4000)])
    # A Poisson number drawn again while it is 0: every other probability grows by the same factor.
    for count in (1, 2):
        probability = np.exp(-mean) * mean**count / count / (1 - np.exp(-mean))
        deviation = np.sqrt(probability * (1 - probability) / counts.size)
        assert abs((counts == count).mean() - probability) < 4 * deviation
    assert counts.min() == 1


def test_blobs_have_the_papers_sizes_turns_and_colours():
    rng = np.random.default_rng(2)
    draws = [draw_blobs((240, 240), rng, density=1.8e-5, coloured=True) for _ in range(3000)]
    blobs = list(itertools.chain.from_iterable(draws))
    sides, angles, offsets = (np.array([getattr(b, name) for b in blobs]) for name in ("side", "angle", "offset"))
    assert set(sides) == set(range(8, 55))
    assert abs(sides.mean() - 31) < 1
    assert angles.min() < -44
    assert angles.max() > 44
    assert np.abs(angles).max() <= 45
    assert (offsets.min(), offsets.max()) == (-256, -1)
    assert len({b.offset for b in draws[0]}) == len(draws[0])


def test_sizes_scale_with_the_short_side():
    small, large = (
        draw_blobs((240 * k, 360 * k), np.random.default_rng(3), density=1e-4, coloured=True) for k in (1, 3)
    )
    assert [3 * b.side for b in small] == pytest.approx([b.side for b in large])
    assert [3 * b.row for b in small] == pytest.approx([b.row for b in large])


def test_an_eighth_of_the_pixels_changes_on_average():
    # The authors' code changes 12.4 % on average of 100 draws, 2.9 to 28.9 %.
    rng = np.random.default_rng(4)
    shares = np.array([confetti(GREY, rng).mask.mean() for _ in range(200)])
    assert 0.10 < shares.mean() < 0.14
    assert shares.min() > 0.005
    assert 0.2 < shares.max() < 0.5


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        np.zeros((240, 240, 3), np.uint8),
        np.full((100, 160, 3), 255, np.uint8),
        np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8),
    ],
    ids=["grey", "black", "white wide", "random"],
)
@pytest.mark.parametrize("seed", range(4))
def test_mask_is_what_changed_and_a_seed_fixes_it(image, seed):
    before = image.copy()
    result, again = (confetti(image, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(result.image, again.image)
    np.testing.assert_array_equal(result.mask, np.abs(result.image.astype(int) - image).max(axis=2) > 0)
    assert result.image.dtype == np.uint8
    assert result.mask.any()


def test_confetti_darkens_but_brightens_a_black_image():
    rng = np.random.default_rng(6)
    assert (confetti(GREY, rng).image <= GREY).all()
    assert confetti(np.zeros_like(GREY), rng).image.max() > 60


@pytest.mark.parametrize(("value", "inverted"), [(7, True), (8, False)], ids=["0.0233 levels", "0.0267 levels"])
def test_noise_is_inverted_below_a_mean_change_of_a_fortieth_of_a_level(value, inverted):
    image = np.zeros((10, 10, 3), np.uint8)
    image[3, 4, 1] = value  # the only channel that can get darker: the mean over 300 values is value / 300
    expected = image + 50 if inverted else np.zeros_like(image)
    np.testing.assert_array_equal(add_noise(image, np.full(image.shape, -50, np.float32)), expected)


def test_noise_is_not_inverted_where_that_would_show_even_less():
    image = np.full((10, 10, 3), 255, np.uint8)
    np.testing.assert_array_equal(add_noise(image, np.full(image.shape, -0.01, np.float32)), image)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
    ids=["no channels", "alpha", "float"],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="expected an RGB image"):
        confetti(image, np.random.default_rng(0))
