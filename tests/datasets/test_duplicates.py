"""Identical images count once, and few images are told what they can promise: in training and by the doctor."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.conformal.split import Calibration, cross_conformal_bound
from blemish.datasets.duplicates import distinct
from blemish.datasets.few_images import MAX_FOLDS, MIN_ADVISED, advice, advised_folds
from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set
from blemish.datasets.splits import calibration_images, fold_nominal, fold_sizes, split_nominal
from blemish.errors import BlemishError
from blemish.training.run import train
from helpers.images import noise, save_image, stained
from helpers.plans import prepared

SIZE = (64, 64)

# Groups


@given(st.lists(st.integers(0, 4), max_size=12), st.data())
def test_the_first_of_each_is_kept_in_order(looks: list[int], data: st.DataObject) -> None:
    images = np.stack([np.full((2, 3, 3), 0, np.uint8), *(np.full((2, 3, 3), look, np.uint8) for look in looks)])
    chosen = data.draw(st.lists(st.integers(0, len(looks)), unique=True))
    kept, groups = distinct(images, chosen)
    seen = [images[index].tobytes() for index in chosen]
    assert kept == [index for place, index in enumerate(chosen) if seen[place] not in seen[:place]]
    assert sorted(index for group in groups for index in group) == sorted(
        index for place, index in enumerate(chosen) if seen.count(seen[place]) > 1
    )


# Training


def write_good(root: Path, number: int) -> Path:
    for index in range(number):
        save_image(root / f"train/good/{index:02}.png", noise(index))
    return root


def copy_file(good: Path) -> None:
    shutil.copy(good / "03.png", good / "99.png")


def save_as_bitmap(good: Path) -> None:
    Image.open(good / "03.png").save(good / "99.bmp")


def enlarge(good: Path) -> None:
    """Four pixels for one: brought to network size they are the same again, to the last bit."""
    flat = np.full((64, 64, 3), 77, np.uint8)
    save_image(good / "03.png", flat)
    save_image(good / "99.png", np.kron(flat, np.ones((2, 2, 1), np.uint8)))


@pytest.mark.parametrize("copy", [copy_file, save_as_bitmap, enlarge])
@pytest.mark.parametrize("folds", [None, 4])
def test_a_copy_neither_teaches_nor_calibrates(copy: Callable[[Path], None], folds: int | None, tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 20)
    if copy is enlarge:
        copy(data / "train/good")
        (data / "train/good/99.png").rename(tmp_path / "aside.png")
    without = prepared(data, cross_conformal=folds)
    if copy is enlarge:
        (tmp_path / "aside.png").rename(data / "train/good/99.png")
    else:
        copy(data / "train/good")
    said: list[str] = []
    found = prepared(data, said=said, cross_conformal=folds)
    assert len(found.images.pixels.images) == 21
    assert (found.plan.nominal, found.plan.copies) == (20, 1)
    assert found.splits == without.splits
    assert found.files_by_role() == without.files_by_role()
    assert [one for one in said if one.startswith("1 good image left out as identical to another one")]


def test_a_calibration_of_copies_does_not_count_them(tmp_path: Path) -> None:
    """Ten files of three images: two are learned from and one calibrates, which promises one half and no tenth."""
    data = tmp_path / "data"
    for index in range(10):
        save_image(data / f"train/good/{index}.png", noise(index % 3))
    detector = train(data, tmp_path / "m.onnx", size=SIZE)
    assert detector.calibration.images == 1
    assert detector.metadata.data["train_images"] == 2
    assert "1 calibration image can promise 50 %" in detector.calibration.statement()
    assert len(detector.metadata.used_images) == 10  # an evaluation leaves all of them out


def test_copies_of_one_image_are_one_image(tmp_path: Path) -> None:
    for index in range(5):
        save_image(tmp_path / f"data/train/good/{index}.png", noise(0))
    fault = "1 distinct good training image that can be read: training needs at least two"
    with pytest.raises(BlemishError, match=fault):
        train(tmp_path / "data", tmp_path / "m.onnx", size=SIZE)


def test_a_labelled_copy_is_no_copy_of_a_good_image(tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 20)
    for name in ("a", "b"):
        save_image(data / f"train/stain/{name}.png", stained(1))
    told: list[str] = []
    assert prepared(data, said=told).plan.defects == {"stain": 2}
    assert not [one for one in told if "identical" in one]


# The guarantee, by simulation: scores are distances to the mean of what was fitted to


def test_with_copies_counted_once_false_alarms_stay_below_the_rate_and_with_copies_they_do_not() -> None:
    rng, rate, alarms = np.random.default_rng(0), 0.2, {True: 0.0, False: 0.0}
    runs = 400
    for run in range(runs):
        once = rng.normal(size=(15, 6))
        files = np.concatenate([once] * 4)  # each image is there four times
        new = rng.normal(size=(50, 6))
        for apart in alarms:
            points = once if apart else files
            split = split_nominal(len(points), false_alarm_rate=rate, seed=run, validate=False)
            fit, held = points[list(split.fit)], points[list(split.calibration)]
            score = lambda some, fit=fit: np.linalg.norm(some[:, None] - fit, axis=2).min(1)  # noqa: E731
            calibration = Calibration(score(held).tolist(), rate)
            alarms[apart] += (
                np.mean([calibration.p_value(one) <= calibration.effective_rate for one in score(new)]) / runs
            )
    assert alarms[True] <= 0.25 + 0.03  # three images support a quarter
    assert alarms[False] > 0.5


# What few images can promise


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (0, None),
        (1, None),
        (
            2,
            "1 of 2 good images calibrates .* 50 %, and no image can be called ok, .*-conformal 2 all 2 do: 33 % ",
        ),
        (
            3,
            "1 of 3 .* 50 %, and no .*-conformal 3 all 3 do: 25 % .* 50 % at most .*, and images can be called ok",
        ),
        (
            5,
            "1 of 5 .* 50 %, and no .*-conformal 5 all 5 do: 17 % .* 33 % at most .*, and images can be called ok",
        ),
        (10, "2 of 10 .* calibrate .* 33 %, and no .* --cross-conformal 5 all 10 do: 9.1 % .* can be called ok"),
        (15, "3 of 15 good images calibrate .* 25 %; with --cross-conformal 5 all 15 do: 6.2 % in practice"),
        (19, "4 of 19 .* 20 %; with --cross-conformal 5 all 19 do: 5 % in practice"),
        (20, None),
        (300, None),
    ],
)
def test_few_images_are_told_what_they_can_promise(images: int, words: str | None) -> None:
    found = advice(images)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(words, found), found


def test_what_is_held_already_needs_no_advice() -> None:
    assert advice(18, false_alarm_rate=0.3) is None
    assert advice(5, false_alarm_rate=0.5) is not None  # nothing can be called ok


@given(images=st.integers(2, MIN_ADVISED - 1), rate=st.sampled_from([0.01, 0.05, 0.2]))
def test_the_numbers_are_those_of_the_splits_that_training_makes(images: int, rate: float) -> None:
    folds = advised_folds(images)
    assert 2 <= folds <= min(images, MAX_FOLDS)
    dealt = fold_nominal(images, folds=folds, seed=0, validate=False)
    assert fold_sizes(images, folds) == tuple(len(split.calibration) for split in dealt)
    split = split_nominal(images, false_alarm_rate=rate, seed=0, validate=False)
    assert calibration_images(images, rate) == len(split.calibration)
    said = advice(images, false_alarm_rate=rate)
    if said is not None:
        held = max(rate, 1 / (images + 1))
        assert f"{100 * held:.2g} % in practice" in said
        assert f"{100 * cross_conformal_bound(held, fold_sizes(images, folds)):.2g} % at most" in said


@pytest.mark.parametrize(("good", "folds", "said"), [(4, None, True), (4, 4, False), (25, None, False)])
def test_training_says_it_unless_it_is_cross_conformal_already(
    good: int, folds: int | None, said: bool, tmp_path: Path
) -> None:
    told: list[str] = []
    prepared(write_good(tmp_path / "data", good), said=told, cross_conformal=folds)
    assert any("--cross-conformal 4" in one for one in told) == said


def test_copies_do_not_make_few_images_many(tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 4)
    for index in range(4):
        for copy in range(9):
            shutil.copy(data / f"train/good/{index:02}.png", data / f"train/good/{index:02}-{copy}.png")
    told: list[str] = []
    prepared(data, said=told)
    assert any("1 of 4 good images calibrates" in one for one in told)
    notes = [problem.message for problem in examine(read_data_set(data)).problems]
    assert any("40 training images are byte-identical in 4 groups" in one for one in notes)
    assert any("counts them once: 4 of 40 good images are distinct" in one for one in notes)
    assert any("4 good ones" in one and "--cross-conformal 4" in one for one in notes)


# The doctor


@pytest.mark.parametrize(("copy", "alike"), [(copy_file, "byte-identical"), (save_as_bitmap, "pixel-identical")])
def test_the_doctor_counts_copies_once(copy: Callable[[Path], None], alike: str, tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 25)
    copy(data / "train/good")
    notes = [problem.message for problem in examine(read_data_set(data)).problems]
    (found,) = [one for one in notes if "-identical" in one]
    assert found.startswith(f"2 training images are {alike}: ")
    assert found.endswith("25 of 26 good images are distinct")


def test_the_doctor_sees_a_test_image_that_was_saved_anew(tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 25)
    (data / "test/good").mkdir(parents=True)
    Image.open(data / "train/good/03.png").save(data / "test/good/a.bmp")
    found = [problem for problem in examine(read_data_set(data)).problems if "across train and test" in problem.message]
    assert [(one.severity, "2 images pixel-identical" in one.message) for one in found] == [("warning", True)]


def test_copies_of_one_image_are_an_error(tmp_path: Path) -> None:
    for index in range(5):
        save_image(tmp_path / f"data/train/good/{index}.png", noise(0))
    found = examine(read_data_set(tmp_path / "data"))
    assert not found.ready
    assert any("1 distinct good training image: training needs" in problem.message for problem in found.problems)


@pytest.mark.parametrize(
    ("sizes", "network", "words"),
    [
        ([(64, 64)] * 4, (256, 256), None),
        ([(54, 96)] * 4, (192, 352), None),
        ([(48, 64)] * 3 + [(64, 48)] * 3, (256, 256), "several shapes"),
        ([(30, 900)] * 3, (64, 1024), "cut such long ones into pieces"),
    ],
)
def test_the_doctor_says_the_network_size_and_what_it_distorts(
    sizes: list[tuple[int, int]], network: tuple[int, int], words: str | None, tmp_path: Path
) -> None:
    for index, size in enumerate(sizes):
        save_image(tmp_path / f"data/train/good/{index}.png", noise(index, size=size))
    found = examine(read_data_set(tmp_path / "data"))
    assert found.as_json()["network_size"] == list(network)
    assert (f"at {network[0]} x {network[1]} px" in found.as_text()) == (network != (256, 256))
    shapes = [one.message for one in found.problems if "shape" in one.message or "pieces" in one.message]
    assert len(shapes) == (words is not None)
    assert words is None or words in shapes[0]


def test_the_doctor_sees_test_images_of_another_shape(tmp_path: Path) -> None:
    data = write_good(tmp_path / "data", 25)
    save_image(data / "test/stain/a.png", stained(1, size=(64, 120)))
    save_image(data / "test/stain/b.png", stained(2))
    (found,) = [one for one in examine(read_data_set(data)).problems if "another shape" in one.message]
    assert found.message.startswith("1 defective or test image of another shape than the good training images")
    assert [path.name for path in found.paths] == ["a.png"]


def test_images_longer_than_any_network_are_of_the_shape_of_those_learned_from(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for index in range(3):
        save_image(data / f"train/good/{index}.png", noise(index, size=(2, 10_000)))
        save_image(data / f"test/good/{index}.png", noise(10 + index, size=(2, 10_000)))
    messages = [one.message for one in examine(read_data_set(data)).problems]
    assert not [one for one in messages if "another shape" in one]
    (squashed,) = [one for one in messages if "squashed" in one]
    assert squashed.startswith("images are 1 : 5,000 (height : width) and are squashed to 64 x 1024")
