"""16-bit files hold 10, 12, 14 or 16 bits: one depth for a set of images, kept in the model, used ever after."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from blemish.errors import BlemishError
from blemish.images import ImageError, largest_value, load, read_image, read_picture
from blemish.imaging.bit_depth import check_bits, depth_of, to_8_bit
from blemish.imaging.reading import Reading

rng = np.random.default_rng(11)
GREY = rng.integers(0, 4096, (9, 7, 1)).astype(np.uint16)  # 12 bits
COLOUR = rng.integers(0, 4096, (9, 7, 3)).astype(np.uint16)


def png(values, *, colour_type, exif=b""):
    """A 16-bit PNG (H, W, C) written by hand: Pillow writes none of colours."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    # The filter "up" of every row but the first: lower bytes must be filtered by their own neighbours.
    raw = values.astype(">u2").view(np.uint8).reshape(height, -1)
    rows = b"".join(
        bytes([0 if y == 0 else 2]) + (raw[y] - (raw[y - 1] if y else 0)).astype(np.uint8).tobytes()
        for y in range(height)
    )
    content += chunk(b"eXIf", exif) if exif else b""
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def tiff(values, *, order="<", photometric, extra=None):
    """An uncompressed 16-bit TIFF (H, W, C) with one strip, written by hand."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    tags = [(256, [width]), (257, [height]), (258, [16] * channels), (259, [1]), (262, [photometric]), (273, [0])]
    tags += [(277, [channels]), (278, [height]), (279, [len(data)])] + ([(338, [extra])] if extra is not None else [])
    place = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    body = b""
    for tag, numbers in tags:
        if tag == 258 and channels > 2:
            body += struct.pack(f"{order}HHII", tag, 3, channels, place)
        elif tag in (273, 279):
            body += struct.pack(f"{order}HHII", tag, 4, 1, place + len(bits) if tag == 273 else numbers[0])
        else:
            body += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + struct.pack(
                f"{order}{len(numbers)}H", *numbers
            ).ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}IH", 8, len(tags)) + body + bytes(4) + bits + data


def with_channel(values, value):
    return np.dstack([values, np.full(values.shape[:2], value, np.uint16)])


FILES = {
    "grey png": (png(GREY, colour_type=0), GREY),
    "colour png": (png(COLOUR, colour_type=2), COLOUR),
    "grey png with alpha": (png(with_channel(GREY, 65535), colour_type=4), GREY),
    "grey png with 12-bit alpha": (png(with_channel(GREY, 4095), colour_type=4), GREY),
    "colour png with alpha": (png(with_channel(COLOUR, 65535), colour_type=6), COLOUR),
    "grey tiff": (tiff(GREY, photometric=1), GREY),
    "grey tiff, big-endian": (tiff(GREY, photometric=1, order=">"), GREY),
    "colour tiff": (tiff(COLOUR, photometric=2), COLOUR),
    "colour tiff, big-endian": (tiff(COLOUR, photometric=2, order=">"), COLOUR),
    "colour tiff with alpha": (tiff(with_channel(COLOUR, 65535), photometric=2, extra=2), COLOUR),
    "colour tiff with a channel more": (tiff(with_channel(COLOUR, 9), photometric=2, extra=0), COLOUR),
    "grey portable map": (b"P5 7 9 65535\n" + GREY.astype(">u2").tobytes(), GREY),
    "colour portable map": (b"P6 7 9 65535\n" + COLOUR.astype(">u2").tobytes(), COLOUR),
}


def write_compressed(path, values):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, values, photometric="rgb", compression="zlib", predictor=True)


def as_pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bits", [8, 10, 12, 13, 14, 16])
def test_every_kind_of_file_by_the_formula(tmp_path, name, bits):
    content, values = FILES[name]
    if "12-bit alpha" in name and bits > 12:
        pytest.skip("not opaque at this depth")
    (tmp_path / "wide").write_bytes(content)
    expected = np.broadcast_to(np.minimum(values // 2 ** (bits - 8), 255), (9, 7, 3))
    picture = read_picture(tmp_path / "wide", Reading(bits=bits))
    np.testing.assert_array_equal(as_pixels(picture.image.convert("RGB")), expected)
    assert bool(picture.remarks) == (bits < 12)
    assert largest_value(tmp_path / "wide") == values.max()


@pytest.mark.parametrize("name", ["grey png", "colour png", "colour tiff", "grey png with alpha"])
def test_an_opened_image_is_read_as_often_as_asked(tmp_path, name):
    content, values = FILES[name]
    with Image.open(io.BytesIO(content)) as image:
        for _ in range(2):
            pixels = as_pixels(read_image(image, Reading(bits=12)))
            np.testing.assert_array_equal(pixels, np.broadcast_to(values >> 4, (9, 7, 3)))


def test_a_compressed_tiff_in_colour(tmp_path):
    zlib_file = tmp_path / "wide.tif"
    write_compressed(zlib_file, COLOUR)
    np.testing.assert_array_equal(as_pixels(read_image(zlib_file, Reading(bits=12))), COLOUR >> 4)
    np.testing.assert_array_equal(as_pixels(read_image(zlib_file)), COLOUR >> 8)


def test_the_orientation_of_colours_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "wide.png").write_bytes(png(COLOUR, colour_type=2, exif=exif.tobytes()[6:]))
    for bits in (12, 16):
        got = as_pixels(read_image(tmp_path / "wide.png", Reading(bits=bits)))
        np.testing.assert_array_equal(got, np.rot90(COLOUR >> bits - 8, -1))


def test_a_map_that_names_its_largest_value_is_scaled_by_it(tmp_path):
    for head, values in ((b"P5", GREY), (b"P6", COLOUR)):
        (tmp_path / "map").write_bytes(head + b" 7 9 4095\n" + values.astype(">u2").tobytes())
        expected = np.rint(values * (65535 / 4095)).astype(int) >> 8
        np.testing.assert_array_equal(as_pixels(read_image(tmp_path / "map")), np.broadcast_to(expected, (9, 7, 3)))


@pytest.mark.parametrize(
    "values", [GREY[..., 0], GREY, COLOUR, with_channel(COLOUR, 65535)], ids=lambda v: str(v.shape)
)
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_arrays(values, order):
    array = values.astype(order)
    colours = values[..., :3] if values.ndim == 3 else values[..., None]
    for bits in (12, 16):
        got = as_pixels(read_image(array, Reading(bits=bits)))
        np.testing.assert_array_equal(got, np.broadcast_to(colours >> bits - 8, (9, 7, 3)))


@pytest.mark.parametrize("dtype", [np.uint16, ">u2", np.int32])
def test_pil_images_of_16_bits(dtype):
    image = Image.fromarray(GREY[..., 0].astype(dtype))
    np.testing.assert_array_equal(as_pixels(read_image(image, Reading(bits=12))), np.broadcast_to(GREY >> 4, (9, 7, 3)))


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)),
    bits=st.integers(8, 16),
)
def test_conversion_is_the_formula(values, bits):
    expected = [[min(int(value) >> (bits - 8), 255) for value in row] for row in values]
    assert to_8_bit(values, bits).tolist() == expected
    assert as_pixels(read_image(values, Reading(bits=bits)))[..., 0].tolist() == expected


def test_12_bits_in_16_bit_files_give_the_pixels_of_8_bit_files(tmp_path):
    values = rng.integers(0, 4096, (40, 52)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "wide.png")
    Image.fromarray((values >> 4).astype(np.uint8)).save(tmp_path / "narrow.png")
    wide = load(tmp_path / "wide.png", (32, 32), Reading(bits=12))
    narrow = load(tmp_path / "narrow.png", (32, 32))
    np.testing.assert_array_equal(wide[0], narrow[0])
    assert wide[1] == narrow[1] == (40, 52)


@pytest.mark.parametrize(
    ("largest", "bits"),
    [
        (0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16),
        (65535, 16),
    ],
)  # fmt: skip
def test_the_depth_by_the_largest_value(largest, bits):
    assert depth_of(largest) == bits


@pytest.mark.parametrize("bits", [7, 17, 0, -1, 12.0, "12", True, None])
def test_depths_that_are_none(bits):
    with pytest.raises(BlemishError, match="from 8 to 16"):
        check_bits(bits)


# ---- what does not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grey png", "colour png", "colour tiff with alpha", "grey portable map"])
def test_an_image_beyond_the_depth_is_remarked_on(tmp_path, name):
    content, values = FILES[name]
    path = tmp_path / "0831.png"
    path.write_bytes(content)
    (remark,) = read_picture(path, Reading(bits=10)).remarks
    assert remark == (
        f"{path}: its largest value is {values.max():,}, but 10 bits end at 1,023; larger values are read as white"
    )
    assert read_picture(path, Reading(bits=12)).remarks == ()


def test_an_opaque_alpha_does_not_count(tmp_path):
    (tmp_path / "wide.png").write_bytes(FILES["colour png with alpha"][0])
    assert largest_value(tmp_path / "wide.png") == COLOUR.max()
    assert read_picture(tmp_path / "wide.png", Reading(bits=12)).remarks == ()
    array = with_channel(COLOUR, 65535)
    assert read_picture(array, Reading(bits=12)).remarks == ()


def test_a_16_bit_image_for_a_model_of_8_bit_images_is_remarked_on():
    unseen = Reading(seen=False)
    (remark,) = read_picture(GREY, unseen, name="image 3").remarks
    assert remark.startswith("image 3: a 16-bit image with values up to 4,0")
    assert remark.endswith("--bits 12")
    assert read_picture(GREY * np.uint16(16), unseen).remarks == ()
    assert read_picture(GREY).remarks == ()


def test_8_bit_files_are_not_decoded_for_their_largest_value(tmp_path):
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:-20])
    assert largest_value(tmp_path / "whole.png") is None
    assert largest_value(tmp_path / "cut.png") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"P3 1 1 4095\n1 2 3\n", "only 8 can be read"),
        (tiff(with_channel(COLOUR, 65535), photometric=2, extra=1), "only 8 can be read"),
        (png(COLOUR, colour_type=2)[:200], "truncated"),
        (FILES["colour portable map"][0][:99], "truncated"),
    ],
    ids=["plain map", "premultiplied alpha", "cut png", "cut map"],
)
def test_what_cannot_be_read_at_its_depth_is_refused(tmp_path, content, says):
    (tmp_path / "wide").write_bytes(content)
    for read in (lambda path: read_image(path, Reading(bits=12)), largest_value):
        with pytest.raises(ImageError) as caught:
            read(tmp_path / "wide")
        assert str(caught.value).startswith(f"{tmp_path / 'wide'}: ")
        assert says in str(caught.value)
