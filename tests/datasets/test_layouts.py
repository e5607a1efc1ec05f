"""Folder layouts: which file becomes which sample, in folders built here and in real ones."""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.datasets.layouts import in_test_split, natural_key, read_data_set
from blemish.errors import BlemishError

DATA = Path(os.environ.get("BLEMISH_DATA", Path(__file__).parents[3] / "shared" / "data"))


def build(root: Path, *paths: str) -> Path:
    """A folder of empty files with these names: a layout opens none."""
    root.mkdir(exist_ok=True)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


# A line is a file and, two or more spaces apart, its split, its defect and its mask, if it has any.
LAYOUTS = {
    "mvtec": """
        train/good/0.png  train
        test/cut/0.png    test  cut  ground_truth/cut/0_mask.png
        test/cut/1.png    test  cut  ground_truth/cut/1.png
        test/cut/2.png    test  cut
        test/good/0.png   test
        ground_truth/cut/0_mask.png
        ground_truth/cut/1.png
        """,
    "mvtec: train only": """
        train/good/0.png  train
        """,
    "mvtec: test only": """
        test/cut/0.png   test  cut
        test/good/0.png  test
        """,
    "mvtec: labelled training defects": """
        train/cut/7.png   train  cut   ground_truth/cut/7_mask.png
        train/dent/8.png  train  dent
        train/good/0.png  train
        ground_truth/cut/7_mask.png
        """,
    "mvtec: same name in train and test": """
        train/cut/0.png   train  cut
        train/cut/1.png   train  cut  ground_truth/train/cut/1_mask.png
        train/good/0.png  train
        test/cut/0.png    test   cut  ground_truth/cut/0_mask.png
        test/cut/1.png    test   cut  ground_truth/cut/1_mask.png
        ground_truth/cut/0_mask.png
        ground_truth/cut/1_mask.png
        ground_truth/train/cut/1_mask.png
        """,
    "mvtec: other suffixes, upper case, sub-folders": """
        Train/OK/a/0.JPG      train
        Test/NG/b.c/1.2.bmp   test  NG  Masks/ng/b.c/1.2_MASK.png
        Masks/ng/b.c/1.2_MASK.png
        """,
    "mvtec: mask of a good image": """
        train/good/0.png  train
        test/good/0.png   test
        ground_truth/good/0_mask.png
        """,
    "mvtec: beyond ASCII": """
        train/good/Schräubchen 1.png  train
        test/kratzer/ねじ.png          test  kratzer  ground_truth/kratzer/ねじ_mask.png
        ground_truth/kratzer/ねじ_mask.png
        """,
    "flat": """
        2.jpg   train
        10.png  train
        a1.png  train
        B1.png  train
        """,
    "nominal-anomalous: nominal only": """
        nominal/0.png  train
        nominal/5.png  train
        """,
    "one-vs-rest": """
        train/cat/0.png
        train/dog/0.png  train
        test/cat/1.png   test  cat
        test/dog/1.png   test
        test/owl/1.png   test  owl  test_maps/owl/1.png
        test_maps/owl/1.png
        """,
    "reference": """
        train/cat/normal/0.png
        train/dog/anomalous/5.png       train  anomalous  train_maps/dog/anomalous/5.png
        train/dog/nominal/0.png         train
        test/dog/anomalous/2.png        test   anomalous  test_maps/dog/anomalous/2.png
        test/dog/anomalous/hole/3.png   test   hole
        test/dog/normal/1.png           test
        train_maps/dog/anomalous/5.png
        test_maps/dog/anomalous/2.png
        test_maps/dog/normal/1.png
        """,
    "reference: one class is chosen by itself": """
        train/dog/normal/0.png    train
        test/dog/anomalous/1.png  test  anomalous
        """,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(tmp_path, name):
    rows = [re.split(r"\s{2,}", line.strip()) for line in LAYOUTS[name].strip().splitlines()]
    root = build(tmp_path / "parts", *(path for path, *_ in rows))
    data = read_data_set(root, nominal_class="dog" if name in ("one-vs-rest", "reference") else None)
    found = [
        [
            sample.path.relative_to(root).as_posix(),
            split,
            *([sample.defect] if sample.defect else []),
            *([sample.mask.relative_to(root).as_posix()] if sample.mask else []),
        ]
        for split, samples in (("train", data.train), ("test", data.test))
        for sample in samples
    ]
    assert found == [row for row in rows if len(row) > 1]
    assert data.layout == name.split(":")[0]


NOMINAL_ANOMALOUS = {
    "mirrored": ("anomalous/0.png", "masks/anomalous/0.png", "anomalous"),
    "below-masks": ("anomalous/0.png", "masks/0.png", "anomalous"),
    "with-_mask": ("bad/0.jpg", "masks/0_mask.png", "bad"),
    "defect-folder-mirrored": ("anomalous/cut/0.png", "masks/anomalous/cut/0.png", "cut"),
    "defect-folder": ("NG/cut/0.png", "masks/cut/0.png", "cut"),
    "stem-alone": ("defects/cut/0.png", "masks/0.png", "cut"),
    "no-mask": ("abnormal/0.png", None, "abnormal"),
}


@pytest.mark.parametrize(("image", "mask", "defect"), NOMINAL_ANOMALOUS.values(), ids=NOMINAL_ANOMALOUS.keys())
def test_masks_beside_nominal_and_anomalous(tmp_path, image, mask, defect):
    root = build(tmp_path / "parts", "good/0.png", image, *([mask] if mask else []))
    [found] = [sample for sample in (*read_data_set(root).train, *read_data_set(root).test) if sample.anomalous]
    assert (found.path, found.defect, found.mask) == (root / image, defect, root / mask if mask else None)


def test_a_mask_that_could_be_of_two_defects_is_of_neither(tmp_path):
    root = build(tmp_path / "parts", "good/0.png", "bad/cut/0.png", "bad/dent/0.png", "masks/0.png")
    data = read_data_set(root)
    assert not any(sample.mask for sample in (*data.train, *data.test))
    assert [warning.message for warning in data.warnings] == ["1 mask without an image: masks/0.png"]
    assert data.warnings[0].paths == (root / "masks/0.png",)


def test_the_split_is_one_in_five_and_one_in_two(tmp_path):
    nominal, anomalous = [f"nominal/{i}.png" for i in range(400)], [f"anomalous/{i}.png" for i in range(200)]
    data = read_data_set(build(tmp_path / "parts", *nominal, *anomalous))
    test = Counter(sample.anomalous for sample in data.test)
    # Four standard deviations of the two binomial distributions.
    assert abs(test[False] - 80) < 4 * (400 * 0.2 * 0.8) ** 0.5
    assert abs(test[True] - 100) < 4 * (200 * 0.5 * 0.5) ** 0.5


NAMES = st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=12)
PATHS = st.builds("{}/{}.png".format, st.sampled_from(["nominal", "anomalous", "anomalous/cut"]), NAMES)


@settings(max_examples=40, deadline=None)
@given(paths=st.sets(PATHS, min_size=1, max_size=8), more=st.sets(PATHS, max_size=8))
def test_no_image_changes_sides_when_others_come(tmp_path_factory, paths, more):
    paths |= {"nominal/seed.png", "anomalous/seed.png"}
    train, test = sides(build(tmp_path_factory.mktemp("parts"), *paths))
    train_later, test_later = sides(build(tmp_path_factory.mktemp("parts"), *paths, *more))
    assert not train_later & test_later
    assert train_later | test_later == paths | more
    assert train <= train_later
    assert test <= test_later


def sides(root: Path) -> tuple[set[str], set[str]]:
    data = read_data_set(root)
    train, test = ({s.path.relative_to(root).as_posix() for s in split} for split in (data.train, data.test))
    return train, test


def test_the_split_is_the_same_on_every_machine():
    # By coreutils: printf nominal/5.png | sha256sum | cut -c1-16, that number modulo 5.
    tested = [i for i in range(8) if in_test_split(PurePosixPath(f"nominal/{i}.png"), one_in=5)]
    assert tested == [5, 7]


def test_the_split_is_the_same_for_both_spellings_of_an_umlaut():
    names = [f"nominal/ü{i}.png" for i in range(50)]
    composed = [in_test_split(PurePosixPath(unicodedata.normalize("NFC", name)), one_in=2) for name in names]
    decomposed = [in_test_split(PurePosixPath(unicodedata.normalize("NFD", name)), one_in=2) for name in names]
    assert composed == decomposed


def test_a_mask_spelled_by_macos_belongs_to_an_image_spelled_by_linux(tmp_path):
    name = "grün"
    root = build(
        tmp_path / "parts",
        "train/good/0.png",
        f"test/cut/{unicodedata.normalize('NFC', name)}.png",
        f"ground_truth/cut/{unicodedata.normalize('NFD', name)}_mask.png",
    )
    assert read_data_set(root).test[0].mask is not None


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_numeric_order(numbers):
    paths = [PurePosixPath(f"part {number}.png") for number in numbers]
    assert sorted(paths, key=natural_key) == [PurePosixPath(f"part {number}.png") for number in sorted(numbers)]


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), max_size=6))
def test_natural_order_takes_any_names(names):
    paths = [PurePosixPath(name) for name in names]
    backwards = paths[::-1]
    assert sorted(paths, key=natural_key) == sorted(backwards, key=natural_key)


LITTER = ["train/good/.hidden.png", "train/good/Thumbs.db", "train/good/readme.txt", "train/good/._0.png"]


def test_litter_is_left_aside_and_counted(tmp_path):
    root = build(tmp_path / "parts", "train/good/0.png", ".git/1.png")
    for path in LITTER:
        (root / path).write_bytes(b"litter")
    data = read_data_set(root)
    assert [sample.path for sample in (*data.train, *data.test)] == [root / "train/good/0.png"]
    assert data.notes == ("4 other files ignored (not images)",)


LEFT_ASIDE = {
    "mask-without-image": (
        ["ground_truth/cut/9_mask.png"],
        "1 mask without an image: ground_truth/cut/9_mask.png",
    ),
    "image-in-no-class": (
        ["test/9.png", "extra/8.png"],
        "2 images not used: extra/ (1), test/ (1)",
    ),
    "many": ([f"extra/{i}/{j}.png" for i in range(5) for j in range(3)], "15 images not used: extra/0/ (3), "),
    "many-folders": ([f"extra/{i}/{j}.png" for i in range(9) for j in range(3)], "27 images not used: extra/ (27); "),
    "contested-mask": (
        ["train/cut/0.png", "test/cut/0.png", "ground_truth/cut/0.png"],
        "1 image left without a mask, which another image of that name has: train/cut/0.png",
    ),
}


@pytest.mark.parametrize(("paths", "words"), LEFT_ASIDE.values(), ids=LEFT_ASIDE)
def test_what_is_left_aside_is_said(tmp_path, paths, words):
    data = read_data_set(build(tmp_path / "parts", "train/good/0.png", "test/good/0.png", *paths))
    [sentence] = [*data.notes, *(warning.message for warning in data.warnings)]
    assert words in sentence


def test_links_are_followed_but_not_in_circles(tmp_path):
    store = build(tmp_path / "store", "a.png", "b.png")
    root = build(tmp_path / "parts", "train/good/0.png")
    (root / "train/good/1.png").symlink_to(store / "a.png")
    (root / "train/good/more").symlink_to(store)
    (root / "train/good/circle").symlink_to(root)
    (root / "train/good/2.png").symlink_to(store / "gone.png")
    names = [sample.path.relative_to(root / "train/good").as_posix() for sample in read_data_set(root).train]
    assert names == ["0.png", "1.png", "2.png", "more/a.png", "more/b.png"]


ONE_VS_REST = ["train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/dog/0.png"]
BAD_FOLDERS = {
    "empty": ([], None, r"no image in it; give a folder with images directly inside it, train/good"),
    "no-known-layout": (
        ["left/0.png", "right/0.png"],
        None,
        r"no known layout, images only in left/, right/",
    ),
    "parent-of-data-sets": (["nut/train/good/0.png", "bolt/train/good/0.png"], None, r"such as .*bolt$"),
    "parent-of-VisA": (
        ["candle/Data/Images/Normal/0.JPG", "candle/Data/Images/Anomaly/1.JPG", "cashew/Data/Images/Normal/0.JPG"],
        None,
        r"several data sets in it; give one of them, such as .*candle$",
    ),
    "directly-in-train": (["train/0.png"], None, r"into train/good/"),
    "no-nominal-class": (ONE_VS_REST, None, r"--nominal-class NAME, one of cat, dog$"),
    "unknown-class": (ONE_VS_REST, "cow", r"no class cow; --nominal-class must be one of cat, dog$"),
    "several-reference-classes": (
        ["train/cat/normal/0.png", "train/dog/normal/0.png"],
        None,
        r"--nominal-class NAME, one of cat, dog$",
    ),
    "class-for-mvtec": (["train/good/0.png"], "screw", r"leave out --nominal-class screw"),
    "class-for-flat": (["0.png"], "screw", r"leave out --nominal-class screw"),
    "class-for-nominal-anomalous": (["good/0.png"], "screw", r"leave out --nominal-class screw"),
}


@pytest.mark.parametrize(("paths", "nominal_class", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_bad_folder(tmp_path, paths, nominal_class, message):
    root = build(tmp_path / "parts", *paths)
    with pytest.raises(BlemishError, match=message):
        read_data_set(root, nominal_class=nominal_class)


def test_no_folder(tmp_path):
    with pytest.raises(BlemishError, match=r"no such folder; give a folder with images directly inside it"):
        read_data_set(tmp_path / "nowhere")


def test_a_file(tmp_path):
    build(tmp_path, "0.png")
    with pytest.raises(BlemishError, match=r"a file, not a folder; give a folder with"):
        read_data_set(tmp_path / "0.png")


def test_a_folder_of_other_files(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BlemishError, match=r"no image, only 1 other file in it"):
        read_data_set(tmp_path)


REAL = {
    "screw": (
        320,
        {
            None: 41,
            "manipulated_front": 24,
            "scratch_head": 24,
            "scratch_neck": 25,
            "thread_side": 23,
            "thread_top": 23,
        },
    ),
    "magnetic_tile": (330, {None: 150, "blowhole": 115, "crack": 57, "uneven": 54}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_folders(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in ../shared/data or $BLEMISH_DATA")
    data = read_data_set(DATA / name)
    train, test = REAL[name]
    assert [sample.anomalous for sample in data.train] == [False] * train
    assert Counter(sample.defect for sample in data.test) == test
    assert all((sample.mask is not None) == sample.anomalous for sample in data.test)
    assert data.notes == ()
