"""PBM, PGM and PPM in text: Pillow's pixels, whatever the blocks in which the file is read."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.imaging import plain_maps
from blemish.imaging.decoding import open_image
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_image

VALUES = np.random.default_rng(3).integers(0, 256, (7, 9, 3))


def text(values, between=b" "):
    return between.join(b"%d" % value for value in values.ravel())


MAPS = {
    "colour": b"P3\n9 7\n255\n" + text(VALUES),
    "colour with comments": b"P3 9 7 255\n#first #\n" + text(VALUES, b" # 1 2\r") + b"\n",
    "grey": b"P2 9 7 255\n" + text(VALUES[..., 0]) + b"\r\n#end",
    "grey up to 100": b"P2 9 7 100\n" + text(VALUES[..., 0] % 101, b"\n"),
    "grey of 10 bits": b"P2 9 7 1023\n" + text(VALUES[..., 0] * 4),
    "more values than pixels": b"P2 9 7 255\n" + text(VALUES),
    "a comment within a number": b"P2 9 7 255\n1#\n2 " + text(VALUES[..., 0]),
    "bits": b"P1 9 7\n" + text(VALUES[..., 0] % 2, b""),
    "bits with comments": b"P1 9 7\n" + text(VALUES[..., 0] % 2, b"#0\n"),
}


@pytest.mark.parametrize("block", [5, 64, 1 << 22])
@pytest.mark.parametrize("content", MAPS.values(), ids=MAPS)
def test_the_pixels_are_those_of_pillow(monkeypatch, content, block):
    monkeypatch.setattr(plain_maps, "_BLOCK", block)
    with Image.open(io.BytesIO(content)) as expected:
        got = np.asarray(open_image(io.BytesIO(content)).image)
        np.testing.assert_array_equal(got, np.asarray(expected))


FAULTS = {
    "a value too large": b"P2 2 1 255\n1 256",
    "a value that overflows": b"P2 2 1 255\n1 99999999999999999999999 ",
    "a long number": b"P2 2 1 255\n1" + b"9" * 99,
    "a word": b"P2 2 1 255\n1 x",
    "a negative value": b"P2 2 1 255\n1 -1",
    "no bit": b"P1 2 1\n1!",
    "too few": b"P2 2 1 255\n1 ",
    "none": b"P3 2 1 255\n",
}


@pytest.mark.parametrize("content", FAULTS.values(), ids=FAULTS)
def test_a_damaged_map_is_refused(tmp_path, content):
    (tmp_path / "a.pnm").write_bytes(content)
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.pnm")


def test_a_map_of_comments_is_refused(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P2 64 64 255\n" + b"#\n" * 100_001)
    with pytest.raises(ImageError, match="more than 100,000 comments in a PGM or PPM file"):
        read_image(tmp_path / "a.pgm")
