"""The paper's data sets that are folders of images, and what all data sets have in common."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import BlemishError
from blemish.experiments.data import fashion_mnist
from blemish.experiments.data.imagenet import SYNSETS
from blemish.experiments.data.sources import open_outliers, open_source
from blemish.experiments.data.tasks import ArrayImages, ResizeSpec, Selected, choose, select
from blemish.imaging import headers
from helpers.images import noise, save_image

SHARED = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_class_folders(root: Path, classes: dict[str, dict[str, int]], *, side: int = 12) -> None:
    seed = 0
    for split, counts in classes.items():
        for name, count in counts.items():
            for number in range(count):
                seed += 1
                save_image(root / split / name / f"{number}.png", noise(seed, size=(side, side)))


# Class folders


def test_class_folders_are_what_torchvision_reads(tmp_path):
    write_class_folders(tmp_path, {"train": {"cat": 3, "dog": 11}, "test": {"cat": 4, "dog": 2}})
    train, test = (torchvision.datasets.ImageFolder(tmp_path / split) for split in ("train", "test"))

    task = open_source("class-folders", tmp_path).task("dog")

    def by_content(images: list[np.ndarray]) -> list[bytes]:  # ImageFolder puts 10.png before 2.png
        return sorted(np.ascontiguousarray(image).tobytes() for image in images)

    dogs = [np.array(image).transpose(2, 0, 1) for image, label in train if label == 1]
    assert by_content(list(task.nominal.pixels.numpy())) == by_content(dogs)
    assert np.array_equal(task.test.pixels, [np.array(image).transpose(2, 0, 1) for image, _ in test])
    assert task.anomalous.tolist() == [label != 1 for _, label in test]
    assert task.kinds == ("cat",) * 4 + ("dog",) * 2


def test_class_folders_keep_natural_order_and_skip_what_is_no_image(tmp_path):
    write_class_folders(tmp_path, {"train": {"cat": 11}, "test": {"cat": 1, "dog": 1}})
    (tmp_path / "train/cat/readme.txt").write_text("cats")
    save_image(tmp_path / "train/cat/.thumbnails/1.png", noise(99))
    nominal = open_source("class-folders", tmp_path).task("cat").nominal
    tenth = np.array(Image.open(tmp_path / "train/cat/10.png")).transpose(2, 0, 1)
    assert len(nominal) == 11
    assert np.array_equal(nominal.read(10), tenth)


@pytest.mark.parametrize(("name", "channels"), [("cifar10", 3), ("fashion-mnist", 1)])
def test_class_folders_stand_in_for_the_publishers_files(tmp_path, name, channels):
    write_class_folders(tmp_path, {"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}})
    task = open_source(name, tmp_path).task("cat")
    assert task.nominal.read(0).shape == (channels, 12, 12)
    assert task.kinds == ("cat", "dog")


def test_an_image_of_another_size_is_named(tmp_path):
    write_class_folders(tmp_path, {"train": {"cat": 3}, "test": {"cat": 1}})
    save_image(tmp_path / "train/cat/9.png", noise(9, size=(12, 16)))
    with pytest.raises(BlemishError, match=r"cat/9\.png: 12 x 16 .*cat/0\.png is 12 x 12; bring all images to one"):
        open_source("class-folders", tmp_path)
    assert open_source("class-folders", tmp_path, size=12, square=True).task("cat").nominal.read(3).shape == (3, 12, 12)


def test_a_class_without_training_images_cannot_be_nominal(tmp_path):
    write_class_folders(tmp_path, {"train": {"cat": 1}, "test": {"cat": 1, "dog": 1}})
    source = open_source("class-folders", tmp_path)
    assert source.task("cat").kinds == ("cat", "dog")
    with pytest.raises(BlemishError, match="class dog has no training images"):
        source.task("dog")


def test_class_folders_give_outliers_from_their_training_split(tmp_path):
    write_class_folders(tmp_path, {"train": {"cat": 3, "dog": 3}, "test": {"cat": 1}})
    outliers = open_outliers("class-folders", tmp_path, channels=1, size=8, square=True, limit=None, seed=0)
    assert len(outliers) == 6
    expected = Image.open(tmp_path / "train/dog/2.png").convert("L").resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(outliers.read(5)[0], expected)


# ImageNet


def write_imagenet30(root: Path, *, train: str, val: str, by: str) -> None:
    folders = SYNSETS.values() if by == "synset" else SYNSETS
    for number, folder in enumerate(folders):
        save_image(root / train / folder / "a.JPEG", np.full((8, 12, 3), number, np.uint8))
        save_image(root / val / folder / "b.JPEG", np.full((8, 12, 3), 100 + number, np.uint8))


@pytest.mark.parametrize(
    ("train", "val", "by"),
    [("train", "val", "synset"), ("imagenet/train", "imagenet/val", "synset"), ("train", "test", "name"),
     ("one_class_train", "one_class_test", "name")],
)  # fmt: skip
def test_imagenet30_takes_its_classes_by_name_or_synset(tmp_path, train, val, by):
    write_imagenet30(tmp_path, train=train, val=val, by=by)
    save_image(tmp_path / train / "n01440764" / "tench.JPEG", noise(1))
    source = open_source("imagenet30", tmp_path, size=4)
    task = source.task("banjo")
    number = source.classes.index("banjo")
    assert len(source.classes) == len(task.test) == 30
    assert len(task.nominal) == 1
    assert task.nominal.read(0).shape == (3, 4, 6)
    assert abs(int(task.nominal.read(0).float().mean()) - number) <= 1
    assert task.anomalous.tolist() == [name != "banjo" for name in task.kinds]
    assert abs(int(task.test.read(number).float().mean()) - 100 - number) <= 1


def test_imagenets_synsets_mean_the_classes_of_imagenet30():
    timm_data = pytest.importorskip("timm.data")
    info = timm_data.ImageNetInfo("imagenet-1k")
    described = {info.index_to_label_name(index): info.index_to_description(index) for index in range(1000)}
    for name, synset in SYNSETS.items():
        word = {"rotary_dial_telephone": "dial telephone"}.get(name, name.replace("_", " "))
        assert word in described[synset].lower()


def test_a_missing_class_of_imagenet30_is_named(tmp_path):
    write_imagenet30(tmp_path, train="train", val="val", by="name")
    (tmp_path / "val/nail/b.JPEG").unlink()
    with pytest.raises(BlemishError, match="no images in a folder nail or n03804744"):
        open_source("imagenet30", tmp_path)


def test_imagenets_outliers_are_not_what_is_to_be_told_from_them(tmp_path):
    write_imagenet30(tmp_path, train="train", val="val", by="synset")
    for folder in ("n01440764", "n02389026"):  # tenches, and horses
        save_image(tmp_path / "train" / folder / "c.JPEG", noise(1))
    outliers = open_outliers("imagenet", tmp_path, channels=3, size=4, square=True, limit=None, seed=0)
    assert [path.parent.name for path in outliers.paths] == ["n01440764"]


def test_imagenets_outliers_in_one_flat_folder_go_by_their_names(tmp_path):
    for name in ("n01440764_1.JPEG", "n02389026_1.JPEG", "n03804744_77.JPEG"):
        save_image(tmp_path / "imagenet" / name, noise(1))
    outliers = open_outliers("imagenet", tmp_path, channels=3, size=4, square=True, limit=None, seed=0)
    assert [path.name for path in outliers.paths] == ["n01440764_1.JPEG"]


def test_nothing_but_the_thirty_classes_makes_no_outliers(tmp_path):
    write_imagenet30(tmp_path, train="train", val="val", by="synset")
    with pytest.raises(BlemishError, match="holds no images but of excluded classes"):
        open_outliers("imagenet", tmp_path, channels=3, size=4, square=True, limit=None, seed=0)


# Any folder


def test_a_folder_of_outliers_is_read_to_any_depth(tmp_path):
    for name in ("a.png", "b/c.png", "b/d/e.jpg"):
        save_image(tmp_path / name, noise(1))
    outliers = open_outliers("folder", tmp_path, channels=3, size=8, square=True, limit=None, seed=0)
    assert len(outliers) == 3
    assert outliers.read(0).shape == (3, 8, 8)
    assert outliers.read(0).dtype == torch.uint8


def test_a_limit_is_a_choice_that_the_seed_repeats(tmp_path):
    for number in range(20):
        save_image(tmp_path / f"{number}.png", noise(number, size=(8, 8)))

    def chosen(seed: int) -> list[Path]:
        return list(open_outliers("folder", tmp_path, channels=3, size=8, square=True, limit=5, seed=seed).paths)

    assert len(set(chosen(0))) == 5
    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)


# MVTec AD


def test_mvtec_reads_one_class_or_all(parts):
    for root in (parts, parts.parent):
        source = open_source("mvtec", root)
        task = source.task("parts")
        assert source.classes == ("parts",)
        assert len(task.nominal) == 4
        assert task.anomalous.tolist() == [False] * 3 + [True] * 2
        assert task.kinds == ("good",) * 3 + ("stain",) * 2


@pytest.mark.parametrize(("antialias", "filtered"), [(True, "BILINEAR"), (False, "NEAREST")])
def test_mvtec_images_are_brought_to_size_and_masks_are_not(parts, antialias, filtered):
    task = open_source("mvtec", parts, size=24, square=True, antialias=antialias).task("parts")
    image = Image.open(parts / "test/stain/1.png")
    expected = np.array(image.resize((24, 24), Image.Resampling[filtered])).transpose(2, 0, 1)
    assert np.array_equal(task.test.read(4), expected)
    assert np.array_equal(task.masks.read(4), np.array(Image.open(parts / "ground_truth/stain/1_mask.png")) > 0)
    assert task.masks.read(0).shape == (64, 64)
    assert not task.masks.read(0).any()


def test_labelled_training_anomalies_are_not_nominal(parts):
    save_image(parts / "train/stain/7.png", noise(7))
    assert len(open_source("mvtec", parts).task("parts").nominal) == 4


def test_masks_are_for_all_defects_or_none(parts):
    (parts / "ground_truth/stain/0_mask.png").unlink()
    with pytest.raises(BlemishError, match=r"no mask for test/stain/0\.png; paint them"):
        open_source("mvtec", parts).task("parts")
    (parts / "ground_truth/stain/1_mask.png").unlink()
    assert open_source("mvtec", parts).task("parts").masks is None


def test_mvtecs_screw_is_complete():
    if not (SHARED / "screw").is_dir():
        pytest.skip("needs MVTec AD's screw in BLEMISH_DATA")
    task = open_source("mvtec", SHARED / "screw", size=32, square=True).task("screw")
    assert (len(task.nominal), len(task.test), int(task.anomalous.sum())) == (320, 160, 119)
    assert len(set(task.kinds)) == 6
    first, last = task.kinds.index("scratch_head"), task.kinds.index("good")
    assert task.masks.read(first).any()
    assert not task.masks.read(last).any()


# All of them


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fashion-mnist", r"train-images-idx3-ubyte.*https://github\.com/zalandoresearch/fashion-mnist"),
        ("cifar10", r"cifar-10-python\.tar\.gz.*https://www\.cs\.toronto\.edu"),
        ("imagenet30", r"train.*https://www\.image-net\.org.*train/<class>"),
        ("mvtec", r"train/good.*https://www\.mvtec\.com"),
        ("pascal-voc", r"ImageSets/Main.*http://host\.robots\.ox\.ac\.uk"),
        ("class-folders", r"train.*train/<class>/<image>"),
    ],
)
@pytest.mark.parametrize("root", ["empty", "missing"])
def test_missing_data_are_named_with_the_way_to_get_them(tmp_path, monkeypatch, name, says, root):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", Path("/nonexistent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlemishError, match=rf"(?s){says}") as caught:
        open_source(name, tmp_path / root)
    assert str(tmp_path / root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar100", r"cifar-100-python\.tar\.gz.*https://www\.cs\.toronto\.edu"),
        ("emnist", r"emnist-letters-train-images-idx3-ubyte.*https://www\.nist\.gov"),
        ("imagenet", r"imagenet.*https://www\.image-net\.org"),
        ("folder", r"give a folder of"),
        ("class-folders", r"train/<class>"),
    ],
)
@pytest.mark.parametrize("root", ["empty", "missing"])
def test_missing_outliers_are_named_with_the_way_to_get_them(tmp_path, name, says, root):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlemishError, match=rf"(?s){says}"):
        open_outliers(name, tmp_path / root, channels=3, size=8, square=True, limit=None, seed=0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        pytest.param(
            lambda root: open_source("mnist", root), "no data set mnist; there are fashion-mnist, ", id="data"
        ),
        pytest.param(
            lambda root: open_outliers("mnist", root, channels=1, size=8, square=True, limit=None, seed=0),
            "no outliers mnist; there are cifar100, ",
            id="outliers",
        ),
        pytest.param(
            lambda root: open_outliers("folder", root, channels=1, size=8, square=True, limit=0, seed=0),
            "limit on foreign images is 0",
            id="limit",
        ),
        pytest.param(lambda root: open_source("class-folders", root).task("cow"), "there are cat, dog", id="class"),
        pytest.param(lambda root: open_source("mvtec", root / "mvtec").task("cow"), "there are part", id="mvtec class"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(tmp_path, call, says):
    write_class_folders(tmp_path, {"train": {"cat": 1, "dog": 1}, "test": {"cat": 1}})
    save_image(tmp_path / "mvtec/part/train/good/1.png", noise(1))
    with pytest.raises(BlemishError, match=says):
        call(tmp_path)


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 40))
@hypothesis_settings(max_examples=60, deadline=None)
def test_the_short_side_is_as_torchvision_resizes_it(height, width, size):
    image = Image.new("RGB", (width, height))
    expected = torchvision.transforms.Resize(size)(image).size
    pixels = ResizeSpec(3, size).pixels(image)
    assert (pixels.shape[2], pixels.shape[1]) == expected


@given(count=st.integers(1, 50), limit=st.integers(1, 60), seed=st.integers(0, 5))
@hypothesis_settings(max_examples=40, deadline=None)
def test_a_choice_has_no_number_twice(count, limit, seed):
    chosen = choose(count, limit=limit, seed=seed)
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen) & set(range(count)))


def test_a_selection_is_the_same_from_memory_and_from_files(tmp_path):
    for number in range(4):
        save_image(tmp_path / f"{number}.png", noise(number))
    files = open_outliers("folder", tmp_path, channels=3, size=64, square=True, limit=None, seed=0)
    memory = ArrayImages(torch.stack([files.read(number) for number in range(4)]))
    from_memory, from_files = select(memory, [3, 1]), select(files, [3, 1])
    assert isinstance(from_files, Selected)
    assert len(from_memory) == len(from_files) == 2
    for number in range(2):
        assert torch.equal(from_memory.read(number), from_files.read(number))


def test_the_size_of_a_mask_comes_from_the_images_header(parts, monkeypatch):
    task = open_source("mvtec", parts).task("parts")
    monkeypatch.setattr(headers, "read_image", None)  # what would decode it
    assert task.masks.read(0).shape == task.masks.read(4).shape == (64, 64)
    (parts / "test/good/0.png").unlink()
    monkeypatch.undo()
    with pytest.raises(BlemishError, match=r"0\.png: can no longer be read"):
        task.masks.read(0)
