"""Training images at network size, and their masks."""

import numpy as np
import pytest

from blemish.datasets.layouts import Sample
from blemish.datasets.pixels import read_pixels
from blemish.imaging.images import load
from blemish.imaging.resizing import resize_mask
from helpers.images import noise, save_image

OWN, SIZE = (50, 70), (32, 64)


def read(samples, **options):
    sentences = []
    options = {"progress": lambda done, total: None, "notify": sentences.append} | options
    return read_pixels(samples, SIZE, **options), sentences


@pytest.fixture
def scratched(tmp_path):
    """A sample with a scratch of one pixel's width, and its mask."""
    mask = np.zeros(OWN, np.uint8)
    mask[7, 5:60] = 255
    image = save_image(tmp_path / "a.png", noise(0, size=OWN))
    return Sample(image, "scratch", save_image(tmp_path / "a_mask.png", mask)), mask > 0


def test_images_are_those_that_every_command_reads(scratched):
    sample, _ = scratched
    pixels, sentences = read([sample])
    np.testing.assert_array_equal(pixels.images[0], load(sample.path, SIZE)[0])
    assert (pixels.sizes, sentences) == ((OWN,), [])


def test_the_mask_needs_no_look_at_the_image(scratched):
    sample, mask = scratched
    pixels, _ = read([sample])
    sample.path.unlink()  # its size is known from when it was read
    np.testing.assert_array_equal(pixels.mask(0), resize_mask(mask, SIZE, rule="any"))
    assert pixels.mask(0).any()


def test_ignored_pixels_are_no_part_of_the_mask(scratched, tmp_path):
    from blemish.imaging.ignore_mask import IgnoreMask

    sample, mask = scratched
    ignored = np.zeros(OWN, np.uint8)
    ignored[:, :35] = 255
    half, _ = read([sample], ignore=IgnoreMask(save_image(tmp_path / "ignored.png", ignored)))
    assert not half.mask(0)[:, :30].any()
    assert half.mask(0)[:, 36:].any()
    assert not half.fully_ignored(0)
    covered, _ = read([sample], ignore=IgnoreMask(save_image(tmp_path / "covered.png", mask.astype(np.uint8) * 255)))
    assert covered.fully_ignored(0)
    assert not covered.valid_mask(0)[resize_mask(mask, SIZE, rule="any")].any()


def test_an_image_that_cannot_be_read_is_left_out_and_said(scratched, tmp_path):
    sample, _ = scratched
    (tmp_path / "broken.png").write_bytes(b"no image")
    pixels, sentences = read([Sample(tmp_path / "broken.png"), sample])
    assert pixels.samples == (sample,)
    assert len(sentences) == 1
    assert sentences[0].startswith("left out: ")
