"""TIFFs in all the ways they are stored: the right pixels, or a refusal with its true reason."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_image
from helpers.tiff_files import Page, write_tiff

HEIGHT, WIDTH = 13, 19
RGB, CMYK = 2, 5


def values(bits, channels=1):
    return np.random.default_rng((bits, channels)).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))


def read(tmp_path, content):
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def in_8_bit(stored, bits):
    """By the specification: full scale of each depth is white; of 16 bits the upper 8 count."""
    eight = stored * 255 // ((1 << bits) - 1) if bits < 8 else stored >> (8 if bits == 16 else 0)
    return np.broadcast_to(eight, (*eight.shape[:2], 3)) if eight.shape[2] == 1 else eight[:, :, :3]


STORAGE = [
    dict(zip(("order", "big", "compression", "pieces"), one, strict=True))
    for one in itertools.product("<>", (False, True), (1, 8), ("strips", "tiles"))
    if not (one[0] == ">" and one[1])  # refused, see below
]


def stored(pixels, storage, **how):
    shape = {"rows": 5} if storage["pieces"] == "strips" else {"tile": (16, 16)}
    page = Page(pixels, compression=storage["compression"], **shape, **how)
    return write_tiff(page, order=storage["order"], big=storage["big"])


@pytest.mark.parametrize("storage", STORAGE, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
def test_grey_of_every_depth(tmp_path, storage, bits, photometric):
    pixels = values(bits)
    content = stored(pixels, storage, bits=bits, photometric=photometric)
    expected = pixels if photometric else (1 << bits) - 1 - pixels
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(expected, bits))


@pytest.mark.parametrize("storage", STORAGE, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
def test_colour(tmp_path, storage, bits, planar):
    pixels = values(bits, 3)
    content = stored(pixels, storage, bits=bits, planar=planar, photometric=RGB)
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(pixels, bits))


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
@pytest.mark.parametrize("extra", [(), (0,), (1,), (2,)], ids=["unsaid", "unspecified", "premultiplied", "opacity"])
def test_a_fourth_band(tmp_path, bits, planar, extra, compression):
    pixels = values(bits, 4)
    full = (1 << bits) - 1
    if extra == (1,):
        pixels[:, :, 3] = full  # premultiplied by 1, so that there is no rounding to agree on
    content = write_tiff(Page(pixels, bits=bits, planar=planar, photometric=RGB, extra=extra, compression=compression))
    eight = in_8_bit(pixels, bits).astype(float)
    if extra != (0,):
        opacity = (pixels[:, :, 3:] >> (bits - 8)) / 255
        eight = opacity * eight + (1 - opacity) * 255
    assert np.abs(read(tmp_path, content) - eight).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
def test_cmyk(tmp_path, bits, planar):
    inks = values(bits, 4)
    light = 1 - (inks >> (bits - 8)) / 255
    got = read(tmp_path, write_tiff(Page(inks, bits=bits, planar=planar, photometric=CMYK)))
    assert np.abs(got - 255 * light[:, :, :3] * light[:, :, 3:]).max() <= 1


def test_grey_with_opacity_in_planes_as_interleaved(tmp_path):
    pixels = values(8, 2)
    got = [read(tmp_path, write_tiff(Page(pixels, planar=planar, extra=(2,)))) for planar in (False, True)]
    np.testing.assert_array_equal(*got)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_differences_between_neighbours(tmp_path, bits, channels, planar, order):
    pixels = values(bits, channels)
    how = {"photometric": RGB, "planar": planar} if channels == 3 else {}
    content = write_tiff(Page(pixels, bits=bits, compression=8, predictor=2, rows=5, **how), order=order)
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(pixels, bits))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("compression", [1, 8])
def test_bits_in_reverse_order(tmp_path, bits, compression):
    pixels = values(bits)
    content = write_tiff(Page(pixels, bits=bits, fill_order=2, compression=compression))
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(pixels, bits))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1])
def test_twelve_packed_bits_keep_their_values(tmp_path, order, photometric):
    pixels = values(12)
    content = write_tiff(Page(pixels, bits=12, photometric=photometric), order=order)
    expected = pixels if photometric else 4095 - pixels
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(expected, 16))


@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
@pytest.mark.parametrize(("bits", "photometric", "channels"), [(8, RGB, 3), (16, RGB, 3), (16, 0, 1)])
def test_the_orientation_is_applied(tmp_path, planar, bits, photometric, channels):
    pixels = values(bits, channels)
    content = write_tiff(Page(pixels, bits=bits, planar=planar, photometric=photometric, tags={274: (3, (6,))}))
    expected = pixels if photometric else 65535 - pixels
    np.testing.assert_array_equal(read(tmp_path, content), in_8_bit(np.rot90(expected, -1), bits))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_compressions_that_pillow_writes(tmp_path, compression, kind):
    # Smooth, since JPEG is lossy.
    rows, columns = np.mgrid[:64, :48]
    pixels = np.dstack([2 * rows, 3 * columns, rows + columns]).astype(np.uint8)
    image = Image.fromarray(pixels if kind == "colour" else pixels[:, :, 0])
    if compression == "group4":
        image = image.convert("1")
    image.save(tmp_path / "saved.tif", compression=compression)
    got = read(tmp_path, (tmp_path / "saved.tif").read_bytes()).astype(int)
    assert np.abs(got - np.asarray(image.convert("RGB"))).max() <= (12 if compression == "jpeg" else 0)


def test_planes_that_tifffile_writes(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pixels = values(16, 3).astype(np.uint16)
    path = tmp_path / "image.tif"
    for how in ({}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"byteorder": ">"}):
        tifffile.imwrite(path, pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", **how)
        np.testing.assert_array_equal(np.asarray(read_image(path)), tifffile.imread(path).transpose(1, 2, 0) >> 8)
    for how in ({}, {"compression": "zlib"}, {"byteorder": ">"}):
        tifffile.imwrite(path, pixels[:, :, 0], photometric="miniswhite", **how)
        np.testing.assert_array_equal(np.asarray(read_image(path))[:, :, 0], 255 - (tifffile.imread(path) >> 8))


def test_a_lazy_pil_image_is_read_as_its_file_is(tmp_path):
    pixels = values(16, 3)
    (tmp_path / "image.tif").write_bytes(write_tiff(Page(pixels, bits=16, planar=True, photometric=RGB)))
    with Image.open(tmp_path / "image.tif") as image:
        np.testing.assert_array_equal(np.asarray(read_image(image)), in_8_bit(pixels, 16))
    with Image.open(io.BytesIO(write_tiff(Page(pixels[:, :, :1], bits=16, photometric=0)))) as image:
        np.testing.assert_array_equal(np.asarray(read_image(image)), in_8_bit(65535 - pixels[:, :, :1], 16))


GREY = values(8)
FLOAT = np.random.default_rng(3).random((HEIGHT, WIDTH, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(Page(FLOAT, bits=64, sample_format=3), "floating-point of 64 bits", id="float64"),
        pytest.param(Page(FLOAT, bits=16, sample_format=3), "floating-point of 16 bits", id="float16"),
        pytest.param(Page(FLOAT, bits=32, sample_format=3), "floating-point", id="float32"),
        pytest.param(Page(FLOAT.repeat(3, axis=2), 32, RGB, sample_format=3), "floating-point", id="float colour"),
        pytest.param(Page(FLOAT, 64, sample_format=6), "complex numbers", id="complex"),
        pytest.param(Page(GREY - 128, sample_format=2), "signed, 8 bits", id="signed 8 bit"),
        pytest.param(Page(GREY - 128, 16, sample_format=2), "values run from -", id="signed 16 bit"),
        pytest.param(Page(values(8, 5)), "it has 5 bands", id="five bands"),
        pytest.param(Page(values(8, 3)), "it has 3 bands", id="three bands that are no colours"),
        pytest.param(Page(values(8, 3), planar=True), "it has 3 bands", id="three bands in planes"),
        pytest.param(Page(values(8, 3), planar=True, extra=(0, 0)), "it has 3 bands", id="three planes, two extra"),
        pytest.param(Page(values(8, 5), planar=True, extra=(0,) * 4), "it has 5 bands", id="multispectral planes"),
        pytest.param(Page(values(16, 4), 16, planar=True, extra=(0,) * 3), "it has 4 bands", id="wide planes"),
        pytest.param(Page(values(16, 2), 16, extra=(2,)), "2 bands of 16 bits", id="16-bit grey with opacity"),
        pytest.param(Page(values(16, 12), 16), "it has 12 bands", id="multispectral"),
        pytest.param(Page(values(10), 10), "its values have 10 bits", id="10 packed bits"),
        pytest.param(Page(values(14), 14), "its values have 14 bits", id="14 packed bits"),
        pytest.param(Page(values(12, 3), 12, RGB), "its values have 12 bits", id="12 packed bits of colour"),
        pytest.param(Page(values(8, 3), photometric=RGB, tags={258: (3, (8, 8, 16))}), "differ in depth", id="mixed"),
        pytest.param(Page(GREY, photometric=32803), "Bayer", id="sensor data"),
        pytest.param(Page(GREY, photometric=34892), "sensor data", id="linear sensor data"),
        pytest.param(Page(GREY, 16, photometric=32844), "LogL luminance", id="LogL"),
        pytest.param(Page(values(8, 3), photometric=32845), "LogLuv", id="LogLuv"),
        pytest.param(Page(GREY, compression=34712), "JPEG 2000", id="JPEG 2000 inside"),
        pytest.param(Page(GREY, data=[b"x" * 99], compression=34887), "LERC", id="LERC"),
        pytest.param(Page(GREY, data=[b"x" * 99], compression=50002), "JPEG XL", id="JPEG XL"),
        pytest.param(Page(GREY, data=[b"x" * 99], compression=6), "old-style JPEG", id="old-style JPEG"),
        pytest.param(Page(GREY, data=[b"x" * 99], compression=777), "compression", id="unknown compression"),
        pytest.param(Page(values(16), 16, 0, compression=50000, data=[b"x"]), "WhiteIsZero", id="odd negative"),
        pytest.param(Page(values(16, 3), 16, RGB, True, compression=7, data=[b"x"] * 3), "planar", id="JPEG planes"),
    ],
)
def test_what_is_whole_and_not_read_names_its_true_reason(tmp_path, content, reason):
    (tmp_path / "image.tif").write_bytes(write_tiff(content))
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "image.tif")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'image.tif'}: ")
    assert reason in message
    assert "truncated" not in message
    assert "damaged" not in message
    assert "save it" in message


def test_a_big_endian_bigtiff_names_its_true_reason(tmp_path):
    with pytest.raises(ImageError, match="BigTIFF with big-endian"):
        read(tmp_path, write_tiff(Page(GREY), order=">", big=True))


def test_a_raw_file_of_a_camera_is_not_scored_by_its_preview(tmp_path):
    preview = Page(GREY, tags={254: (4, (1,)), 330: (4, (8,))})
    with pytest.raises(ImageError, match="raw file"):
        read(tmp_path, write_tiff(preview))


def test_a_preview_before_the_image_is_not_the_image(tmp_path):
    preview = Page(GREY[:4, :4], tags={254: (4, (1,))})
    np.testing.assert_array_equal(read(tmp_path, write_tiff(preview, Page(GREY))), in_8_bit(GREY, 8))


@pytest.mark.parametrize("page", [Page(values(16, 3), 16, RGB, True), Page(values(16), 16, 0)], ids=["planar", "white"])
@pytest.mark.parametrize("fault", ["header", "strips", "tags", "counts"])
def test_a_file_that_is_cut_is_truncated(tmp_path, page, fault):
    content = write_tiff(page)
    if fault == "header":
        content = content[:6]
    elif fault == "strips":
        content = content[:200]
    elif fault == "tags":
        content = content[:-30]
    else:
        planes = page.pixels.shape[2]
        content = write_tiff(replace(page, tags={279: (4, (2 * HEIGHT * WIDTH + 999,) * planes)}))
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        read(tmp_path, content)
