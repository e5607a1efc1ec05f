"""Masks in the ways that people save them: each marks exactly what was painted, and says what is odd about it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.network_size import Shape
from blemish.datasets.pixels import read_pixels
from blemish.imaging.errors import ImageError
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.imaging.mask_values import marked
from blemish.imaging.masks import mask_files, mask_name, read_mask, read_mask_with_notes
from helpers.images import noise, save_image

SIDE = 96
BLOT, BAR, HAIR = np.zeros((3, SIDE, SIDE), bool)
_rows, _columns = np.mgrid[:SIDE, :SIDE]
BLOT[(_rows - 27) ** 2 + (_columns - 30) ** 2 <= 15**2] = True
BAR[60:80, 50:85] = True
HAIR[50, 5:45] = True  # a scratch one pixel wide
PAINTED = BLOT | BAR | HAIR


def classes(blot: int, bar: int, hair: int, *, ground: int = 0, kind: type = np.uint8) -> np.ndarray:
    """A class for each of the three."""
    values = np.full((SIDE, SIDE), ground, kind)
    for where, value in ((BLOT, blot), (BAR, bar), (HAIR, hair)):
        values[where] = value
    return values


def coloured(*colours: tuple[int, int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.stack([classes(*channel, ground=ground[i]) for i, channel in enumerate(zip(*colours, strict=True))], -1)


def with_alpha(colour: tuple[int, int, int], alpha: int = 255) -> Image.Image:
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = alpha * PAINTED
    return Image.fromarray(pixels)


def palette(values: np.ndarray, colours: list[int], **info: int) -> Image.Image:
    image = Image.fromarray(values).copy()
    image.putpalette(colours)
    image.info.update(info)
    return image


def rim(inside: int) -> np.ndarray:
    """A class with a rim of 255, as VOC draws it."""
    values = classes(255, 255, 255)
    values[22:33, 25:36] = inside
    values[65:75, 55:80] = inside
    return values


# VOC's palette gives class k the bits of k from the upper end of red, green and blue in turn.
VOC = [
    sum(((k >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for k in range(256) for channel in range(3)
]

FEW_VALUES = {
    "1 bit": Image.fromarray(PAINTED),
    "0 and 255": Image.fromarray(PAINTED * np.uint8(255)),
    "0 and 1": Image.fromarray(PAINTED * np.uint8(1)),
    "0 and 100": Image.fromarray(PAINTED * np.uint8(100)),
    "0 and 16": Image.fromarray(PAINTED * np.uint8(16)),
    "classes 1, 2, 3": Image.fromarray(classes(1, 2, 3)),
    "classes 20, 60, 100": Image.fromarray(classes(20, 60, 100)),
    "classes 60 and 180": Image.fromarray(classes(60, 180, 60)),
    "a faint hair": Image.fromarray(classes(255, 200, 7)),
    "1 with a rim of 255": Image.fromarray(rim(1)),
    "several in one": Image.fromarray((classes(1, 1, 1) * (1 + _columns // 12)).astype(np.uint8)),
    "no 0: 1 and 2": Image.fromarray(classes(2, 2, 2, ground=1)),
    "no 0: 50 and 200": Image.fromarray(classes(200, 200, 200, ground=50)),
    "no 0: 255, 10 and 20": Image.fromarray(classes(10, 20, 20, ground=255)),
    "16 bit, classes 1 to 3": Image.fromarray(classes(1, 2, 3, kind=np.uint16)),
    "16 bit, 300 and 20000": Image.fromarray(classes(300, 20000, 300, kind=np.uint16)),
    "16 bit, 65535": Image.fromarray(classes(65535, 65535, 65535, kind=np.uint16)),
    "32 bit": Image.fromarray(classes(1, 40, 7, kind=np.int32)),
    "float 0 and 1": Image.fromarray(classes(1, 1, 1, kind=np.float32)),
    "float 0, 0.25, 0.5": Image.fromarray(classes(1, 2, 1, kind=np.float32) / np.float32(4)),
    "dark red": Image.fromarray(coloured((120, 0, 0), (120, 0, 0), (120, 0, 0))),
    "three colours": Image.fromarray(coloured((120, 0, 0), (0, 60, 0), (0, 0, 20))),
    "red on white": Image.fromarray(coloured((255, 0, 0), (200, 0, 0), (255, 0, 0), ground=(255, 255, 255))),
    "white on transparent": with_alpha((255, 255, 255)),
    "dark blue on transparent": with_alpha((0, 0, 90)),
    "black on transparent": with_alpha((0, 0, 0)),
    "colours that are all transparent": Image.fromarray(coloured((255, 0, 0), (0, 9, 0), (255, 0, 0))).convert("RGBA"),
    "half-transparent red": with_alpha((255, 0, 0), 100),
    "hardly visible": with_alpha((90, 0, 0), 2),
    "VOC's palette": palette(classes(1, 15, 20), VOC),
    "VOC's palette with a rim": palette(rim(9), VOC),
    "a grey palette": palette(classes(1, 2, 1), [value for value in range(256) for _ in "rgb"]),
    "a palette of black": palette(classes(1, 2, 1), [0] * 768),
    "a palette with white first": palette(1 - classes(1, 1, 1), [255, 255, 255, 0, 0, 0]),
    "a palette with a colour for the ground": palette(classes(1, 2, 2), [90, 90, 90, 250, 0, 0, 20, 0, 0]),
    "a palette with a transparent ground": palette(classes(1, 2, 1), [0, 0, 0, 5, 0, 0, 9, 0, 0], transparency=0),
    "reduced to a palette": Image.fromarray(coloured((255, 0, 0), (0, 255, 0), (0, 0, 255))).quantize(8),
}


FEW_VALUES["colours that are all transparent"].putalpha(0)


def written(image: Image.Image, form: str = "PNG", **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("name", FEW_VALUES)
def test_whatever_is_not_background_is_marked(name: str, tmp_path: Path) -> None:
    image = FEW_VALUES[name]
    forms = ["TIFF"] if image.mode in "FI" else ["PNG", "TIFF"] if "transparen" not in name else ["PNG"]
    for form in forms:
        file = tmp_path / f"mask.{form.lower()}"
        image.save(file)
        found = read_mask_with_notes(file, size=(SIDE, SIDE))
        np.testing.assert_array_equal(found.pixels, PAINTED)
        assert not found.facts.lost
        assert not found.facts.even


@pytest.mark.parametrize("form", ["BMP", "GIF", "WEBP", "PPM"])
@pytest.mark.parametrize("value", [100, 255])
def test_other_file_types(form: str, value: int, tmp_path: Path) -> None:
    file = tmp_path / f"mask.{form.lower()}"
    Image.fromarray(PAINTED * np.uint8(value)).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(read_mask(file), PAINTED)


def test_small_numbers_in_16_bit_colours(tmp_path: Path) -> None:
    values = coloured((1, 0, 0), (0, 7, 0), (0, 0, 200)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), PAINTED)


def test_many_instances_touching_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((400, 400), np.uint16)
    for number in range(1, 301):
        row, column, height, width = *rng.integers(0, 380, 2), *rng.integers(1, 9, 2)
        values[row : row + height, column : column + width] = number
    for each in (values, (values % 251).astype(np.uint8)):
        Image.fromarray(each).save(tmp_path / "mask.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), each > 0)


@pytest.mark.parametrize("value", [1, 60, 255])
def test_one_value_everywhere_is_anomalous_everywhere(value: int, tmp_path: Path) -> None:
    Image.new("L", (8, 6), value).save(tmp_path / "mask.png")
    found = read_mask_with_notes(tmp_path / "mask.png")
    assert found.pixels.all()
    assert found.facts.even
    assert found.facts.share == 1


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (8, 6)),
        Image.new("RGBA", (8, 6)),
        Image.new("RGBA", (8, 6), (255, 0, 0, 0)),
        Image.new("1", (8, 6)),
    ],
    ids=["black", "transparent", "transparent red", "1 bit"],
)
def test_an_empty_mask(image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "mask.png")
    found = read_mask_with_notes(tmp_path / "mask.png")
    assert found.facts.share == 0
    assert not found.facts.even


# Grades: half of full scale


def smooth(factor: int, colour: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """A mask drawn at `factor` times the resolution and averaged, and where half of each pixel is covered."""
    image = Image.new("L", (SIDE * factor, SIDE * factor))
    ImageDraw.Draw(image).ellipse([side * factor for side in (20, 15, 70, 50)], fill=255)
    ImageDraw.Draw(image).line([side * factor for side in (10, 60, 80, 90)], fill=255, width=4 * factor)
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(int)
    return (small * colour // 255).astype(np.uint8), small > 127


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["grey", "red", "transparent", "16 bit", "float"])
def test_antialiased_edges_are_cut_at_half(factor: int, kind: str, tmp_path: Path) -> None:
    values, half = smooth(factor)
    nothing = np.zeros_like(values)
    image = {
        "grey": values,
        "red": np.stack([values, nothing, nothing], -1),
        "transparent": np.stack([nothing + 255, nothing, nothing, values], -1),
        "16 bit": values.astype(np.uint16) * 257,
        "float": values.astype(np.float32) / 255,
    }[kind]
    file = tmp_path / ("mask.tif" if kind == "float" else "mask.png")
    Image.fromarray(image).save(file)
    np.testing.assert_array_equal(read_mask(file), half)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("value", [100, 255])
@pytest.mark.parametrize("resaved", [False, True], ids=["JPEG", "saved again as PNG"])
def test_jpeg(quality: int, value: int, resaved: bool, tmp_path: Path) -> None:
    whole = BLOT | BAR
    buffer = written(Image.fromarray(whole * np.uint8(value)), "JPEG", quality=quality)
    (tmp_path / "mask.jpg").write_bytes(buffer.getvalue())
    file = tmp_path / "mask.jpg"
    if resaved:
        file = tmp_path / "mask.png"
        Image.open(buffer).save(file)
    found = read_mask(file)
    # At the highest quality a saved-again file has four values only, which might be classes: one pixel of edge.
    assert (found ^ whole).sum() <= (0.05 if resaved and quality == 100 else 0.01) * whole.sum()


@pytest.mark.parametrize("colour", [(128, 0, 0), (0, 128, 0), (128, 128, 128), (135, 135, 135), (60, 0, 0)])
def test_a_class_near_half_of_full_scale_in_a_jpeg_is_whole(colour: tuple[int, int, int], tmp_path: Path) -> None:
    whole = BLOT | BAR
    pixels = np.zeros((*whole.shape, 3), np.uint8)
    pixels[whole] = colour
    Image.fromarray(pixels).save(tmp_path / "mask.jpg", quality=90, subsampling=0)
    found = read_mask_with_notes(tmp_path / "mask.jpg")
    assert (found.pixels ^ whole).sum() <= 0.02 * whole.sum()
    assert not found.facts.lost


def test_a_dark_class_in_a_jpeg_is_lost_and_that_is_said(tmp_path: Path) -> None:
    Image.fromarray(classes(60, 180, 0)).save(tmp_path / "mask.jpg")
    found = read_mask_with_notes(tmp_path / "mask.jpg")
    assert found.facts.lost
    assert (found.pixels ^ BAR).sum() <= 0.02 * BAR.sum()


def test_continuous_floats_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32) * 40
    Image.fromarray(values).save(tmp_path / "mask.tif")
    with pytest.raises(ImageError, match="floating-point; save it as 8 bit"):
        read_mask(tmp_path / "mask.tif")
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "mask.tif")
    with pytest.raises(ImageError, match="are no numbers"):
        read_mask(tmp_path / "mask.tif")


@given(
    ground=st.integers(0, 255),
    values=st.lists(st.integers(1, 255), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_boxes_of_any_classes_are_all_marked(ground: int, values: list[int], seed: int) -> None:
    """Boxes that do not touch, on a background that is black or else the commonest value."""
    rng = np.random.default_rng(seed)
    picture = np.full((48, 48), ground, np.uint8)
    for number, value in enumerate(values):
        row, column = 16 * (number // 3), 16 * (number % 3)
        height, width = rng.integers(1, 12, 2)
        picture[row + 1 : row + 1 + height, column + 1 : column + 1 + width] = value
    expected = picture != ground
    if ground and (picture == 0).any():
        expected = picture != 0
    if expected.any():
        found = marked(Image.fromarray(picture), name="mask", lossy=False, without_black="commonest")
        np.testing.assert_array_equal(found.pixels, expected)


# Several files, and other sizes


def test_a_mask_of_several_files_is_their_union(tmp_path: Path) -> None:
    files = tuple(save_image(tmp_path / f"000/{i}.png", one * np.uint8(i + 1)) for i, one in enumerate((BLOT, BAR)))
    np.testing.assert_array_equal(read_mask(files, size=(SIDE, SIDE)), BLOT | BAR)
    assert mask_files(files) == files
    assert mask_name(files) == str(tmp_path / "000")
    save_image(tmp_path / "000/1.png", np.ones((4, 9), np.uint8))
    with pytest.raises(ImageError, match="differ in size"):
        read_mask(files)
    with pytest.raises(ImageError, match="the mask is 4 x 9"):
        read_mask(files, size=(SIDE, SIDE))


def test_what_is_thinner_than_a_pixel_of_the_image_is_not_lost(tmp_path: Path) -> None:
    large = np.zeros((90, 90), np.uint8)
    large[1, :] = 255  # between the rows that a third of the size would take
    file = save_image(tmp_path / "mask.png", large)
    found = read_mask(file, size=(30, 30))
    assert found[0].all()
    assert not found[1:].any()


# Masks for what does not count


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.where(PAINTED, 0, 100), ~PAINTED),  # most is ignored, in grey
        (np.where(PAINTED, 1, 255), ~PAINTED),
        (np.where(PAINTED, 20, 235), ~PAINTED),
        (np.where(PAINTED, 60, 0), PAINTED),
    ],
    ids=["0 and 100", "1 and 255", "20 and 235", "60 and 0"],
)
def test_what_is_ignored_is_the_brighter_part(values: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    file = save_image(tmp_path / "ignore.png", values.astype(np.uint8))
    size = (SIDE, SIDE)
    np.testing.assert_array_equal(IgnoreMask(file).mask(None, size), expected)
    save_image(tmp_path / "each/000.png", values.astype(np.uint8))
    np.testing.assert_array_equal(IgnoreMask(tmp_path / "each").mask("000.jpg", size), expected)


# What the verbs say


def census_of(tmp_path: Path, *masks: np.ndarray) -> list[tuple[str, str]]:
    census = MaskCensus(tmp_path)
    for number, mask in enumerate(masks):
        file = save_image(tmp_path / f"ground_truth/{number}.png", mask)
        census.add(file, read_mask_with_notes(file).facts)
    return [(found.severity, found.message) for found in census.findings()]


def test_sound_masks_are_no_news(tmp_path: Path) -> None:
    painted = PAINTED * np.uint8(255)
    assert census_of(tmp_path, painted, painted, 255 - painted) == []  # one large defect among three is a defect


def test_what_is_odd_is_said_with_counts_and_names(tmp_path: Path) -> None:
    painted = PAINTED * np.uint8(255)
    soft = np.asarray(Image.open(written(Image.fromarray(classes(60, 180, 0)), "JPEG")))
    found = census_of(tmp_path, 255 - painted, 255 - painted, 0 * painted, soft, 0 * painted + 9)
    texts = [f"{severity}: {message}" for severity, message in found]
    assert [text.split(":")[0] for text in texts] == ["warning", "warning", "warning", "note"]
    assert "1 empty mask of defective images" in texts[0]
    assert texts[0].endswith("ground_truth/2.png")
    assert "1 mask loses values" in texts[1]
    assert texts[1].endswith("ground_truth/3.png")
    assert "3 of 5 masks mark more than half" in texts[2]
    assert texts[2].endswith("ground_truth/0.png, ground_truth/1.png, ground_truth/4.png")
    assert "1 mask has one value everywhere" in texts[3]


def inverted(parts: Path) -> None:
    for file in sorted((parts / "ground_truth/stain").iterdir()):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[:10] = 255
        save_image(file, 255 - pixels)


def empty(parts: Path) -> None:
    save_image(parts / "ground_truth/stain/1_mask.png", np.zeros((64, 64), np.uint8))


FAULTS = {"inverted": (inverted, "2 of 2 masks mark more than half"), "empty": (empty, "1 empty mask")}


@pytest.mark.parametrize("name", FAULTS)
def test_every_verb_that_reads_masks_warns(name: str, parts: Path, tiny_model: Path, run, tmp_path: Path) -> None:
    spoil, words = FAULTS[name]
    spoil(parts)
    assert [one.message for one in examine(read_data_set(parts)).problems if words in one.message]
    outcome = run("evaluate", tiny_model, parts, "--json")
    assert outcome.status == 0
    assert words in outcome.err
    assert len(outcome.json["mask_warnings"]) == 1
    outcome = run("report", tiny_model, parts, "-o", tmp_path / "report.html")
    assert words in outcome.err
    assert words in (tmp_path / "report.html").read_text()


def test_an_audit_warns(parts: Path, tiny_model: Path, run, tmp_path: Path) -> None:
    for i in range(10, 20):
        save_image(parts / f"train/good/{i}.png", noise(200 + i))
    inverted(parts)
    outcome = run("audit", tiny_model, parts, "-o", tmp_path / "audit.html", "--json")
    assert outcome.status == 0
    assert "2 of 2 masks mark more than half" in outcome.err
    assert len(outcome.json["mask_warnings"]) == 1


def test_training_reads_masks_first_and_hears_of_them(parts: Path) -> None:
    inverted(parts)
    data = read_data_set(parts)
    census = MaskCensus(parts)
    pixels = read_pixels(data.test, (32, 32), census=census, progress=lambda *_: None, notify=lambda _: None)
    assert len(census.warnings()) == 1
    assert pixels.sizes == ((64, 64),) * 5
    (parts / "ground_truth/stain/0_mask.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="0_mask"):
        read_pixels(data.test, (32, 32), census=census, progress=lambda *_: None, notify=lambda _: None)


def test_masks_come_to_network_size_without_the_image(parts: Path) -> None:
    save_image(parts / "ground_truth/stain/0_mask.png", np.kron(np.eye(16, dtype=np.uint8), np.ones((2, 2), np.uint8)))
    data = read_data_set(parts)
    pixels = read_pixels(data.test, (32, 32), progress=lambda *_: None, notify=lambda _: None)
    index = next(i for i, sample in enumerate(pixels.samples) if sample.path.name == "0.png" and sample.anomalous)
    pixels.samples[index].path.unlink()
    np.testing.assert_array_equal(pixels.mask(index), np.kron(np.eye(16), np.ones((2, 2))) > 0)


def test_an_empty_mask_is_no_mask_to_learn_from(parts: Path) -> None:
    for i in range(3):
        save_image(parts / f"train/stain/{i + 7}.png", noise(i))
        save_image(parts / f"ground_truth/train/stain/{i + 7}.png", (i > 0) * (PAINTED[:64, :64] * np.uint8(80)))
    diagnosis = examine(read_data_set(parts))
    assert diagnosis.supervision == "masks for 2 of 3 labelled defects"
    assert diagnosis.masks == {"train": 2, "test": 2}


def test_training_counts_masks_that_mark_something(parts: Path) -> None:
    from blemish.training.data import TrainingImages  # torch may be imported here

    empty(parts)
    data = read_data_set(parts)
    pixels = read_pixels(data.test, (32, 32), progress=lambda *_: None, notify=lambda _: None)
    labelled = [index for index, sample in enumerate(pixels.samples) if sample.anomalous]
    images = TrainingImages(
        data_set=data,
        shape=Shape(),
        size=(32, 32),
        pixels=pixels,
        nominal=[],
        copies=0,
        labelled=labelled,
        ignored=0,
    )
    assert (len(labelled), images.masks) == (2, 1)
