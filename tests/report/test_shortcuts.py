"""Shortcuts taken for speed change no pixel."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.imaging.heatmaps import encode_png
from blemish.imaging.images import load, read_image

sides = st.integers(1, 40)


@given(sides, sides, st.integers(0, 99), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_png_holds_the_pixels_it_was_given(height, width, seed, smooth):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if smooth:
        pixels = np.sort(pixels, axis=0)
    with Image.open(io.BytesIO(encode_png(Image.fromarray(pixels)))) as image:
        image.verify()  # the checksum of every chunk
    with Image.open(io.BytesIO(encode_png(Image.fromarray(pixels)))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), pixels)


@given(sides, sides, st.tuples(sides, sides), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_grey_image_is_resized_as_one_of_three_equal_channels(height, width, size, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    pixels, own_size = load(grey, size)
    three = Image.fromarray(np.stack([grey] * 3, axis=2)).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, np.asarray(three))
    assert own_size == (height, width)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_network_pixels_are_the_read_image_resized_whatever_the_mode(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
    image = image if mode in ("RGB", "I;16") else image.convert(mode)
    upright = read_image(image)
    assert upright.mode == "RGB"
    expected = np.asarray(upright.resize((16, 24), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(load(image, (24, 16))[0], expected)
