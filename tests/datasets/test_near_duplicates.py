"""Several images of one part are known again by their fine detail, and parts that are alike by nature are not."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate

from blemish.datasets.inspection import examine
from blemish.datasets.layouts import read_data_set
from blemish.datasets.near_duplicates import MIN_IMAGES, SIDE, NearDuplicates, find, thumbnail
from helpers.images import save_image

DATA = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[3] / "shared" / "data"))

Picture = np.ndarray
Rng = np.random.Generator


def texture(rng: Rng) -> Picture:
    return 128 + 120 * gaussian_filter(rng.normal(size=(150, 150)), 1.5)


def photograph(part: Picture, rng: Rng) -> Picture:
    """The part a few pixels aside, under another light, with the noise of a camera."""
    row, column = rng.integers(0, 10, 2)
    seen = part[row : row + 140, column : column + 140] * rng.uniform(0.5, 1.1)
    return np.clip(seen + rng.normal(0, 2, seen.shape), 0, 255).astype(np.uint8)


def disc(rng: Rng) -> Picture:
    """A part that is alike by nature: the same outline, with surface noise of its own."""
    rows, columns = np.mgrid[:150, :150] - 75
    return np.where(rows**2 + columns**2 < 55**2, 90, 200) + gaussian_filter(rng.normal(0, 25, (150, 150)), 1)


def bar(rng: Rng) -> Picture:
    """The same in any direction, as screws lie."""
    plain = np.full((150, 150), 200.0)
    plain[65:85, 20:130] = 90
    plain[65:85, 20:130:6] = 60
    return rotate(plain, rng.uniform(0, 360), reshape=False, cval=200) + rng.normal(0, 4, (150, 150))


def pictures(part: Callable[[Rng], Picture], *, parts: int, views: int, seed: int = 0) -> list[Picture]:
    rng = np.random.default_rng(seed)
    return [photograph(one, rng) for one in (part(rng) for _ in range(parts)) for _ in range(views)]


def small(images: list[Picture]) -> list[Picture]:
    return [thumbnail(Image.fromarray(image)) for image in images]


def test_photographs_of_one_part_are_paired() -> None:
    found = find(small(pictures(texture, parts=10, views=3)))
    assert found.suspicious
    assert len(found.pairs) >= 0.9 * found.asked
    assert all(one != other and one // 3 == other // 3 for one, other in found.pairs)


@pytest.mark.parametrize("part", [texture, disc, bar])
def test_parts_that_are_alike_by_nature_are_not(part: Callable[[Rng], Picture]) -> None:
    found = find(small(pictures(part, parts=60, views=1)))
    assert found.asked == 60
    assert not found.suspicious


def test_few_pairs_among_many_images_are_not_suspicious() -> None:
    images = pictures(texture, parts=40, views=1) + pictures(texture, parts=1, views=2, seed=9)
    found = find(small(images))
    assert set(found.pairs) == {(40, 41), (41, 40)}
    assert not found.suspicious
    assert not NearDuplicates(10, ((0, 1),)).suspicious
    assert NearDuplicates(10, ((0, 1), (1, 0))).suspicious


def test_of_many_images_some_are_asked_and_all_are_answers() -> None:
    found = find(small(pictures(texture, parts=50, views=2)))
    assert found.asked == 64
    assert {other for _, other in found.pairs} - {one for one, _ in found.pairs}


def test_blank_images_and_few_ones_tell_nothing() -> None:
    assert find(small([np.full((20, 30), 7, np.uint8)] * 12)).pairs == ()
    assert find(small(pictures(texture, parts=1, views=MIN_IMAGES - 1))) == NearDuplicates(0, ())


@given(st.integers(1, 400), st.integers(1, 400))
def test_a_small_picture_keeps_the_shape(width: int, height: int) -> None:
    found = thumbnail(Image.new("RGB", (width, height)))
    assert max(found.shape) == SIDE
    assert found.shape == (
        max(1, round(height * SIDE / max(width, height))),
        max(1, round(width * SIDE / max(width, height))),
    )


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("{part}_{view}.png", r"--groups '(?:^|/)([^/\d]*\d+)[^/]*$'"),
        ("{any}.png", "--groups FILE.csv, a table of columns path and group"),
    ],
)
def test_doctor_says_so_with_the_pattern_that_names_give(name: str, option: str, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(30)
    for i, image in enumerate(pictures(texture, parts=10, views=3)):
        save_image(tmp_path / "train/good" / name.format(part=i // 3, view=i % 3, any=order[i]), image)
    said = [one for one in examine(read_data_set(tmp_path)).problems if "nearly the same" in one.message]
    assert [one.severity for one in said] == ["warning"]
    assert said[0].message.endswith(f"unless training keeps them together by {option}")
    assert "of 30 good training images looked at are nearly the same as another one" in said[0].message
    assert len(said[0].paths) >= 27


def test_doctor_leaves_copies_and_defects_out(tmp_path: Path) -> None:
    for i, image in enumerate(pictures(texture, parts=12, views=1)):
        save_image(tmp_path / f"train/good/{i}.png", image)
        save_image(tmp_path / f"train/good/{i}_copy.png", image)
        save_image(tmp_path / f"train/scratch/{i}.png", np.clip(image.astype(int) + 9, 0, 255).astype(np.uint8))
    assert not [one for one in examine(read_data_set(tmp_path)).problems if "nearly the same" in one.message]


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        pytest.param("bottle", False, marks=pytest.mark.slow),
        pytest.param("commutator", False, marks=pytest.mark.slow),
        ("cookies", False),
        ("fabric", True),
        ("head_ct", False),
        pytest.param("magnetic_tile", True, marks=pytest.mark.slow),
        pytest.param("screw", False, marks=pytest.mark.slow),
    ],
)
def test_real_sets_are_told_apart(name: str, grouped: bool) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there")
    good = [sample.path for sample in read_data_set(DATA / name).train if not sample.anomalous]
    looks = {path.read_bytes(): path for path in good}
    found = find([thumbnail(Image.open(path).convert("RGB")) for path in sorted(looks.values())])
    assert found.suspicious == grouped
