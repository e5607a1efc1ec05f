"""The experiment on a folder of one's own: layouts, what it learns from, and folders that do not fit."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.errors import BlemishError
from blemish.experiments.data import folder_task
from blemish.experiments.data.sources import open_source
from blemish.experiments.recipe import Recipe
from blemish.experiments.supervision import set_labelled_aside
from helpers.images import noise, save_image, stained


def write(root: Path, folders: dict[str, int], *, size: tuple[int, int] = (40, 48), grey: bool = False) -> None:
    """Images in each folder; those of good classes are nominal, and the folders of masks mark the stain."""
    seed = 0
    for folder, count in folders.items():
        for number in range(count):
            seed += 1
            if "ground_truth" in folder or "masks" in folder:
                mask = np.zeros(size, np.uint8)
                mask[size[0] // 4 : 3 * size[0] // 4, size[1] // 4 : 3 * size[1] // 4] = 255
                save_image(root / folder / f"{number}.png", mask)
                continue
            is_good = folder.endswith(("good", "nominal", "cat"))
            pixels = noise(seed, size=size) if is_good else stained(seed, size=size)
            save_image(root / folder / f"{number}.png", pixels[..., 0] if grey else pixels)


PARTS = {"train/good": 6, "test/good": 3, "test/hole": 3, "ground_truth/hole": 3}
LAYOUTS = {
    "one class": (PARTS, ("data",), "data", {"good": 3, "hole": 3}),
    "several": (
        {f"{part}/{folder}": n for part in ("nut", "screw") for folder, n in PARTS.items()},
        ("nut", "screw"),
        "screw",
        {"good": 3, "hole": 3},
    ),
    "one versus rest": (
        {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2},
        ("cat", "dog"),
        "cat",
        {"good": 2, "dog": 2},
    ),
    "the authors' own": (
        {"train/cup/nominal": 4, "train/pan/nominal": 3, "test/cup/nominal": 2, "test/cup/anomalous": 2},
        ("cup", "pan"),
        "cup",
        {"good": 2, "anomalous": 2},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_is_found(tmp_path, layout):
    folders, classes, chosen, kinds = LAYOUTS[layout]
    write(tmp_path / "data", folders)
    source = open_source("custom", tmp_path / "data", size=24, square=True)
    assert source.classes == classes
    task = source.task(chosen)
    assert {kind: task.kinds.count(kind) for kind in task.kinds} == kinds
    assert task.anomalous.tolist() == [kind != "good" for kind in task.kinds]
    assert task.nominal.read(0).shape == (3, 24, 24)
    assert (task.masks is not None) == ("hole" in kinds)


def test_many_images_are_read_when_they_are_drawn(tmp_path, monkeypatch):
    write(tmp_path, PARTS)
    source = open_source("custom", tmp_path, size=24, square=True)
    in_memory = source.task(tmp_path.name)
    monkeypatch.setattr(folder_task, "IN_MEMORY", 0)
    from_files = source.task(tmp_path.name)
    assert not hasattr(from_files.nominal, "pixels")
    for index in range(6):
        assert torch.equal(from_files.nominal.read(index), in_memory.nominal.read(index))


def test_labelled_training_images_leave_the_test_set_whole(tmp_path):
    write(tmp_path, PARTS | {"train/scratch": 4, "ground_truth/scratch": 4, "train/dent": 1})
    task = open_source("custom", tmp_path, size=24, square=True).task(tmp_path.name)
    rest, labelled = set_labelled_aside(task, per_kind=2, seed=0)
    assert rest.kinds == task.kinds
    assert len(labelled.images) == 2  # dent has no mask
    image, mask = labelled.draw(task.nominal.read(0), np.random.default_rng(0))
    assert image.shape == (3, 24, 24)
    assert mask[6:18, 6:18].all()
    assert mask.float().mean() < 0.35


UNFIT = {
    "missing": ({}, "no such folder"),
    "no images": ({"empty": 0}, "no image in it"),
    "no test": ({"train/good": 3}, "takes images in train/good and in test/; add them"),
    "only defects": ({"test/good": 2, "test/hole": 2}, "takes images in train/good and in test/; add them"),
    "some masks": (PARTS | {"test/dent": 2}, "no mask for .*; paint them, or remove all masks"),
    "several unlike": ({"a/x": 1, "b/y": 1}, "no known layout"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_folder_that_does_not_fit_is_refused_in_a_sentence(tmp_path, fault):
    folders, sentence = UNFIT[fault]
    root = tmp_path / "data"
    write(root, folders)
    if fault == "no images":
        root.mkdir()
    with pytest.raises(BlemishError, match=sentence) as caught:
        open_source("custom", root, size=24, square=True).task("data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "expected"),
    [("cnn28-w", (28, 1, 30, 1.2)), ("cnn32", (32, 3, 34, 1.2)), ("vgg11-f", (224, 3, 240, 12.0)),
     ("vark32-3", (32, 3, 34, 1.2)), ("cnn224", (224, 3, 240, 12.0))],
)  # fmt: skip
def test_a_network_brings_its_size_and_channels(network, expected):
    recipe = Recipe.load("custom").with_network(network)
    assert (recipe.size, recipe.reading.channels, recipe.reading.size, recipe.sigma) == expected


@pytest.fixture
def custom(run, tmp_path, monkeypatch):
    """Runs `blemish experiment custom` on a small folder with the smallest network, which is grey."""
    write(tmp_path / "data", PARTS)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object):
        return run(
            "experiment", "custom", "--data", "data", "--network", "cnn28", "--epochs", 1, "--device", "cpu", *arguments
        )

    return call


def records(folder: Path) -> dict[str, dict]:
    found = {path.parts[-4]: json.loads(path.read_text("utf-8")) for path in folder.glob("runs/*/*/*/run.json")}
    return dict(sorted(found.items()))


@pytest.mark.parametrize("grey", [False, True])
def test_every_method_runs_on_a_folder_of_ones_own(custom, tmp_path, grey):
    write(tmp_path / "data", PARTS, grey=grey, size=(56, 32))
    outcome = custom("--method", "fcdd,hsc,autoencoder,gaussian")
    assert outcome.status == 0, outcome.err
    assert list(records(tmp_path / "custom")) == ["autoencoder", "fcdd", "gaussian", "hsc"]
    assert records(tmp_path / "custom")["fcdd"]["notes"]["anomalies"] == "confetti"
    with (tmp_path / "custom/table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "method", "class", "seeds", "image_auroc", "image_auroc_std", "pixel_auroc", "pixel_auroc_std",
    ]  # fmt: skip  # nothing is published for it
    assert {row["class"] for row in rows} == {"data"}


def test_it_learns_from_masks_or_from_outliers(custom, tmp_path):
    write(tmp_path / "foreign", {"some": 3})
    assert custom("--masks", 1, "-o", "masks").status == 0
    assert records(tmp_path / "masks")["fcdd"]["notes"]["anomalies"] == "masks, 1 of each type"
    assert custom("--outliers", "foreign", "-o", "outliers").status == 0
    assert records(tmp_path / "outliers")["fcdd"]["notes"]["anomalies"] == "outliers of foreign"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--masks", 1, "--outliers", "foreign"), "--outliers and --masks are two ways to learn from anomalies"),
        (("--outliers-limit", 3), "custom learns from no outliers; leave out --outliers-limit"),
        (("--masks", 3), "of hole there are 3 test images: 3 to learn from would leave none to test on"),
        (("--classes", "nut"), "custom has no class 'nut'; it has data"),
    ],
)
def test_options_that_do_not_fit_are_refused(custom, options, sentence):
    outcome = custom(*options)
    assert outcome.status != 0
    assert sentence in outcome.err
