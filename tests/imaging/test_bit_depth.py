"""16-bit files hold 10, 12, 14 or 16 bits: one depth for a set of images, kept in the model, used ever after."""

import io
import json
import re
import shutil
import struct
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from blemish.auditing.data import gather
from blemish.conversion.onnx_edit import with_metadata
from blemish.datasets.layouts import Sample, read_data_set
from blemish.datasets.pixels import read_pixels
from blemish.errors import BlemishError
from blemish.experiments.data.mvtec import open_mvtec
from blemish.experiments.data.tasks import ResizeSpec
from blemish.faithfulness.inpainting import NormalImages
from blemish.imaging.bit_depth import check_bits, depth_of, to_8_bit
from blemish.imaging.errors import ImageError
from blemish.imaging.images import largest_value, load, read_image, read_picture
from blemish.imaging.reading import Reading
from blemish.imaging.survey import survey_depth
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata
from blemish.serving.decoders import Decoders
from blemish.serving.limits import Limits
from blemish.serving.schemas import draw_upload, score_upload
from blemish.serving.stopping import Stop
from blemish.serving.uploads import Upload
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.training.run import train

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 4096, (9, 7, 1)).astype(np.uint16)  # 12 bits
COLOUR = RNG.integers(0, 4096, (9, 7, 3)).astype(np.uint16)


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
    "values", [GREY[..., 0], GREY, COLOUR, with_channel(COLOUR, 65535)], ids=lambda values: str(values.shape)
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


def test_12_bits_in_16_bit_files_give_the_pixels_of_8_bit_files(tmp_path, rng):
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


# ---- a set of images ----------------------------------------------------------------------------------


def write_set(folder, *largest):
    """Grey 16-bit images with these largest values; 8 bits where it is None."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, most in enumerate(largest):
        values = np.random.default_rng(number).integers(0, (most or 200) + 1, (12, 12))
        values[0, 0] = most or 200
        Image.fromarray(values.astype(np.uint8 if most is None else np.uint16)).save(folder / f"{number:03}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("largest", "bits", "statement", "warnings"),
    [
        ([None] * 3, 16, None, []),
        ([700, 1023], 10, "2 images of 16 bits: largest value 1,023, read as 10 bits (--bits N overrides it)", []),
        ([900, 4095, 3000], 12, "largest value 4,095, read as 12 bits", []),
        ([4096, 90, 5000], 14, "largest value 5,000, read as 14 bits", []),
        ([30000, 20000, 65535], 16, "largest value 65,535, read as 16 bits", []),
        ([255, 180], 8, "largest value 255, read as 8 bits", []),
        ([1000, 1010, 1100], 12, "read as 12 bits", []),  # dark images of one camera
        ([4000, None, 4001, None], 12, "2 images of 16 bits", ["2 images of 8 bits and 2 of 16 bits are mixed"]),
        (
            [4000, 3900, 65520, 4095],
            16,
            "read as 16 bits",
            ["3 of 4 images of 16 bits have values up to 4,095, 1 up to "],
        ),
        ([4095, 4000, 65535, None], 16, "read as 16 bits", ["are mixed", "1 up to 65,535 (002.png)"]),
    ],
)
def test_the_depth_of_a_set(tmp_path, largest, bits, statement, warnings):
    survey = survey_depth(write_set(tmp_path / "set", *largest))
    assert survey.reading == Reading(bits=bits, seen=statement is not None)
    assert survey.statement is None if statement is None else statement in survey.statement
    assert len(survey.warnings()) == len(warnings)
    for (sentence, paths), words in zip(survey.warnings(), warnings, strict=True):
        assert words in sentence
        assert paths


def test_left_aligned_values_need_nothing(tmp_path):
    values = np.random.default_rng(0).integers(0, 1024, (12, 12)).astype(np.uint16)
    values[0, 0] = 1023
    for name, shift in (("right", 0), ("left", 6)):
        Image.fromarray(values << shift).save(tmp_path / f"{name}.png")
    readings = [survey_depth([tmp_path / f"{name}.png"]).reading for name in ("right", "left")]
    assert [reading.bits for reading in readings] == [10, 16]
    pictures = [
        read_image(tmp_path / f"{name}.png", one) for name, one in zip(("right", "left"), readings, strict=True)
    ]
    np.testing.assert_array_equal(*map(np.asarray, pictures))


def test_what_cannot_be_read_has_no_say(tmp_path):
    paths = write_set(tmp_path / "set", 4000, 3000)
    broken = tmp_path / "set/broken.png"
    broken.write_bytes(paths[0].read_bytes()[:100])
    survey = survey_depth([*paths, broken, tmp_path / "gone.png"])
    assert (survey.narrow, len(survey.largest), survey.reading.bits) == (0, 2, 12)


def test_given_bits_are_those_of_the_set(tmp_path):
    paths = write_set(tmp_path / "set", 4000, 3000, 65535)
    survey = survey_depth(paths, given=12)  # one hot pixel more or less
    survey.check_bit_depth()
    assert survey.reading == Reading(bits=12)
    assert survey.statement == "3 images of 16 bits: largest value 65,535, read as 12 bits (--bits says so)"
    assert survey.warnings() == []
    assert survey_depth([], given=12).reading == Reading(bits=12)
    with pytest.raises(BlemishError) as caught:
        survey_depth(paths, given=10).check_bit_depth()
    assert str(caught.value) == (
        "--bits 10 ends at 1,023, but 3 of 3 images of 16 bits have larger values, up to 65,535 in "
        f"{paths[2]}; give --bits 16, or leave it out"
    )


@pytest.mark.parametrize(
    ("train", "test", "severity", "words"),
    [
        ([4000] * 20, [4095, None], "note", "20 images of 16 bits: largest value 4,000, read as 12 bits"),
        ([4000] * 20, [4095, 4096], "warning", "001.png: its largest value is 4,096, but 12 bits end at 4,095"),
        ([4000] * 19 + [None], [None], "warning", "1 image of 8 bits and 19 of 16 bits are mixed"),
        (
            [4000] * 19 + [64000],
            [None],
            "warning",
            "19 of 20 images of 16 bits have values up to 4,000, 1 up to 64,000",
        ),
        (
            [None] * 20,
            [4095],
            "warning",
            "000.png: a 16-bit image with values up to 4,095, but the model was trained on",
        ),
    ],
)
def test_doctor_says_the_depth(run, tmp_path, train, test, severity, words):
    write_set(tmp_path / "parts/train/good", *train)
    write_set(tmp_path / "parts/test/good", *test)
    outcome = run("doctor", tmp_path / "parts")
    found = [line.strip() for line in outcome.out.splitlines() if words in line]
    assert len(found) == 1
    assert found[0].startswith(severity)
    # Nothing is nearly blank where the depth is right.
    assert ("nearly blank" in outcome.out) == (64000 in train or 4000 not in train)


# ---- every verb ---------------------------------------------------------------------------------------


def twelve_bits(folder, copy):
    """A data set again with every image in 12 bits of a 16-bit colour PNG; `value >> 4` are the pixels it had."""
    shutil.copytree(folder, copy)
    for number, path in enumerate(sorted(copy.rglob("*.png"))):
        if "ground_truth" not in path.parts:
            pixels = np.asarray(Image.open(path)).astype(np.uint16)
            below = np.random.default_rng(number).integers(0, 16, pixels.shape, np.uint16)
            path.write_bytes(png(pixels * 16 + below, colour_type=2))
    return copy


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """The tiny model, as if it had been trained on 12 bits."""
    metadata = Detector.load(tiny_model).metadata
    path = tmp_path_factory.mktemp("12 bits") / "tiny.onnx"
    path.write_bytes(with_metadata(tiny_model.read_bytes(), replace(metadata, bits=12, settings={"bits": 12})))
    return path


@pytest.fixture
def wide(parts, tmp_path):
    return twelve_bits(parts, tmp_path / "wide" / "parts")


def test_scores_arrays_and_pictures_are_those_of_8_bits(model, parts, wide):
    detector = Detector.load(model)
    assert detector.reading == Reading(bits=12)
    narrow_file, wide_file = (root / "test/stain/0.png" for root in (parts, wide))
    expected = detector.score(narrow_file)
    array = np.asarray(Image.open(narrow_file)).astype(np.uint16) << 4
    for source in (wide_file, array, array[None], Image.open(wide_file)):
        assert detector.score(source).scores.tolist() == expected.scores.tolist()
    (scored,) = detector.predict_iter(narrow_file)
    pictures = [np.asarray(detector.explain(source, scored)) for source in (narrow_file, wide_file, array)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_predict(run, model, parts, wide, tmp_path):
    for name, root in (("narrow", parts), ("deep", wide)):
        assert run("predict", model, root / "test", "-o", tmp_path / name).status == 0
    for name in ("scores.csv", "regions.json"):
        texts = [(tmp_path / out / name).read_text() for out in ("narrow", "deep")]
        assert texts[0] == texts[1].replace(str(wide), str(parts))
    pictures = sorted((tmp_path / "narrow/heatmaps").rglob("*.png"))
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.read_bytes() == (tmp_path / "deep" / picture.relative_to(tmp_path / "narrow")).read_bytes()


def test_predict_keeps_the_row_of_an_image_beyond_the_depth_and_says_so(run, model, wide, tmp_path):
    bright = wide / "test/good/0.png"
    bright.write_bytes(png(np.full((64, 64, 3), 60000, np.uint16), colour_type=2))
    outcome = run("predict", model, wide / "test", "-o", tmp_path / "out")
    assert outcome.status == 0
    said = [line for line in outcome.err.splitlines() if "largest value" in line]
    assert said == [f"{bright}: its largest value is 60,000, but 12 bits end at 4,095; larger values are read as white"]
    assert "unreadable" not in (tmp_path / "out/scores.csv").read_text()
    assert run("evaluate", model, wide).err.count("its largest value is 60,000") == 1


def test_evaluate_report_and_info(run, model, parts, wide, tmp_path):
    figures = [run("evaluate", model, root, "--json").json for root in (parts, wide)]
    for changing in ("seconds", "images_per_second"):
        assert [figure.pop(changing) > 0 for figure in figures] == [True, True]
    assert figures[0] == figures[1]
    pages = []
    for name, root in (("narrow", parts), ("deep", wide)):
        assert run("report", model, root, "-o", tmp_path / f"{name}.html").status == 0
        pages.append(re.findall(r"data:image[^\"]+", (tmp_path / f"{name}.html").read_text()))
    assert len(pages[0]) > 5
    assert pages[0] == pages[1]
    assert "reads 16-bit images as 12 bits" in run("info", model).out
    assert run("info", model, "--json").json["bits"] == 12


def test_audit_and_faithfulness_read_the_same_pixels(model, parts, wide):
    detector = Detector.load(model)
    for root in (parts, wide):  # an audit wants ten good images
        for number in range(10):
            shutil.copy(root / "test/good/0.png", root / f"train/good/more{number}.png")
    sides = [gather(detector, read_data_set(root), progress=lambda *_: None) for root in (parts, wide)]
    np.testing.assert_array_equal(sides[0].pixels, sides[1].pixels)
    np.testing.assert_array_equal(sides[0].compared, sides[1].compared)
    np.testing.assert_array_equal(sides[0].maps, sides[1].maps)
    fills = [
        NormalImages([root / "test/good/0.png", root / "test/good/1.png"], (64, 64), detector.reading)
        for root in (parts, wide)
    ]
    np.testing.assert_array_equal(fills[0].mean, fills[1].mean)


def test_the_server_answers_the_same(model, parts, wide):
    detector = Detector.load(model)
    files = [(root / "test/stain/0.png").read_bytes() for root in (parts, wide)]
    files.append(png(np.full((64, 64, 3), 60000, np.uint16), colour_type=2))
    decoders = Decoders(1, Limits(), on_death=lambda: None)
    try:
        for answer in (partial(score_upload, model="m"), draw_upload):
            narrow, deep, bright = (
                answer(detector, Upload("a.png", file), Stop(), decoders=decoders) for file in files
            )
            if answer is draw_upload:
                assert narrow.png == deep.png
            else:
                assert narrow == deep
                assert narrow.remarks == []
                assert [remark[:37] for remark in bright.remarks] == ["a.png: its largest value is 60,000, b"]
    finally:
        decoders.close()


def test_the_papers_experiments_read_their_sets_by_the_depth(parts, wide):
    tasks = [open_mvtec(root, ResizeSpec(channels=3)).task("parts") for root in (parts, wide)]
    assert (tasks[0].nominal.pixels == tasks[1].nominal.pixels).all()
    assert (tasks[0].test.pixels == tasks[1].test.pixels).all()


def test_outliers_are_read_by_the_depth(wide, parts):
    samples = [
        OutlierFolder(root / "test", reading=Reading(bits=12)).sample(np.random.default_rng(0), (32, 32))
        for root in (parts, wide)
    ]
    np.testing.assert_array_equal(*samples)


def test_an_old_model_file_reads_16_bits(tiny_model):
    text = Detector.load(tiny_model).metadata.to_json()
    values = json.loads(text)
    del values["bits"]
    old = ModelMetadata.from_json(json.dumps(values))
    assert old.bits == 16
    for wrong in (7, 17, "12", None, 12.5):
        with pytest.raises(BlemishError, match=r"metadata is damaged"):
            ModelMetadata.from_json(json.dumps(values | {"bits": wrong}))


# ---- training -----------------------------------------------------------------------------------------


def write_textures(root, *, shift):
    for number in range(8):
        values = np.random.default_rng(number).integers(1400, 2600, (64, 64)).astype(np.uint16)
        path = root / f"train/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values if shift is None else (values >> shift).astype(np.uint8)).save(path)
    return root


def test_training_finds_the_depth_and_keeps_it(tmp_path):
    options = {"size": (64, 64), "align": False}
    said = []
    wide = train(
        write_textures(tmp_path / "wide/parts", shift=None), tmp_path / "w.onnx", notify=said.append, **options
    )
    assert said[0] == "8 images of 16 bits: largest value 2,599, read as 12 bits (--bits N overrides it)"
    narrow = train(write_textures(tmp_path / "narrow/parts", shift=4), tmp_path / "n.onnx", **options)
    assert (wide.metadata.bits, wide.metadata.settings["bits"], wide.reading) == (12, 12, Reading(bits=12))
    assert (narrow.metadata.bits, narrow.metadata.settings["bits"]) == (16, None)
    assert narrow.reading == Reading(bits=16, seen=False)
    assert wide.calibration.scores == narrow.calibration.scores
    image = np.random.default_rng(99).integers(1400, 2600, (64, 64)).astype(np.uint16)
    eight = (image >> 4).astype(np.uint8)
    assert wide.score(image).scores.tolist() == wide.score(eight).scores.tolist() == narrow.score(eight).scores.tolist()
    (result,) = narrow.predict_iter(image)
    assert "trained on 8-bit images" in result.remarks[0]


@pytest.mark.parametrize(
    ("option", "words"),
    [("10", "--bits 10 ends at 1,023, but 8 of 8 images"), ("7", "not in the range"), ("17", "not in the range")],
)
def test_train_refuses_bits_that_cannot_be(run, tmp_path, option, words):
    root = write_textures(tmp_path / "parts", shift=None)
    outcome = run("train", root, "-o", tmp_path / "m.onnx", "--size", "64", "--bits", option)
    assert outcome.status == 2
    assert words in outcome.err
    assert not (tmp_path / "m.onnx").exists()


def test_what_given_bits_cut_off_is_said_of_every_image(tmp_path):
    paths = write_set(tmp_path / "set", 4000, 5000, 3000)
    said = []
    samples = [Sample(path, "train", None) for path in paths]
    pixels = read_pixels(samples, (32, 32), reading=Reading(bits=12), progress=lambda *_: None, notify=said.append)
    assert said == [
        f"{paths[1]}: its largest value is 5,000, but 12 bits end at 4,095; larger values are read as white"
    ]
    assert pixels.reading == Reading(bits=12)
