import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.formats import IMAGE_SUFFIXES, is_image_name
from blemish.imaging.images import load, read_image
from blemish.imaging.masks import read_mask
from blemish.imaging.resizing import to_network_size
from blemish.io.text import printable

as_user = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)  # (H, W, 3)
GREY = NOISE[:, :, 0]
WIDE = RNG.integers(0, 65536, (48, 64)).astype(np.uint16)  # (H, W)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def grey_as_rgb(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, *, depth, colour_type, rows):
    """A PNG written by hand from its specification; `rows` holds the filtered scan lines."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


# ---- what can be read ---------------------------------------------------------------------------------


LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".avif", ".avifs"}


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - LOSSY))
def test_lossless_formats_give_the_pixels_that_were_saved(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    expected = {".pgm": grey_as_rgb(GREY), ".pbm": grey_as_rgb((GREY > 127) * np.uint8(255))}.get(suffix, NOISE)
    image = Image.fromarray(expected if suffix not in (".pgm", ".pbm") else expected[:, :, 0])
    image.convert("1" if suffix == ".pbm" else image.mode).save(path)
    np.testing.assert_array_equal(pixels(read_image(path)), expected)
    np.testing.assert_array_equal(pixels(read_image(str(path))), expected)


@pytest.mark.parametrize("suffix", sorted(LOSSY & IMAGE_SUFFIXES))
def test_lossy_formats_give_nearly_the_colour_that_was_saved(tmp_path, suffix):
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / f"image{suffix}")
    got = pixels(read_image(tmp_path / f"image{suffix}")).astype(int)
    assert got.shape == (30, 40, 3)
    assert np.abs(got - (200, 100, 50)).max() <= 4


def test_a_wrong_suffix_does_not_matter(tmp_path):
    (tmp_path / "image.jpg").write_bytes(encoded(Image.fromarray(NOISE), "PNG"))
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "image.jpg")), NOISE)


def wide_png():
    rows = b"".join(b"\0" + row.tobytes() for row in WIDE.astype(">u2"))
    return png(64, 48, depth=16, colour_type=0, rows=rows)


@pytest.mark.parametrize(
    "content",
    [
        wide_png(),
        encoded(Image.fromarray(WIDE), "TIFF"),
        encoded(Image.fromarray(WIDE.astype(">u2")), "TIFF"),
        encoded(Image.fromarray(WIDE.astype(np.int32)), "TIFF"),
        b"P5 64 48 65535\n" + WIDE.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff little-endian", "tiff big-endian", "tiff 32-bit integers", "pgm"],
)
def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path, content):
    (tmp_path / "wide").write_bytes(content)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "wide")), grey_as_rgb(WIDE // 256))


@pytest.mark.parametrize("most", [1, 15, 100, 254, 255, 1000, 4095, 65_535])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_portable_maps_are_scaled_to_their_largest_value(tmp_path, rng, kind, most):
    values = rng.integers(0, most + 1, (6, 5, 3 if kind == b"P6" else 1))
    stored = values.astype(">u2" if most > 255 else np.uint8).tobytes()
    (tmp_path / "map").write_bytes(kind + b"\n5 6\n%d\n" % most + stored)
    full = 65_535 if most > 255 else 255
    exact = np.round(values / most * full).astype(int) // (256 if most > 255 else 1)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "map")), np.broadcast_to(exact, (6, 5, 3)))
    (tmp_path / "map").write_bytes((tmp_path / "map").read_bytes()[:-1])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "map")


def test_sixteen_bit_colour_keeps_its_upper_byte(tmp_path, rng):
    colour = rng.integers(0, 65536, (5, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colour)
    (tmp_path / "wide.png").write_bytes(png(4, 5, depth=16, colour_type=2, rows=rows))
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "wide.png")), colour // 256)


def test_a_dark_sixteen_bit_image_stays_dark():
    dark = Image.fromarray(np.full((4, 4), 2047, dtype=np.uint16))
    assert pixels(read_image(dark)).max() == 7


@pytest.mark.parametrize(
    "source",
    [
        GREY,
        GREY[:, :, None],
        NOISE,
        np.dstack([NOISE, np.full_like(GREY, 255)]),
        NOISE[::-1, ::-1],
        np.asfortranarray(NOISE),
    ],
    ids=["H W", "H W 1", "H W 3", "H W 4", "negative strides", "column order"],
)
def test_arrays(source):
    expected = grey_as_rgb(GREY) if source.ndim == 2 or source.shape[2] == 1 else source[:, :, :3]
    np.testing.assert_array_equal(pixels(read_image(source)), expected)


def with_alpha(mode, alpha):
    """An image of a mode with transparency, and the colour image below it as float."""
    grey = Image.fromarray(GREY)
    if mode == "RGBA":
        return Image.fromarray(np.dstack([NOISE, alpha])), NOISE.astype(float)
    if mode == "LA":
        return Image.merge("LA", (grey, Image.fromarray(alpha))), grey_as_rgb(GREY).astype(float)
    if mode == "La":
        return with_alpha("LA", alpha)[0].convert("La"), grey_as_rgb(GREY).astype(float)
    if mode == "RGBa":
        return with_alpha("RGBA", alpha)[0].convert("RGBa"), NOISE.astype(float)
    if mode == "PA":
        image = grey.convert("P").convert("PA")
        image.putalpha(Image.fromarray(alpha))
        return image, grey_as_rgb(GREY).astype(float)
    raise AssertionError(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_an_opaque_alpha_changes_nothing(mode):
    image, below = with_alpha(mode, np.full_like(GREY, 255))
    np.testing.assert_array_equal(pixels(read_image(image)), below)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_transparency_is_laid_over_white(mode):
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    image, below = with_alpha(mode, alpha)
    opacity = alpha[:, :, None] / 255
    over_white = opacity * below + (1 - opacity) * 255
    assert np.abs(pixels(read_image(image)) - over_white).max() <= 1.5  # premultiplied modes round twice


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(tmp_path, kind):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    (tmp_path / "image").write_bytes(encoded(image, kind, transparency=1))
    expected = [[[10, 20, 30], [255, 255, 255]], [[70, 80, 90], [255, 255, 255]]]
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "image")), expected)
    (tmp_path / "opaque").write_bytes(encoded(image, kind))
    assert pixels(read_image(tmp_path / "opaque"))[0, 1].tolist() == [40, 50, 60]


def test_a_transparent_colour_of_an_image_without_alpha_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 9]], dtype=np.uint8))
    image.save(tmp_path / "keyed.png", transparency=9)
    assert pixels(read_image(tmp_path / "keyed.png"))[0].tolist() == [[0] * 3, [255] * 3]


def test_two_level_images():
    bits = GREY > 127
    np.testing.assert_array_equal(pixels(read_image(Image.fromarray(bits))), grey_as_rgb(bits * np.uint8(255)))


def test_cmyk_by_its_formula(tmp_path, rng):
    inks = rng.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "inks.tif")
    light = 1 - inks / 255.0
    expected = 255 * light[:, :, :3] * light[:, :, 3:]
    assert np.abs(pixels(read_image(tmp_path / "inks.tif")) - expected).max() <= 1


@pytest.mark.parametrize(("mode", "step"), [("YCbCr", 4), ("HSV", 6)])  # a sixth of the 256 hues spans 255 levels
def test_ycbcr_and_hsv_come_back(mode, step):
    got = pixels(read_image(Image.fromarray(NOISE).convert(mode))).astype(int)
    assert np.abs(got - NOISE).max() <= step


def test_lab_against_scikit_image(rng):
    color = pytest.importorskip("skimage.color.colorconv")
    colour = rng.integers(60, 200, (6, 7, 3), dtype=np.uint8)
    # sRGB's primaries adapted to the white D50 that image files mean by Lab (Bradford, Lindbloom's tables).
    to_d50 = np.transpose([[0.43607, 0.38506, 0.14308], [0.22250, 0.71688, 0.06062], [0.01393, 0.09710, 0.71417]])
    from_rgb = np.transpose(color.xyz_from_rgb)
    lab = color.xyz2lab(color.rgb2xyz(colour) @ np.linalg.inv(from_rgb) @ to_d50, illuminant="D50")
    # A file has whole steps: what it means is a little off `colour`.
    lightness, opponents = np.round(lab[:, :, :1] * 2.55), np.round(lab[:, :, 1:])
    stored = np.dstack([lightness.astype(np.uint8), opponents.astype(np.int8).view(np.uint8)])
    meant = color.lab2xyz(np.dstack([lightness / 2.55, opponents]), illuminant="D50")
    expected = 255 * color.xyz2rgb(meant @ np.linalg.inv(to_d50) @ from_rgb)
    image = Image.frombytes("LAB", (7, 6), stored.tobytes())
    errors = np.abs(pixels(read_image(image)) - expected)
    assert errors.mean() < 0.75
    assert errors.max() < 10  # of a dark, saturated red


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "lazy PIL image"])
def test_exif_orientation_is_applied(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    path.write_bytes(encoded(Image.fromarray(NOISE), "PNG" if kind != "TIFF" else kind, exif=exif))
    by_numpy = {  # where row 0 and column 0 of the stored image are seen, from the EXIF standard's table
        1: NOISE,
        2: NOISE[:, ::-1],
        3: NOISE[::-1, ::-1],
        4: NOISE[::-1],
        5: NOISE.transpose(1, 0, 2),
        6: NOISE.transpose(1, 0, 2)[:, ::-1],
        7: NOISE[::-1, ::-1].transpose(1, 0, 2),
        8: NOISE.transpose(1, 0, 2)[::-1],
    }[orientation]
    with Image.open(path) as image:
        got = pixels(read_image(image if kind == "lazy PIL image" else path))
        np.testing.assert_array_equal(got, np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(got, by_numpy)


def test_sixteen_bit_images_are_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WIDE).save(tmp_path / "wide.png", exif=exif)
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "wide.png")), grey_as_rgb(np.rot90(WIDE, -1) // 256))


def test_bytes_that_are_no_exif_do_not_spoil_a_good_image(tmp_path):
    for kind in ("PNG", "JPEG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        (tmp_path / kind).write_bytes(encoded(Image.fromarray(NOISE), kind, exif=b"Exif\0\0nonsense", **options))
        assert read_image(tmp_path / kind).size == (64, 48)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "frames").write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert set(map(tuple, pixels(read_image(tmp_path / "frames")).reshape(-1, 3).tolist())) == {(255, 0, 0)}


def test_the_callers_image_is_neither_changed_nor_closed():
    image = Image.fromarray(NOISE)
    image.getexif()[0x0112] = 6
    upright = read_image(image)
    assert upright.size == (48, 64)
    assert image.size == (64, 48)
    upright.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), NOISE)


# ---- what cannot --------------------------------------------------------------------------------------

JPEG = encoded(Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8)), "JPEG")
PNG = encoded(Image.fromarray(NOISE), "PNG")
TIFF = encoded(Image.fromarray(NOISE), "TIFF")
BMP = encoded(Image.fromarray(NOISE), "BMP")
GIF = encoded(Image.fromarray(GREY), "GIF")
WEBP = encoded(Image.fromarray(NOISE), "WEBP", lossless=True)
PPM = encoded(Image.fromarray(NOISE), "PPM")


def corrupt(content, start):
    return content[:start] + bytes(byte ^ 0x5A for byte in content[start : start + 64]) + content[start + 64 :]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "empty (0 bytes)", id="zero bytes"),
        pytest.param(JPEG[: 18 * 1024], "truncated after 18 KB", id="truncated jpeg"),
        pytest.param(JPEG[:500], "truncated after 500 bytes", id="truncated jpeg header"),
        pytest.param(PNG[:5000], "truncated after 5 KB", id="truncated png"),
        pytest.param(BMP[:5000], "truncated after 5 KB", id="truncated bmp"),
        pytest.param(TIFF[:5000], "truncated after 5 KB", id="truncated tiff"),
        pytest.param(GIF[:2000], "truncated after 2 KB", id="truncated gif"),
        pytest.param(PPM[:5000], "truncated after 5 KB", id="truncated ppm"),
        pytest.param(WEBP[:5000], "truncated after 5 KB", id="truncated webp"),
        pytest.param(TIFF[:6], "truncated inside its header", id="truncated tiff header"),
        pytest.param(PNG[:8], "truncated", id="png signature alone"),
        pytest.param(corrupt(PNG, 4000), "damaged", id="damaged png"),
        pytest.param(b"part 12 is fine\n" * 50, "not a PNG, JPEG", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG, JPEG", id="postscript"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG, JPEG", id="svg"),
        pytest.param(
            png(20_000, 20_000, depth=8, colour_type=0, rows=b""),
            "400,000,000 pixels, above the limit of 150,000,000",
            id="bomb beyond Pillow's limit",
        ),
        pytest.param(
            png(13_000, 13_000, depth=8, colour_type=0, rows=b""),
            "169,000,000 pixels, above the limit of 150,000,000",
            id="bomb that Pillow only warns of",
        ),
        pytest.param(
            encoded(Image.fromarray(NOISE[:, :, 0].astype(np.float32)), "TIFF"), "8 bit or 16 bit", id="float"
        ),
        pytest.param(
            encoded(Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)), "TIFF"),
            "values run from 0 to 70000",
            id="32-bit values",
        ),
        pytest.param(
            encoded(Image.fromarray(np.array([[-5, 70]], dtype=np.int32)), "TIFF"),
            "values run from -5 to 70",
            id="negative values",
        ),
    ],
)
@pytest.mark.parametrize("read", [read_image, lambda path: read_mask(path, size=(48, 64))], ids=["image", "mask"])
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path, recwarn, content, says, read):
    path = tmp_path / "0831.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message
    assert not recwarn.list


def test_a_real_decompression_bomb_is_refused_unopened(tmp_path):
    deflate = zlib.compressobj(1)
    row = bytes(1 + 14_000)
    data = b"".join(deflate.compress(row) for _ in range(14_000)) + deflate.flush()
    content = png(14_000, 14_000, depth=8, colour_type=0, rows=b"").replace(zlib.compress(b""), data)
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(ImageError, match="196,000,000 pixels"):
        read_image(tmp_path / "bomb.png")


def test_a_bomb_handed_over_as_a_lazy_pil_image_is_refused(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(13_000, 13_000, depth=8, colour_type=0, rows=b""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(tmp_path / "bomb.png")
    with image, pytest.raises(ImageError, match=r"bomb\.png: 169,000,000 pixels"):
        read_image(image)


def missing(tmp_path):
    return tmp_path / "0831.png"


def folder(tmp_path):
    (tmp_path / "0831.png").mkdir()
    return tmp_path / "0831.png"


def dangling_link(tmp_path):
    (tmp_path / "0831.png").symlink_to("gone.png")
    return tmp_path / "0831.png"


def pipe(tmp_path):
    os.mkfifo(tmp_path / "0831.png")
    return tmp_path / "0831.png"


def below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(PNG)
    return tmp_path / "file" / "0831.png"


def locked(tmp_path):
    (tmp_path / "0831.png").write_bytes(PNG)
    (tmp_path / "0831.png").chmod(0)
    return tmp_path / "0831.png"


def odd_name(tmp_path):
    return tmp_path / "two\nlines.png"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(missing, "no such file", id="missing"),
        pytest.param(folder, "a folder", id="folder"),
        pytest.param(dangling_link, "no such file", id="dangling link"),
        pytest.param(pipe, "not a regular file", id="pipe"),
        pytest.param(below_a_file, "no such file", id="below a file"),
        pytest.param(locked, "no permission", id="no permission", marks=as_user),
        pytest.param(odd_name, "no such file", id="line break in the name"),
    ],
)
def test_a_path_without_a_readable_file(tmp_path, make, says):
    path = make(tmp_path)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{printable(path)}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(NOISE.astype(np.float32), "float32", id="float array"),
        pytest.param(GREY > 3, "bool", id="bool array"),
        pytest.param(np.array([["a"]]), "uint8", id="array of text"),
        pytest.param(np.zeros(5, np.uint8), "(5,)", id="one axis"),
        pytest.param(np.zeros((), np.uint8), "()", id="no axis"),
        pytest.param(np.zeros((2, 5, 5, 3), np.uint8), "(2, 5, 5, 3)", id="a batch"),
        pytest.param(np.zeros((3, 5, 5), np.uint8), "(3, 5, 5)", id="channels first"),
        pytest.param(np.zeros((5, 5, 2), np.uint8), "(5, 5, 2)", id="two channels"),
        pytest.param(np.zeros((0, 5), np.uint8), "(0, 5)", id="no rows"),
        pytest.param(np.zeros((5, 0, 3), np.uint8), "(5, 0, 3)", id="no columns"),
        pytest.param(np.zeros((5, 5, 0), np.uint8), "(5, 5, 0)", id="no channels"),
        pytest.param(Image.new("RGB", (0, 5)), "at least one", id="empty PIL image"),
        pytest.param(Image.new("F", (5, 5)), "8 bit or 16 bit", id="float PIL image"),
        pytest.param(None, "NoneType", id="none"),
        pytest.param([1, 2], "list", id="list"),
    ],
)
def test_what_is_no_image_in_memory(source, says):
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BlemishError)


def test_a_truncated_lazy_pil_image_is_named_by_its_file(tmp_path):
    (tmp_path / "0831.jpg").write_bytes(JPEG[: 18 * 1024])
    with Image.open(tmp_path / "0831.jpg") as image, pytest.raises(ImageError) as caught:
        read_image(image)
    assert str(caught.value) == f"{tmp_path / '0831.jpg'}: truncated"


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"]),
    cut=st.floats(0.001, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
)
def test_damage_of_any_kind_is_an_image_error_or_an_image(tmp_path_factory, kind, cut, flips):
    whole = {"PNG": PNG, "JPEG": JPEG, "BMP": BMP, "GIF": GIF, "WEBP": WEBP, "PPM": PPM, "TIFF": TIFF}[kind]
    content = bytearray(whole[: max(1, int(cut * len(whole)))])
    for place, value in flips:
        content[int(place**3 * len(content))] = value  # cubed: most of the damage falls on the header
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        image = read_image(path)
    except ImageError as error:
        message = str(error)
    else:
        assert image.mode == "RGB"
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
@pytest.mark.parametrize("content", [PNG, JPEG, TIFF, GIF, WEBP, PNG[:900], b"text"])
def test_the_file_is_closed(tmp_path, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    held = []
    for reader in (read_image, lambda path: read_mask(path, size=(1, 1))):
        try:
            held.append(reader(path))
        except ImageError as error:
            held.append(error)
    open_files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert str(path) not in open_files


def test_pillow_prints_nothing_even_when_all_warnings_are_on(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(13_000, 13_000, depth=8, colour_type=0, rows=b""))
    (tmp_path / "exif.png").write_bytes(encoded(Image.fromarray(NOISE), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))
    (tmp_path / "short.tif").write_bytes(TIFF[:-20])
    script = (
        "import sys, blemish.imaging.images as images\n"
        "for path in sys.argv[1:]:\n"
        "    try: images.read_image(path)\n"
        "    except images.ImageError: pass\n"
    )
    command = [sys.executable, "-W", "always", "-c", script, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_reading_in_threads_leaves_the_warning_filters_as_they_were(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(30)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_damaged_image_leaves_the_warning_filters_as_they_were(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(PNG[:60])
    before = list(warnings.filters)
    with pytest.raises(ImageError):
        read_image(path)
    assert warnings.filters == before


# ---- network size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "size"),
    [
        ((300, 400), (64, 64)),
        ((301, 257), (100, 31)),
        ((33, 1000), (96, 96)),
        ((1000, 33), (32, 128)),
        ((20, 30), (64, 50)),
        ((1, 1), (32, 32)),
        ((64, 64), (64, 64)),
    ],
    ids=["shrink", "odd shrink", "33 x 1000", "1000 x 33", "grow", "1 x 1", "same"],
)
def test_network_size_agrees_with_torchs_antialiased_bilinear(own, size):
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    noise = np.random.default_rng(own[0]).integers(0, 256, (*own, 3), dtype=np.uint8)
    got, own_size = load(noise, size)
    assert own_size == own
    assert got.shape == (*size, 3)
    assert got.dtype == np.uint8
    assert got.flags.writeable
    batch = torch.from_numpy(noise).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    by_torch = functional.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
    assert np.abs(got - by_torch[0].permute(1, 2, 0).numpy()).max() <= 1


def test_a_path_a_pil_image_and_an_array_give_the_same_network_input(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "image.png")
    from_path, own_size = load(tmp_path / "image.png", (32, 40))
    assert own_size == (48, 64)
    for source in (Image.fromarray(NOISE), NOISE):
        np.testing.assert_array_equal(load(source, (32, 40))[0], from_path)
    np.testing.assert_array_equal(to_network_size(Image.fromarray(NOISE), (32, 40)), from_path)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_an_even_image_stays_even_at_any_size(height, width, new_height, new_width, level):
    got, _ = load(np.full((height, width), level, np.uint8), (new_height, new_width))
    np.testing.assert_array_equal(got, np.full((new_height, new_width, 3), level, np.uint8))


# ---- masks --------------------------------------------------------------------------------------------

PAINTED = RNG.random((12, 16)) < 0.4  # (H, W)


def painted_rgba(colour):
    return Image.fromarray(np.where(PAINTED[:, :, None], np.uint8([*colour, 255]), np.uint8(0)))


def painted_palette():
    image = Image.fromarray(PAINTED.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PAINTED),
        Image.fromarray(PAINTED * np.uint8(255)),
        Image.fromarray(np.where(PAINTED, 128, 127).astype(np.uint8)),
        Image.fromarray(PAINTED * np.uint8(1)),
        Image.fromarray(PAINTED * RNG.integers(1, 16, PAINTED.shape, dtype=np.uint8)),
        Image.fromarray(PAINTED * np.uint16(65535)),
        Image.fromarray(np.where(PAINTED, 32768, 32767).astype(np.uint16)),
        Image.fromarray(PAINTED * np.uint16(255)),
        Image.fromarray(PAINTED * np.uint16(1)),
        Image.fromarray(np.where(PAINTED[:, :, None], np.uint8([255, 0, 0]), np.uint8(0))),
        painted_rgba((255, 255, 255)),
        painted_rgba((255, 0, 0)),
        painted_palette(),
    ],
    ids=[
        "1 bit",
        "0 and 255",
        "just above half",
        "label 1",
        "labels 1 to 15",
        "16 bit",
        "16 bit just above half",
        "16 bit with 255",
        "16 bit with 1",
        "red on black",
        "white on transparent",
        "red on transparent",
        "palette",
    ],
)
def test_masks_in_every_way_people_save_them(tmp_path, image):
    for suffix in ("png", "tif"):
        image.save(tmp_path / f"mask.{suffix}")
        mask = read_mask(tmp_path / f"mask.{suffix}", size=(12, 16))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, PAINTED)


@pytest.mark.parametrize(("level", "expected"), [(0, False), (1, True), (15, True), (60, True), (255, True)])
def test_an_even_mask(tmp_path, level, expected):
    Image.new("L", (5, 4), level).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png", size=(4, 5)) == expected).all()


@pytest.mark.parametrize("factor", [2, 5])
def test_a_smaller_mask_is_brought_to_size_by_nearest_neighbour(tmp_path, factor):
    Image.fromarray(PAINTED).save(tmp_path / "mask.png")
    got = read_mask(tmp_path / "mask.png", size=(12 * factor, 16 * factor))
    np.testing.assert_array_equal(got, np.kron(PAINTED, np.ones((factor, factor), dtype=bool)))


def test_a_larger_mask_is_brought_to_size_by_nearest_neighbour(tmp_path):
    Image.fromarray(np.kron(PAINTED, np.ones((3, 3), dtype=bool))).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", size=(12, 16)), PAINTED)


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((100, 101), True),
        ((101, 100), True),
        ((50, 51), True),
        ((100, 103), False),
        ((103, 100), False),
        ((200, 100), False),
    ],
)
def test_a_mask_of_another_shape_is_refused(tmp_path, size, fits):
    Image.new("L", (100, 100)).save(tmp_path / "mask.png")
    if fits:
        assert read_mask(tmp_path / "mask.png", size=size).shape == size
        return
    with pytest.raises(ImageError) as caught:
        read_mask(tmp_path / "mask.png", size=size)
    assert f"{tmp_path / 'mask.png'}: the mask is 100 x 100" in str(caught.value)
    assert f"{size[0]} x {size[1]}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_image_and_mask_each_follow_their_own_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(PAINTED * np.uint8(255))
    stored.save(tmp_path / "photo.png", exif=exif)
    upright = read_image(tmp_path / "photo.png")
    upright.save(tmp_path / "painted_upright.png")
    stored.save(tmp_path / "same_camera.png", exif=exif)
    for name in ("painted_upright.png", "same_camera.png"):
        mask = read_mask(tmp_path / name, size=(upright.height, upright.width))
        np.testing.assert_array_equal(mask, pixels(upright)[:, :, 0] > 127)
    stored.save(tmp_path / "lying.png")
    with pytest.raises(ImageError, match=r"the mask is 12 x 16 but its image is 16 x 12"):
        read_mask(tmp_path / "lying.png", size=(16, 12))


# ---- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", True),
        ("folder/B.JPG", True),
        (Path("c.TiFf"), True),
        ("two.dots.webp", True),
        (".hidden.png", False),
        ("._mac.jpg", False),
        (".png", False),
        ("png", False),
        ("a.png.txt", False),
        (".model.onnx.1a2b3c4d.partial", False),
        (".hidden/a.png", True),
        ("Thumbs.db", False),
    ],
)
def test_image_names(name, expected):
    assert is_image_name(name) is expected
