"""Doctor: every fault planted in a sound data set is found, named with its files, and nothing else is."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.diagnosis import Diagnosis
from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set

DATA = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[3] / "shared" / "data"))


def save(path: Path, *, size: tuple[int, int] = (24, 16), colour: bool = False) -> Path:
    """Noise that no two paths share, `size` = (width, height)."""
    noise = np.random.default_rng(list(path.as_posix().encode()))
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def save_mask(path: Path, *, size: tuple[int, int] = (24, 16), anomalous: bool = True) -> Path:
    mask = Image.new("L", size)
    if anomalous:
        mask.paste(255, (2, 2, 8, 8))
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)
    return path


@pytest.fixture
def parts(tmp_path) -> Path:
    """A sound data set in MVTec's layout: 20 + 3 good, 2 cut, all masks."""
    root = tmp_path / "parts"
    for i in range(20):
        save(root / f"train/good/{i:03}.png")
    for i in range(3):
        save(root / f"test/good/{i:03}.png")
    for i in range(2):
        save(root / f"test/cut/{i:03}.png")
        save_mask(root / f"ground_truth/cut/{i:03}_mask.png")
    return root


def diagnose(root: Path, **options) -> Diagnosis:
    return examine(read_data_set(root, **options))


def test_a_sound_data_set(parts):
    diagnosis = diagnose(parts)
    assert diagnosis.problems == ()
    assert diagnosis.ready
    assert diagnosis.as_text().splitlines() == [
        f"{parts.as_posix()}/  MVTec layout",
        "  train   20 good, no labelled defects  (grey, 24 x 16)",
        "  test     3 good, 2 defective in 1 type, 2 masks",
        "  use     good images only, at 224 x 320 px (height x width)",
        f"  ready   blemish train {parts.as_posix()}/ -o parts.onnx",
    ]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


# fault: (what is done to the sound data set, severity, words of the message, the files named)
FAULTS = {
    "truncated training image": (
        lambda root: cut_short(root / "train/good/003.png"),
        "error",
        "003.png",
        ["train/good/003.png"],
    ),
    "truncated test image": (
        lambda root: cut_short(root / "test/good/001.png"),
        "warning",
        "001.png",
        ["test/good/001.png"],
    ),
    "link to nothing": (
        lambda root: (root / "train/good/link.png").symlink_to(root / "gone.png"),
        "error",
        "link.png: no such file",
        ["train/good/link.png"],
    ),
    "copies in train": (
        lambda root: shutil.copy(root / "train/good/004.png", root / "train/good/copy.png"),
        "note",
        "2 training images are byte-identical: train/good/004.png, train/good/copy.png",
        ["train/good/004.png", "train/good/copy.png"],
    ),
    "two pairs of copies in train": (
        lambda root: [shutil.copy(root / f"train/good/00{i}.png", root / f"train/good/{i}.png") for i in (4, 5)],
        "note",
        "4 training images are byte-identical in 2 groups: ",
        ["train/good/004.png", "train/good/4.png", "train/good/005.png", "train/good/5.png"],
    ),
    "training image in test": (
        lambda root: shutil.copy(root / "train/good/004.png", root / "test/good/copy.png"),
        "warning",
        "byte-identical across train and test",
        ["train/good/004.png", "test/good/copy.png"],
    ),
    "good and defective at once": (
        lambda root: (
            shutil.copy(root / "test/good/001.png", root / "test/cut/001.png"),
            save_mask(root / "ground_truth/cut/001_mask.png"),
        ),
        "warning",
        "both good and defective",
        ["test/cut/001.png", "test/good/001.png"],
    ),
    "empty mask": (
        lambda root: save_mask(root / "ground_truth/cut/001_mask.png", anomalous=False),
        "warning",
        "1 empty mask",
        ["ground_truth/cut/001_mask.png"],
    ),
    "mask of another shape": (
        lambda root: save_mask(root / "ground_truth/cut/001_mask.png", size=(16, 24)),
        "warning",
        "24 x 16",
        ["ground_truth/cut/001_mask.png"],
    ),
    "unreadable mask": (
        lambda root: cut_short(save(root / "ground_truth/cut/001_mask.png")),
        "warning",
        "001_mask.png",
        ["ground_truth/cut/001_mask.png"],
    ),
    "missing mask": (
        lambda root: (root / "ground_truth/cut/001_mask.png").unlink(),
        "note",
        "1 of 2 defective test images have no mask: test/cut/001.png",
        ["test/cut/001.png"],
    ),
    "mask without an image": (
        lambda root: save_mask(root / "ground_truth/cut/777_mask.png"),
        "warning",
        "1 mask without an image: ground_truth/cut/777_mask.png",
        ["ground_truth/cut/777_mask.png"],
    ),
    "12 bits in a 16-bit file": (
        lambda root: Image.fromarray(np.random.default_rng(0).integers(0, 4096, (16, 24), dtype=np.uint16)).save(
            root / "train/good/dark.png"
        ),
        "warning",
        "20 images of 8 bits and 1 of 16 bits are mixed",
        ["train/good/dark.png"],
    ),
    "nearly blank": (
        lambda root: Image.fromarray(np.random.default_rng(0).integers(90, 100, (16, 24), dtype=np.uint8)).save(
            root / "train/good/blank.png"
        ),
        "warning",
        "1 image nearly blank, with fewer than 16 of 256 grey levels: train/good/blank.png",
        ["train/good/blank.png"],
    ),
    "few": (
        lambda root: (root / "train/good/019.png").unlink(),
        "note",
        "few training images: 19 good ones",
        [],
    ),
    "one training image": (
        lambda root: [path.unlink() for path in sorted((root / "train/good").iterdir())[1:]],
        "error",
        "1 good training image: training needs at least 2",
        [],
    ),
    "no training image": (
        lambda root: shutil.rmtree(root / "train"),
        "error",
        "no good training images: training needs at least 2",
        [],
    ),
    "no test": (
        lambda root: (shutil.rmtree(root / "test"), shutil.rmtree(root / "ground_truth")),
        "note",
        "no test images",
        [],
    ),
    "no defective test image": (
        lambda root: (shutil.rmtree(root / "test/cut"), shutil.rmtree(root / "ground_truth")),
        "note",
        "no defective test images",
        [],
    ),
    "no good test image": (lambda root: shutil.rmtree(root / "test/good"), "note", "no good test images", []),
}


@pytest.mark.parametrize(("spoil", "severity", "words", "paths"), FAULTS.values(), ids=FAULTS)
def test_fault(parts, spoil, severity, words, paths):
    spoil(parts)
    diagnosis = diagnose(parts)
    [problem] = diagnosis.problems
    assert problem.severity == severity
    assert words in problem.message
    assert [path.relative_to(parts).as_posix() for path in problem.paths] == paths
    assert diagnosis.ready == (severity != "error")
    assert f"  {severity:<7} {problem.message}" in diagnosis.as_text().splitlines()


def test_not_ready_says_why(parts):
    cut_short(parts / "train/good/003.png")
    lines = diagnose(parts).as_text().splitlines()
    assert lines[-1] == "  not ready: mend the 1 error first"
    assert diagnose(parts).as_json()["command"] is None


def test_many_broken_files_are_told_in_a_few_lines(parts):
    for path in (parts / "train/good").iterdir():
        cut_short(path)
    errors = [problem for problem in diagnose(parts).problems if problem.severity == "error"]
    assert len(errors) == 6
    assert errors[-1].message == "15 more files in train cannot be used"
    assert {path for error in errors for path in error.paths} == set((parts / "train/good").iterdir())


def test_errors_come_first(parts):
    (parts / "ground_truth/cut/001_mask.png").unlink()
    shutil.copy(parts / "train/good/004.png", parts / "test/good/copy.png")
    cut_short(parts / "train/good/003.png")
    assert [problem.severity for problem in diagnose(parts).problems] == ["error", "warning", "note"]


def test_sizes_and_colours_in_words(parts):
    assert diagnose(parts).train.description == "grey, 24 x 16"
    save(parts / "train/good/small.jpg", size=(9, 70), colour=True)
    save(parts / "train/good/large.png", size=(31, 33), colour=True)
    diagnosis = diagnose(parts)
    # By area: 384, 630 and 1,023 pixels.
    assert diagnosis.train.description == "20 grey, 2 colour, 3 sizes, 24 x 16 to 31 x 33"
    assert "(grey, 24 x 16)" in diagnosis.as_text().splitlines()[2]


SUPERVISION = {
    "good images": ([], [], "good images only"),
    "defects": (["cut/7", "dent/8"], [], "labelled defects"),
    "some masks": (["cut/7", "dent/8"], ["cut/7"], "masks for 1 of 2 labelled defects"),
    "all masks": (["cut/7"], ["cut/7"], "masks for 1 of 1 labelled defect"),
}


@pytest.mark.parametrize(("defects", "masks", "words"), SUPERVISION.values(), ids=SUPERVISION)
def test_supervision(parts, defects, masks, words):
    for name in defects:
        save(parts / f"train/{name}.png")
    for name in masks:
        save_mask(parts / f"ground_truth/{name}_mask.png")
    diagnosis = diagnose(parts)
    assert diagnosis.supervision == words
    assert diagnosis.train.anomalous == len(defects)
    assert diagnosis.masks == {"train": len(masks), "test": 2}


def test_json(parts):
    save(parts / "train/dent/8.png")
    shutil.copy(parts / "train/good/004.png", parts / "test/good/copy.png")
    found = json.loads(json.dumps(diagnose(parts).as_json()))
    assert found["layout"] == "mvtec"
    assert found["train"] == {
        "images": 21,
        "nominal": 20,
        "anomalous": 1,
        "defects": {"dent": 1},
        "masks": {},
        "description": "grey, 24 x 16",
    }
    assert found["test"]["defects"] == {"cut": 2}
    assert found["test"]["masks"] == {"cut": 2}
    assert found["masks"] == {"train": 0, "test": 2}
    assert [problem["severity"] for problem in found["problems"]] == ["warning", "note"]
    assert str(parts / "test/good/copy.png") in found["problems"][0]["paths"]
    assert found["ready"] is True


def test_one_versus_rest(tmp_path):
    root = tmp_path / "my animals"
    for name in ("train/cat/0.png", "train/cat/1.png", "test/cat/2.png", "test/dog/3.png"):
        save(root / name)
    diagnosis = diagnose(root, nominal_class="cat")
    assert diagnosis.command == f"blemish train '{root.as_posix()}/' --nominal-class cat -o 'my animals-cat.onnx'"
    assert diagnosis.as_text().splitlines()[0].endswith("one-versus-rest layout, nominal class cat")
    # Nobody draws masks of a whole cat; that there are few images is all there is to say.
    assert [problem.message[:3] for problem in diagnosis.problems] == ["few"]


def test_progress_counts_every_image_once(parts):
    calls = []
    examine(read_data_set(parts), progress=lambda stage, done, total: calls.append((done, total)))
    assert calls == [(done, 25) for done in range(1, 26)]


@pytest.mark.slow
def test_real_screws():
    if not (DATA / "screw").is_dir():
        pytest.skip("no screw in ../shared/data or $BLEMISH_DATA")
    diagnosis = diagnose(DATA / "screw")
    assert diagnosis.as_text().splitlines()[1:3] == [
        "  train   320 good, no labelled defects  (grey, 384 x 384)",
        "  test     41 good, 119 defective in 5 types, 119 masks",
    ]
    assert diagnosis.ready
