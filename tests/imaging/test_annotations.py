"""Annotations of labelme, COCO and YOLO as masks: right to the pixel, found in any folder, refused in a sentence."""

import base64
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.imaging.annotations import Annotation, find_annotations
from blemish.imaging.errors import ImageError
from blemish.imaging.masks import mask_files, mask_name, read_mask, read_mask_with_notes
from blemish.imaging.shapes import decode_runs, fill_polygon, unpack_runs
from helpers.images import noise, save_image, stained

SIZE = (40, 60)  # height, width


def box(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


BOX = box(10, 5, 30, 25)
OUTLINE = [[10, 5], [30, 5], [30, 25], [10, 25]]


# Pixels


def holds(points: np.ndarray, x: float, y: float) -> bool:
    """Whether a polygon holds a point: a ray to the right crosses an odd number of its edges."""
    odd = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            odd = not odd
    return odd


@given(
    corners=st.lists(
        st.tuples(st.floats(-4, 20, width=32), st.floats(-4, 16, width=32)), min_size=3, max_size=8, unique=True
    )
)
def test_a_polygon_holds_the_pixels_whose_centres_lie_inside(corners: list[tuple[float, float]]) -> None:
    # Odd thousandths, so that no centre lies on an edge but for rounding.
    points = np.array(corners, np.float64) + 0.000317
    expected = np.array([[holds(points, x + 0.5, y + 0.5) for x in range(16)] for y in range(12)])
    mask = np.zeros((12, 16), bool)
    fill_polygon(mask, points)
    if expected.any():
        np.testing.assert_array_equal(mask, expected)
    else:  # too thin: its outline instead, as far as it lies in the image
        assert mask.any()


def test_what_is_thinner_than_a_pixel_is_marked_along_its_outline() -> None:
    mask = np.zeros((12, 16), bool)
    fill_polygon(mask, np.array([[2.1, 3.1], [12.9, 3.1], [12.9, 3.2], [2.1, 3.2]]))
    np.testing.assert_array_equal(mask, box(2, 3, 13, 4, (12, 16)))


def pack_runs(counts: list[int]) -> str:
    """COCO's compression, for numbers below 512 of either sign."""
    text = ""
    for index, count in enumerate(counts):
        left = count - counts[index - 2] if index > 2 else count
        while True:
            five, left = left & 31, left >> 5
            more = not (left == 0 and not five & 16) and not (left == -1 and five & 16)
            text += chr(five + 32 * more + 48)
            if not more:
                break
    return text


def runs_of(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    return [0] * bool(flat[0]) + np.diff(ends).tolist()


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_run_lengths_come_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((7, 11)) < share
    counts = runs_of(mask)
    np.testing.assert_array_equal(decode_runs(np.array(counts), (7, 11)), mask)
    assert unpack_runs(pack_runs(counts)).tolist() == counts


def test_compressed_run_lengths_as_pycocotools_writes_them() -> None:
    expected = np.zeros((29, 32), bool)
    expected[9:, 8:] = True
    text = "a7d09" + 45 * "0"
    np.testing.assert_array_equal(decode_runs(unpack_runs(text), (29, 32)), expected)


@pytest.mark.parametrize("text", ["~~~~", "é", "P", "PPPPPPPPPPPPPP1", " "])
def test_damaged_run_lengths_are_refused(text: str) -> None:
    with pytest.raises(BlemishError):
        decode_runs(unpack_runs(text), (3, 4))


# Files


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme(*shapes: dict[str, Any], size: tuple[int, int] | None = SIZE, **more: Any) -> str:
    sides = {} if size is None else {"imageHeight": size[0], "imageWidth": size[1]}
    return json.dumps({"shapes": list(shapes), "imagePath": "000.png", "imageData": None} | sides | more)


def shape(points: Any, kind: str = "polygon", label: str = "crack", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def coco(*annotations: dict[str, Any], size: tuple[int, int] = SIZE, name: str = "000.png") -> str:
    image = {"id": 7, "file_name": name, "height": size[0], "width": size[1]}
    given = [{"id": i, "image_id": 7, "category_id": 1, "iscrowd": 0} | one for i, one in enumerate(annotations)]
    return json.dumps({"images": [image], "annotations": given, "categories": [{"id": 1, "name": "crack"}]})


def yolo(*rows: list[float]) -> str:
    return "\n".join(" ".join(map(str, row)) for row in rows)


FLAT = [10, 5, 30, 5, 30, 25, 10, 25]
SHARES = [[x / SIZE[1], y / SIZE[0]] for x, y in OUTLINE]
HOLE = box(15, 10, 20, 15)
DISC = (np.mgrid[:40, :60][0] - 14.5) ** 2 + (np.mgrid[:40, :60][1] - 19.5) ** 2 <= 64
READ: dict[str, tuple[str, str, np.ndarray, int]] = {
    "labelme polygon": ("json", labelme(shape(OUTLINE)), BOX, 0),
    "labelme without a type": ("json", labelme({"label": "x", "points": OUTLINE}), BOX, 0),
    "labelme rectangle": ("json", labelme(shape([[30, 25], [10, 5]], "rectangle")), BOX, 0),
    "labelme circle": ("json", labelme(shape([[20, 15], [28, 15]], "circle")), DISC, 0),
    "labelme line": ("json", labelme(shape([[10.5, 5.5], [29.5, 5.5]], "line")), box(10, 5, 30, 6), 0),
    "labelme linestrip": (
        "json",
        labelme(shape([[10.5, 5.5], [29.5, 5.5], [29.5, 9.5]], "linestrip")),
        box(10, 5, 30, 6) | box(29, 5, 30, 10),
        0,
    ),
    "labelme point": ("json", labelme(shape([[10.5, 5.5]], "point")), box(10, 5, 11, 6), 0),
    "labelme mask": ("json", labelme(shape([[10, 5], [29, 24]], "mask", mask=png(np.ones((20, 20), bool)))), BOX, 0),
    "labelme two shapes": (
        "json",
        labelme(shape(OUTLINE), shape([[0, 0], [4, 0], [4, 4], [0, 4]])),
        BOX | box(0, 0, 4, 4),
        0,
    ),
    "labelme with a hole": (
        "json",
        labelme(shape(OUTLINE), shape([[15, 10], [20, 15]], "rectangle", "_background_")),
        BOX & ~HOLE,
        0,
    ),
    "labelme at twice the size": ("json", labelme(shape([[2 * x, 2 * y] for x, y in OUTLINE]), size=(80, 120)), BOX, 0),
    "labelme without a size": ("json", labelme(shape(OUTLINE), size=None), BOX, 0),
    "labelme without shapes": ("json", labelme(), BOX & False, 0),
    "labelme a little over the border": (
        "json",
        labelme(shape([[-0.4, 0], [60.4, 0], [60, 10], [0, 10]])),
        box(0, 0, 60, 10),
        0,
    ),
    "COCO polygon": ("json", coco({"segmentation": [FLAT]}), BOX, 0),
    "COCO two polygons": ("json", coco({"segmentation": [FLAT, [0, 0, 4, 0, 4, 4, 0, 4]]}), BOX | box(0, 0, 4, 4), 0),
    "COCO two annotations": (
        "json",
        coco({"segmentation": [FLAT]}, {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}),
        BOX | box(0, 0, 4, 4),
        0,
    ),
    "COCO run lengths": ("json", coco({"segmentation": {"size": list(SIZE), "counts": runs_of(BOX)}}), BOX, 0),
    "COCO compressed": (
        "json",
        coco({"segmentation": {"size": list(SIZE), "counts": pack_runs(runs_of(DISC))}}),
        DISC,
        0,
    ),
    "COCO box": ("json", coco({"bbox": [10, 5, 20, 20]}), BOX, 1),
    "COCO box and no outline": ("json", coco({"bbox": [10, 5, 20, 20], "segmentation": []}), BOX, 1),
    "COCO nothing": ("json", coco(), BOX & False, 0),
    "COCO at half the size": (
        "json",
        coco({"segmentation": [[side / 2 for side in FLAT]]}, size=(20, 30)),
        BOX,
        0,
    ),
    "YOLO outline": ("txt", yolo([0, *np.ravel(SHARES)]), BOX, 0),
    "YOLO two lines": (
        "txt",
        yolo([0, *np.ravel(SHARES)], [3, 0, 0, 0.1, 0, 0.1, 0.1, 0, 0.1]),
        BOX | box(0, 0, 6, 4),
        0,
    ),
    "YOLO box": ("txt", yolo([0, 20 / 60, 15 / 40, 20 / 60, 20 / 40]), BOX, 1),
    "YOLO box with a confidence": ("txt", yolo([0, 20 / 60, 15 / 40, 20 / 60, 20 / 40, 0.9]), BOX, 1),
    "YOLO nothing": ("txt", "", BOX & False, 0),
    "YOLO blank lines": ("txt", "\n" + yolo([0, *np.ravel(SHARES)]) + "\n\n", BOX, 0),
}


@pytest.mark.parametrize("name", READ)
def test_every_annotation_marks_what_was_drawn(name: str, tmp_path: Path) -> None:
    suffix, text, expected, boxes = READ[name]
    file = tmp_path / f"000.{suffix}"
    file.write_text(text, encoding="utf-8")
    source = Annotation(file, "000.png" if name.startswith("COCO") else "")
    found = read_mask_with_notes(source, size=SIZE)
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.facts.boxes == boxes
    assert mask_files(source) == (file,)
    assert mask_name(source) == f"{file} (000.png)" if source.key else str(file)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "000.json").write_text(labelme(shape(OUTLINE)), encoding="utf-8-sig")
    np.testing.assert_array_equal(read_mask(Annotation(tmp_path / "000.json"), size=SIZE), BOX)


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "cut off": ("json", labelme(shape(OUTLINE))[:60], "not valid JSON"),
    "not text": ("json", b"\xff\xfe\x00\x81", "not UTF-8"),
    "empty": ("json", "", "not valid JSON"),
    "nested deeply": ("json", "[" * 200_000, "nested too deeply|not valid JSON"),
    "a list": ("json", "[1, 2]", "neither labelme's nor COCO's"),
    "other JSON": ("json", '{"camera": 3}', "neither labelme's nor COCO's"),
    "no shapes": ("json", '{"imagePath": "000.png", "imageData": null}', "no list of shapes"),
    "shapes of another type": ("json", labelme()[:-1] + ', "shapes": {"a": 1}}', "no list of shapes"),
    "a shape of another type": ("json", '{"shapes": [3]}', "no object"),
    "points of words": ("json", labelme(shape([["a", "b"]] * 3)), "no pairs of numbers"),
    "no points": ("json", labelme({"label": "x", "shape_type": "polygon"}), "no pairs of numbers"),
    "points of three numbers": ("json", labelme(shape([[1, 2, 3]] * 3)), "no pairs of numbers"),
    "points of infinity": ("json", labelme(shape([[1, 2], [3, float("inf")], [3, 4]])), "no finite numbers"),
    "points of NaN": ("json", labelme(shape([[1, 2], [3, float("nan")], [3, 4]])), "no finite numbers"),
    "too few points": ("json", labelme(shape([[1, 2], [3, 4]])), "a polygon of 2 points"),
    "a point outside": (
        "json",
        labelme(shape([[1, 2], [3, 4], [900, 5]])),
        "x 900 and y 5, lies outside of the image 40 x 60",
    ),
    "a huge point": ("json", labelme(shape([[1, 2], [3, 4], [1e300, 5]])), "lies outside"),
    "an unknown shape": ("json", labelme(shape(OUTLINE, "spiral")), "of the kind spiral"),
    "a damaged mask": ("json", labelme(shape([[10, 5], [29, 24]], "mask", mask="AAAA")), "a mask in it is damaged"),
    "another image": (
        "json",
        labelme(shape(OUTLINE), size=(300, 300)),
        "of an image 300 x 300, but the image is 40 x 60",
    ),
    "a huge image": ("json", labelme(shape(OUTLINE), size=(10**6, 10**6)), "above the limit"),
    "COCO without names": ("json", '{"images": [{"id": 1}], "annotations": []}', "no file_name"),
    "COCO without ids": ("json", '{"images": [{"file_name": "000.png"}], "annotations": []}', "no id"),
    "COCO of no image": ("json", coco({"image_id": 9, "segmentation": [FLAT]}), "one of no image"),
    "COCO with a list as id": ("json", coco({"image_id": [9], "segmentation": [FLAT]}), "one of no image"),
    "COCO of words": ("json", coco({"segmentation": [["a"] * 6]}), "no pairs of numbers"),
    "COCO odd": ("json", coco({"segmentation": [FLAT[:-1]]}), "no pairs of numbers"),
    "COCO of two points": ("json", coco({"segmentation": [FLAT[:4]]}), "an outline of 2 points"),
    "COCO outside": ("json", coco({"segmentation": [[*FLAT, 500, 2]]}), "lies outside"),
    "COCO without anything": ("json", coco({}), "neither a segmentation nor a box"),
    "COCO with a box of three": ("json", coco({"bbox": [1, 2, 3]}), "no pairs of numbers"),
    "COCO with a negative box": ("json", coco({"bbox": [10, 5, -4, 3]}), "neither a segmentation nor a box"),
    "COCO short run lengths": ("json", coco({"segmentation": {"size": [40, 60], "counts": [5, 6]}}), "do not add up"),
    "COCO negative run lengths": ("json", coco({"segmentation": {"size": [40, 60], "counts": [2500, -100]}}), "add up"),
    "COCO run lengths of words": ("json", coco({"segmentation": {"size": [40, 60], "counts": ["a"]}}), "whole numbers"),
    "COCO run lengths of another size": ("json", coco({"segmentation": {"size": [4, 6], "counts": [24]}}), "4 x 6"),
    "COCO run lengths without a size": ("json", coco({"segmentation": {"counts": [24]}}), "no size"),
    "COCO damaged compression": ("json", coco({"segmentation": {"size": [40, 60], "counts": "~~"}}), "damaged"),
    "COCO cut off": ("json", coco({"segmentation": {"size": [40, 60], "counts": "P"}}), "cut off"),
    "YOLO in pixels": ("txt", "0 10 5 30 5 30 25", "line 1 has a number above 1"),
    "YOLO of words": ("txt", yolo([0, 0.1, 0.1, 0.2, 0.2]) + "\n0 a b c d", "line 2 is not a class with numbers"),
    "YOLO odd": ("txt", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "7 numbers after the class"),
    "YOLO of NaN": ("txt", "0 nan 0.1 0.2 0.2", "not a class with numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_annotation_is_one_sentence_with_its_name(name: str, tmp_path: Path) -> None:
    suffix, content, says = BAD[name]
    file = tmp_path / f"000.{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    key = "000.png" if name.startswith("COCO") else ""
    with pytest.raises(ImageError, match=says) as caught:
        read_mask(Annotation(file, key), size=SIZE)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_mask(Annotation(tmp_path / "000.json"), size=SIZE)
    (tmp_path / "000.json").write_text(coco())
    with pytest.raises(ImageError, match="no such image in it"):
        read_mask(Annotation(tmp_path / "000.json", "other.png"), size=SIZE)
    (tmp_path / "000.txt").write_text("0 .1 .1 .2 .2")
    with pytest.raises(ImageError, match="no image is given"):
        read_mask(Annotation(tmp_path / "000.txt"))


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    for text, expected in ((coco({"segmentation": [FLAT]}), BOX), (coco(), BOX & False)):
        file.write_text(text)
        np.testing.assert_array_equal(read_mask(Annotation(file, "000.png"), size=SIZE), expected)


# Where they lie


def names(*images: str) -> str:
    """A COCO file of some images."""
    records = [{"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(images)]
    return json.dumps(
        {"images": records, "annotations": [{"image_id": i, "bbox": [1, 2, 3, 4]} for i in range(len(images))]}
    )


ONE = labelme(shape(OUTLINE))
LINE = yolo([0, *np.ravel(SHARES)])
FOUND: dict[str, tuple[dict[str, str], list[str], dict[str, tuple[str, str]]]] = {
    "labelme beside": (
        {"test/crack/000.json": ONE},
        ["test/crack/000.png", "test/good/000.png"],
        {"test/crack/000.png": ("test/crack/000.json", "")},
    ),
    "labelme by imagePath": (
        {"labels/a.json": labelme(shape(OUTLINE), imagePath="..\\test\\crack\\000.png")},
        ["test/crack/000.png", "test/good/000.png"],
        {"test/crack/000.png": ("labels/a.json", "")},
    ),
    "labelme mirrored": (
        {"ground_truth/crack/000.json": ONE},
        ["test/crack/000.png", "test/good/000.png"],
        {"test/crack/000.png": ("ground_truth/crack/000.json", "")},
    ),
    "labelme of a name in train and test": (
        {"ground_truth/crack/000.json": ONE, "ground_truth/train/crack/000.json": ONE},
        ["test/crack/000.png", "train/crack/000.png"],
        {
            "test/crack/000.png": ("ground_truth/crack/000.json", ""),
            "train/crack/000.png": ("ground_truth/train/crack/000.json", ""),
        },
    ),
    "COCO by path": (
        {"annotations/instances.json": names("test/crack/000.png", "test/dent/000.png")},
        ["test/crack/000.png", "test/dent/000.png"],
        {
            "test/crack/000.png": ("annotations/instances.json", "test/crack/000.png"),
            "test/dent/000.png": ("annotations/instances.json", "test/dent/000.png"),
        },
    ),
    "COCO beside, by name": (
        {"test/crack/_annotations.coco.json": names("000.png")},
        ["test/crack/000.png", "test/dent/000.png"],
        {"test/crack/000.png": ("test/crack/_annotations.coco.json", "000.png")},
    ),
    "COCO by the path of another machine": (
        {"all.json": names("C:\\data\\crack\\000.png")},
        ["test/crack/000.png", "test/dent/000.png"],
        {"test/crack/000.png": ("all.json", "C:\\data\\crack\\000.png")},
    ),
    "COCO by a name alone": (
        {"all.json": names("7.png")},
        ["test/crack/7.png"],
        {"test/crack/7.png": ("all.json", "7.png")},
    ),
    "COCO by a name in the split that its own name says": (
        {"annotations/instances_train2017.json": names("0.png"), "annotations/instances_val2017.json": names("0.png")},
        ["train2017/0.png", "val2017/0.png"],
        {
            "train2017/0.png": ("annotations/instances_train2017.json", "0.png"),
            "val2017/0.png": ("annotations/instances_val2017.json", "0.png"),
        },
    ),
    "COCO by an ambiguous name": ({"all.json": names("000.png")}, ["test/crack/000.png", "test/dent/000.png"], {}),
    "YOLO beside": (
        {"test/crack/000.txt": LINE},
        ["test/crack/000.png"],
        {"test/crack/000.png": ("test/crack/000.txt", "")},
    ),
    "YOLO in labels/": (
        {"labels/train/000.txt": LINE, "labels/val/000.txt": ""},
        ["images/train/000.jpg", "images/val/000.jpg"],
        {"images/train/000.jpg": ("labels/train/000.txt", ""), "images/val/000.jpg": ("labels/val/000.txt", "")},
    ),
    "YOLO in the split's labels/": (
        {"train/labels/000.txt": LINE},
        ["train/images/000.jpg", "valid/images/000.jpg"],
        {"train/images/000.jpg": ("train/labels/000.txt", "")},
    ),
    "names in another case": (
        {"test/crack/A.JSON": ONE},
        ["test/crack/a.PNG"],
        {"test/crack/a.PNG": ("test/crack/A.JSON", "")},
    ),
    "text that is none": (
        {"test/crack/000.txt": "a photograph of a crack", "README.txt": "0 0 0 0 0", "classes.txt": "crack"},
        ["test/crack/000.png"],
        {},
    ),
    "JSON that is none": ({"test/crack/000.json": '{"camera": 3}', "config.json": "[]"}, ["test/crack/000.png"], {}),
}


@pytest.mark.parametrize("name", FOUND)
def test_annotations_are_found(name: str, tmp_path: Path) -> None:
    files, images, expected = FOUND[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = find_annotations(tmp_path, [PurePosixPath(file) for file in files], [PurePosixPath(i) for i in images])
    # `imagePath` of labelme's files is 000.png here, whatever they are called.
    assert {str(image): (str(one.file.relative_to(tmp_path)), one.key) for image, one in found.of.items()} == expected
    if expected:
        assert {str(file) for file in found.files} == {file for file, _ in expected.values()}


UNREAD = {
    "CVAT": ("annotations.xml", '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>', True),
    "Pascal VOC": ("Annotations/000.xml", "<annotation><object/></annotation>", True),
    "run lengths": ("train.csv", "ImageId,ClassId,EncodedPixels\n000.png,1,5 3\n", True),
    "VIA": ("via.json", '{"_via_settings": {}, "_via_img_metadata": {}}', True),
    "VIA, regions alone": ("via.json", '{"000.png123": {"filename": "000.png", "regions": []}}', True),
    "Label Studio": ("export.json", '[{"id": 1, "annotations": [{"result": []}]}]', True),
    "a list of names": ("names.csv", "image,label\ncharles.png,good\n", False),
    "settings": ("camera.json", '{"exposure": 3}', False),
    "other XML": ("log.xml", "<log/>", False),
}


@pytest.mark.parametrize("name", UNREAD)
def test_annotations_that_are_not_read_are_said(name: str, tmp_path: Path) -> None:
    path, text, said = UNREAD[name]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    found = find_annotations(tmp_path, [PurePosixPath(path)], [PurePosixPath("000.png")])
    assert not found.of
    assert not found.files
    assert len(found.notes) == said
    if said:
        assert found.notes[0].startswith(f"1 file with annotations in a form that is not read: {path}; save them as")


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    files = {
        "annotations/broken.json": '{"images": [',
        "annotations/a.json": names("000.png", "gone.png"),
        "labels/lonely.json": labelme(shape(OUTLINE), imagePath="lonely.png"),
        "000.json": "{",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = find_annotations(tmp_path, [PurePosixPath(file) for file in files], [PurePosixPath("000.png")])
    notes = "\n".join(found.notes)
    assert "broken.json: not valid JSON" in notes
    assert "1 of 2 images in it" in notes
    assert "gone.png" in notes
    assert "lonely.json: an annotation without an image" in notes
    assert len(found.notes) == 3
    with pytest.raises(ImageError, match="not valid JSON"):
        read_mask(found.of[PurePosixPath("000.png")], size=SIZE)


# In a data set


def annotated(root: Path, kind: str) -> None:
    """The stains' masks as annotations in place of pictures."""
    square = [[16, 16], [48, 16], [48, 48], [16, 48]]
    for i in range(2):
        (root / f"ground_truth/stain/{i}_mask.png").unlink()
        if kind == "labelme":
            text = labelme(shape(square), size=(64, 64), imagePath=f"{i}.png")
            (root / f"test/stain/{i}.json").write_text(text)
        elif kind == "YOLO":
            (root / f"test/stain/{i}.txt").write_text(yolo([0, *(np.ravel(square) / 64)]))
    (root / "ground_truth/stain").rmdir()
    (root / "ground_truth").rmdir()
    if kind == "COCO":
        images = [{"id": i, "file_name": f"test/stain/{i}.png", "height": 64, "width": 64} for i in range(2)]
        given = [{"image_id": i, "segmentation": [[float(v) for v in np.ravel(square)]]} for i in range(2)]
        (root / "annotations").mkdir()
        (root / "annotations/instances.json").write_text(json.dumps({"images": images, "annotations": given}))


@pytest.mark.parametrize("kind", ["labelme", "COCO", "YOLO"])
def test_figures_are_those_of_mask_pictures(kind: str, parts: Path, tiny_model: Path, run) -> None:
    expected = run("evaluate", tiny_model, parts, "--json").json
    annotated(parts, kind)
    diagnosis = examine(read_data_set(parts))
    assert diagnosis.test.masks == {"stain": 2}
    assert [one.severity for one in diagnosis.problems if one.severity != "note"] == []
    assert not any("ignored" in one.message for one in diagnosis.problems)
    found = run("evaluate", tiny_model, parts, "--json").json
    assert found["pixel_auroc"] == expected["pixel_auroc"]
    assert found["aupro"] == expected["aupro"]


def test_boxes_are_said_and_faults_named(parts: Path, tiny_model: Path, run) -> None:
    annotated(parts, "YOLO")
    (parts / "test/stain/0.txt").write_text("0 .5 .5 .4 .4")
    (parts / "test/stain/1.txt").write_text("0 .5 .5 .4 4")
    messages = [one.message for one in examine(read_data_set(parts)).problems]
    assert any("1 mask is a bounding box" in message for message in messages)
    assert any("1.txt: line 1 has a number above 1" in message for message in messages)
    outcome = run("evaluate", tiny_model, parts)
    assert outcome.status == 0
    assert "1.txt: line 1 has a number above 1" in outcome.err


def test_a_labelled_image_in_training_is_annotated(parts: Path) -> None:
    save_image(parts / "train/stain/9.png", stained(9))
    (parts / "train/stain/9.json").write_text(labelme(shape(OUTLINE), size=(64, 64), imagePath="9.png"))
    save_image(parts / "train/stain/8.png", noise(8))
    assert examine(read_data_set(parts)).supervision == "masks for 1 of 2 labelled defects"
