"""Masks beside their images: found in every layout, by name, size and pixels, and used as masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set
from blemish.datasets.pixels import read_pixels
from blemish.evaluation.run import evaluate
from blemish.imaging.masks import read_mask
from blemish.model.detector import Detector
from helpers.images import SIDE, noise, save_image, stained

SIZE = (24, 16)  # width, height


def photograph(path: Path, *, size: tuple[int, int] = SIZE) -> Path:
    seed = np.random.default_rng(list(path.name.encode()))
    return save_image(path, seed.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def drawn(*, size: tuple[int, int] = SIZE, value: int = 255) -> np.ndarray:
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[2:8, 2:8] = value
    return pixels


# Beside an image called x, of 24 x 16 pixels: a file, its pixels, and whether it is a mask of x.
BESIDE = {
    "same name": ("x.png", drawn(), True),
    "same name, a class number": ("x.png", drawn(value=3), True),
    "same name, empty": ("x.png", drawn(value=0), True),
    "same name in upper case": ("X.PNG", drawn(), True),
    "_mask": ("x_mask.png", drawn(), True),
    "_label": ("x_label.bmp", drawn(), True),
    "_GT": ("x_GT.png", drawn(), True),
    "-mask": ("x-mask.png", drawn(), True),
    ".mask": ("x.mask.png", drawn(), True),
    "mask_": ("mask_x.png", drawn(), True),
    "gt_": ("gt_x.png", drawn(), True),
    "_ground_truth": ("x_ground_truth.png", drawn(), True),
    "_segmentation": ("x_segmentation.tif", drawn(), True),
    "_annotation": ("x_Annotation.png", drawn(), True),
    "numbered": ("x_mask_2.png", drawn(), True),
    "16 bits": ("x_mask.png", drawn().astype(np.uint16) * 257, True),
    "red": ("x_mask.png", np.stack([drawn(), drawn(value=0), drawn(value=0)], axis=2), True),
    "JPEG": ("x_mask.jpg", drawn(), True),
    "half as large": ("x_mask.png", drawn(size=(12, 8)), True),
    "another shape": ("x_mask.png", drawn(size=(16, 24)), False),
    "same name, another size": ("x.png", drawn(size=(12, 8)), False),
    "same name, a photograph": ("x.png", noise(1, size=(16, 24)), False),
    "_label, a photograph": ("x_label.png", noise(1, size=(16, 24)), False),
    "another name": ("y_mask.png", drawn(), False),
    "another name without a word": ("x_2.png", drawn(), False),
}


@pytest.mark.parametrize(("name", "pixels", "is_mask"), BESIDE.values(), ids=BESIDE)
def test_what_is_a_mask(tmp_path, name, pixels, is_mask):
    photograph(tmp_path / "good/g.png")
    image = photograph(tmp_path / "bad/x.jpg")
    beside = save_image(tmp_path / "bad" / name, pixels)
    data = read_data_set(tmp_path)
    found = {sample.path: sample.mask for sample in (*data.train, *data.test) if sample.anomalous}
    assert found == ({image: beside} if is_mask else {image: None, beside: None})
    if is_mask and pixels.any():
        np.testing.assert_array_equal(read_mask(beside, size=(16, 24))[2:8, 2:8].any(), True)
    assert [warning.paths for warning in data.warnings] == ([(beside,)] if pixels.shape == (24, 16) else [])


def test_a_photograph_by_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    photograph(tmp_path / "good/g.png")
    (tmp_path / "bad").mkdir()
    Image.fromarray(noise(1, size=(16, 24))).save(tmp_path / "bad/x.jpg", exif=exif)
    save_image(tmp_path / "bad/x.png", drawn(size=(16, 24)))
    [sample] = [one for split in (read_data_set(tmp_path).train, read_data_set(tmp_path).test) for one in split][1:]
    assert sample.mask == tmp_path / "bad/x.png"


def test_a_copy_in_two_values_is_no_mask(tmp_path):
    photograph(tmp_path / "good/g.png")
    drawing = drawn()
    save_image(tmp_path / "bad/x.bmp", drawing)
    save_image(tmp_path / "bad/x.jpg", drawing)
    save_image(tmp_path / "bad/x.png", drawing)
    data = read_data_set(tmp_path)
    assert sum(sample.anomalous for sample in (*data.train, *data.test)) == 3


def test_several_masks_of_one_image_count_together(tmp_path):
    photograph(tmp_path / "good/g.png")
    photograph(tmp_path / "bad/x.jpg")
    for name in ("x_mask_1.png", "x_mask_2.png", "x_mask_10.png"):
        save_image(tmp_path / "bad" / name, drawn())
    data = read_data_set(tmp_path)
    [sample] = [sample for sample in (*data.train, *data.test) if sample.anomalous]
    assert sample.mask == tuple(tmp_path / "bad" / f"x_mask_{number}.png" for number in (1, 2, 10))


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()], ids=["empty", "gone"]
)
def test_the_mask_of_an_image_that_cannot_be_read_is_no_image(tmp_path, damage):
    photograph(tmp_path / "good/g.png")
    image = photograph(tmp_path / "bad/x.jpg")
    save_image(tmp_path / "bad/x_mask.png", drawn())
    damage(image)
    if not image.exists():
        image.symlink_to(tmp_path / "nowhere.jpg")
    data = read_data_set(tmp_path)
    assert [sample.path for sample in (*data.train, *data.test) if sample.anomalous] == [image]


# The files of a layout, and those of them that are to be images.
SPLITS = {
    "mvtec": (["train/good/g", "test/good/h"], ["train/cut/a", "test/cut/b"], None),
    "nominal-anomalous": (["good/g"], ["bad/cut/a", "crack/b"], None),
    "one-vs-rest": (["train/dog/g", "test/dog/h"], ["test/cat/b"], "dog"),
    "reference": (["train/dog/normal/g", "test/dog/normal/h"], ["test/dog/anomalous/b"], "dog"),
}


@pytest.mark.parametrize("pair", [("{}.jpg", "{}.png"), ("{}.png", "{}_label.bmp"), ("{}.png", "mask_{}.png")], ids=str)
@pytest.mark.parametrize("layout", SPLITS)
def test_in_every_layout(tmp_path, layout, pair):
    good, defective, nominal_class = SPLITS[layout]
    wanted = {}
    for names, value in ((good, 0), (defective, 255)):
        for name in names:
            place = tmp_path / name
            image, beside = (place.with_name(form.format(place.name)) for form in pair)
            photograph(image)
            save_image(beside, drawn(value=value))
            wanted[image] = beside if value else None
    data = read_data_set(tmp_path, nominal_class=nominal_class)
    assert data.layout == layout
    assert {sample.path: sample.mask for sample in (*data.train, *data.test)} == wanted
    assert data.warnings == ()


def test_flat_masks_that_mark_nothing_leave_all_images_good(tmp_path):
    for name in "abc":
        photograph(tmp_path / f"{name}.jpg")
        save_image(tmp_path / f"{name}.png", drawn(value=0))
    data = read_data_set(tmp_path)
    assert [sample.path.name for sample in data.train] == ["a.jpg", "b.jpg", "c.jpg"]
    assert not any(sample.anomalous for sample in data.train)
    assert data.test == ()


def test_masks_that_say_what_is_defective_are_counted(tmp_path):
    for name in "abcd":
        photograph(tmp_path / f"{name}.jpg")
    save_image(tmp_path / "a_label.png", drawn())
    save_image(tmp_path / "b_label.png", drawn(value=0))
    data = read_data_set(tmp_path)
    assert data.notes[0] == (
        "masks say what is defective: 1 image with a mask that marks something, and 3 good, 2 of them without a mask"
    )
    assert "masks say what is defective" in examine(data).as_text()


def test_a_good_image_whose_mask_marks_something_is_a_warning(tmp_path):
    photograph(tmp_path / "train/good/0.jpg")
    image = photograph(tmp_path / "train/good/1.jpg")
    save_image(tmp_path / "train/good/1.png", drawn())
    photograph(tmp_path / "test/good/2.jpg")
    data = read_data_set(tmp_path)
    assert [sample.anomalous for sample in data.train] == [False, False]
    [warning] = data.warnings
    assert warning.message == "1 good image with a mask that marks something, taken as good: train/good/1.jpg"
    assert warning.paths == (image,)


def test_training_pixels_have_the_mask(tmp_path):
    photograph(tmp_path / "train/good/0.jpg")
    photograph(tmp_path / "train/cut/x.jpg")
    save_image(tmp_path / "train/cut/x.png", drawn())
    data = read_data_set(tmp_path)
    pixels = read_pixels(data.train, (16, 24), progress=lambda done, total: None, notify=print)
    np.testing.assert_array_equal(pixels.mask(0), drawn() > 0)
    assert pixels.mask(1) is None


def test_an_evaluation_measures_by_the_mask(tmp_path, tiny_model):
    """The same figures as with the masks in a folder of their own."""
    for number in range(3):
        for root in ("beside", "apart"):
            save_image(tmp_path / root / f"test/good/{number}.png", noise(50 + number))
            save_image(tmp_path / root / f"test/stain/{number}.png", stained(60 + number))
        mark = np.zeros((SIDE, SIDE), np.uint8)
        mark[SIDE // 4 : 3 * SIDE // 4, SIDE // 4 : 3 * SIDE // 4] = 255
        save_image(tmp_path / f"beside/test/stain/{number}_label.bmp", mark)
        save_image(tmp_path / f"apart/ground_truth/stain/{number}_mask.png", mark)
    beside, apart = (
        evaluate(Detector.load(tiny_model), read_data_set(tmp_path / root)) for root in ("beside", "apart")
    )
    assert beside.metrics["images"] == 6
    assert beside.metrics["pixel_auroc"] is not None
    names = ("image_auroc", "pixel_auroc", "aupro", "detection_rate")
    assert [beside.metrics[name] for name in names] == [apart.metrics[name] for name in names]


def test_no_image_is_opened_where_no_name_asks_for_it(tmp_path, monkeypatch):
    for name in ("train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png"):
        photograph(tmp_path / name)

    def refuse(path):
        raise AssertionError(f"opened {path}")

    monkeypatch.setattr("blemish.datasets.mask_beside.read_header", refuse)
    monkeypatch.setattr("blemish.datasets.mask_beside._look", refuse)
    assert len(read_data_set(tmp_path).test) == 1
