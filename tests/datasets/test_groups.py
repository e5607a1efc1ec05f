"""Groups of images stay together in every split, and with them false alarms stay below the promised rate."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.conformal.split import Calibration
from blemish.datasets.groups import PATTERNS, Grouping, suggest
from blemish.datasets.splits import Split, fold_nominal, members_of, one_of_each, split_nominal
from blemish.errors import BlemishError
from blemish.model.detector import Detector
from helpers.images import noise, save_image
from helpers.plans import prepared

ROOT = Path("data")
GROUPS = st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(lambda groups: len(set(groups)) >= 2)


def check(split: Split, groups: list[int], *, validate: bool) -> None:
    fit, validation, calibration = (
        {groups[i] for i in part} for part in (split.fit, split.validation, split.calibration)
    )
    assert not fit & calibration
    assert fit | calibration == set(groups)
    assert len(split.calibration) == len(calibration)  # one image of each
    for part, of_part in ((split.fit, fit), (split.validation, validation)):
        assert list(part) == [i for i, group in enumerate(groups) if group in of_part]  # all images of each
    assert set(split.validation) <= set(split.fit)
    assert bool(split.validation) == (validate and len(fit) > 1)
    assert validation < fit


@given(GROUPS, st.sampled_from([0.3, 0.05]), st.integers(0, 9), st.booleans())
def test_no_group_is_split(groups: list[int], rate: float, seed: int, validate: bool) -> None:
    split = split_nominal(len(groups), false_alarm_rate=rate, seed=seed, validate=validate, groups=groups)
    check(split, groups, validate=validate)


@given(GROUPS, st.floats(0, 1), st.integers(0, 9), st.booleans())
def test_no_group_is_split_by_folds_and_each_calibrates_once(
    groups: list[int], share: float, seed: int, validate: bool
) -> None:
    number = len(set(groups))
    folds = 2 + round(share * (number - 2))
    splits = fold_nominal(len(groups), folds=folds, seed=seed, validate=validate, groups=groups)
    for split in splits:
        check(split, groups, validate=validate)
    assert sorted(groups[i] for split in splits for i in split.calibration) == sorted(set(groups))
    assert {len(split.calibration) for split in splits} <= {number // folds, -(-number // folds)}


@given(st.integers(2, 60), st.integers(0, 9), st.booleans())
def test_images_that_are_all_alone_are_split_as_without_groups(images: int, seed: int, validate: bool) -> None:
    split = split_nominal(images, false_alarm_rate=0.05, seed=seed, validate=validate)
    alone = split_nominal(images, false_alarm_rate=0.05, seed=seed, validate=validate, groups=range(images))
    assert split == alone


def test_each_image_of_a_group_is_chosen_as_often() -> None:
    rng = np.random.default_rng(0)
    chosen = [one_of_each(members_of("aabbbb", 6), rng) for _ in range(4000)]
    shares = np.bincount(np.ravel(chosen), minlength=6) / 4000
    np.testing.assert_allclose(shares, [1 / 2, 1 / 2, *[1 / 4] * 4], atol=0.03)


# The guarantee, by simulation: a score is the distance to the nearest image that was fitted to


RATE = 2 / 9  # which the 8 groups held back of 40 hold to the dot


def false_alarms(*, grouped: bool, seed: int) -> float:
    """At that rate, of 20 photographs of each of two new parts, with 40 parts of one to nine photographs."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), rng.integers(1, 10, 40)).tolist()
    images = rng.normal(size=(40, 4))[groups] + 0.2 * rng.normal(size=(len(groups), 4))
    new = (rng.normal(size=(2, 1, 4)) + 0.2 * rng.normal(size=(2, 20, 4))).reshape(-1, 4)
    given = groups if grouped else None
    split = split_nominal(len(groups), false_alarm_rate=0.01, seed=seed, validate=False, groups=given)
    fit = images[list(split.fit)]
    held_back, scores = (
        np.linalg.norm(some[:, None] - fit, axis=2).min(1) for some in (images[list(split.calibration)], new)
    )
    threshold = Calibration(held_back.tolist(), RATE).threshold
    return float((scores >= threshold).mean())


def test_with_whole_groups_false_alarms_stay_below_the_rate_and_without_they_do_not() -> None:
    runs = 600
    found = {grouped: [false_alarms(grouped=grouped, seed=seed) for seed in range(runs)] for grouped in (True, False)}
    error = np.std(found[True]) / np.sqrt(runs)
    assert abs(np.mean(found[True]) - RATE) <= 3 * error
    assert np.mean(found[False]) > 2 * RATE


# What is given


def paths(*names: str) -> list[Path]:
    return [ROOT / name for name in names]


def read(given: object, *names: str, others: tuple[str, ...] = ()) -> Grouping:
    good = paths(*names)
    return Grouping.read(given, good=good, every=[*good, *paths(*others)], root=ROOT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "together", "alone"),
    [
        (r"/(\d+)_", [["a/1_x.png", "a/1_y.png"], ["a/2_x.png"]], ["a/3.png"]),
        (r"part\d", [["part1/x.png", "part1/y.png"], ["part2/x.png"]], []),
        (r"(a)|b", [["a.png"]], ["b.png"]),  # the first group took no part in the match
        (r"x(\d*)", [["x1.png"]], ["x.png"]),  # an empty name is none
        (r"(?i)LOT(\d)", [["lot1/a.png", "Lot1/b.png"], ["LOT2/c.png"]], []),
    ],
)
def test_a_pattern_groups_by_its_first_group_or_its_match(
    pattern: str, together: list[list[str]], alone: list[str]
) -> None:
    names = [name for group in together for name in group] + alone
    grouping = read(pattern, *names)
    groups = grouping.of(paths(*names), ROOT)
    expected = [f"group {i}" for i, group in enumerate(together) for _ in group] + alone
    assert [groups.index(group) for group in groups] == [expected.index(group) for group in expected]
    said = grouping.statement(paths(*names), ROOT)
    assert f"in {len(set(expected))} group" in said
    assert ("count alone: " in said) == bool(alone)
    assert "\n" not in said


def test_a_lone_image_is_in_no_group_that_is_called_as_it_is() -> None:
    grouping = read(r"^(.*)x$", "b.png", "b.pngx")
    assert len(set(grouping.of(paths("b.png", "b.pngx"), ROOT))) == 2


def write_table(file: Path, *rows: tuple[str, ...], head: tuple[str, ...] = ("path", "group")) -> Path:
    with open(file, "w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([head, *rows])
    return file


def test_a_table_groups_by_paths_below_the_folder(tmp_path: Path) -> None:
    file = write_table(
        tmp_path / "Parts.CSV", ("a, b.png", "1"), ("./c.png", " 1 "), ("bad/x.png", "9"), ("d.png", "2")
    )
    names = ("a, b.png", "c.png", "d.png", "e.png")
    for table in (file, str(file)):
        grouping = read(table, *names, others=("bad/x.png",))
        assert grouping.by == "Parts.CSV"
        first, second, third, fourth = grouping.of(paths(*names), ROOT)
        assert first == second
        assert len({first, third, fourth}) == 3
        assert grouping.statement(paths(*names), ROOT) == (
            "4 good images in 3 groups by Parts.CSV; 1 image that it does not name count alone: e.png; one image of "
            "each group that is held back calibrates"
        )


def test_the_record_tells_other_groups_of_the_same_name_apart(tmp_path: Path) -> None:
    file = tmp_path / "g.csv"
    records = []
    for groups in ("1122", "1221", "1122"):
        write_table(file, *((f"{i}.png", group) for i, group in enumerate(groups)))
        names = [f"{i}.png" for i in range(4)]
        records.append(read(file, *names).as_record(paths(*names), ROOT))
    assert records[0] == records[2] != records[1]
    assert (records[0]["by"], records[0]["number"]) == ("g.csv", 2)


BAD = [
    (3, "must be a pattern or a CSV file"),
    ("", "must be a pattern or a CSV file"),
    ("(", "is no regular expression: "),
    ("a{99999999999}", "is no regular expression: "),
    ("lot7", r"no good training image's path matches the pattern of groups 'lot7': paths look like train/good/a1.png"),
    ("train", "all 3 good training images are one group by train"),
    ("nowhere.csv", "nowhere.csv: no such file"),
]
GOOD = ("train/good/a1.png", "train/good/a2.png", "train/good/b1.png")


@pytest.mark.parametrize(("given", "fault"), BAD)
def test_what_is_no_grouping_is_refused_in_a_sentence(given: object, fault: str) -> None:
    with pytest.raises(BlemishError, match=fault) as caught:
        read(given, *GOOD)
    assert "\n" not in str(caught.value)


BAD_TABLES = [
    (b"", "its first line must be path,group"),
    (b"path,part\n", "its first line must be path,group"),
    (b"path,group\n", "names no good training image"),
    (b"path,group\ntest/x.png,1\n", "names no good training image"),
    (b"path,group\ntrain/good/a9.png,1\n", "row 2: train/good/a9.png is no image of the data"),
    (b"path,group\na1.png,1\n", "row 2: a1.png is no image of the data; give its path below the folder"),
    (b"path,group\ntrain/good/a1.png,1\ntrain/good/a1.png,2\n", "row 3: train/good/a1.png is named a second time"),
    (b"path,group\ntrain/good/a1.png\n", "row 2: it must have a path and a group"),
    (b"path,group\ntrain/good/a1.png,\n", "row 2: it must have a path and a group"),
    (b"path,group\ntrain/good/a1.png,1,2\n", "row 2: it must have a path and a group"),
    (b'path,group\n"train/good/a1.png,1\n', "is no CSV file in UTF-8"),
    (b"path,group\n\xff\xfe,1\n", "is no CSV file in UTF-8"),
    (b"path,group\ntrain/good/a\0.png,1\n", "is no"),
    (b"".join([b"path,group\n", *(f"{name},1\n".encode() for name in GOOD)]), "all 3 good training images are one"),
]


@pytest.mark.parametrize(("content", "fault"), BAD_TABLES)
def test_a_damaged_table_is_refused_in_a_sentence(content: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(content)
    with pytest.raises(BlemishError, match=fault) as caught:
        read(tmp_path / "g.csv", *GOOD, others=("test/x.png",))
    assert "\n" not in str(caught.value)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(BlemishError, match="all 4 distinct good training images are one group"):
        split_nominal(4, false_alarm_rate=0.1, seed=0, validate=False, groups="aaaa")
    with pytest.raises(BlemishError, match=r"4 distinct .* in 2 groups do not make 3 folds: give 2 to 2"):
        fold_nominal(4, folds=3, seed=0, validate=False, groups="aabb")
    with pytest.raises(ValueError, match="groups of 2 images, but there are 3"):
        split_nominal(3, false_alarm_rate=0.1, seed=0, validate=False, groups="ab")


# Patterns that doctor suggests


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("good/{part}_{view}.png", PATTERNS[0]),
        ("good/part{part}-{view}.jp2", PATTERNS[0]),
        ("lot1-x{part}-{view}.png", PATTERNS[1]),
        ("exp{view}_num_{part}.jpg", PATTERNS[2]),
        ("{part}/{view}.png", PATTERNS[3]),
        ("{any}.png", None),
    ],
)
def test_the_pattern_that_names_give_is_found(name: str, pattern: str | None) -> None:
    order = np.random.default_rng(0).permutation(36)
    names = [
        name.format(part=100 + part, view=view, any=order[6 * part + view]) for part in range(6) for view in range(6)
    ]
    alike = [(6 * part + view, 6 * part + view + 1) for part in range(6) for view in (0, 2, 4)]
    assert suggest(paths(*names), ROOT, alike) == pattern
    assert suggest(paths(*names), ROOT, [(i, (7 * i + 11) % 36) for i in range(36)]) is None
    assert suggest(paths(*names), ROOT, []) is None
    if pattern:
        groups = read(pattern, *names).of(paths(*names), ROOT)
        assert [groups[i] == groups[0] for i in range(36)] == [i < 6 for i in range(36)]


# Training


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six parts in two photographs each, and one alone."""
    root = tmp_path_factory.mktemp("grouped")
    for part in range(6):
        for view in "ab":
            pixels = noise(part) // 2 + noise(100 + part + 50 * (view == "b")) // 2
            save_image(root / f"data/train/good/{part}{view}.png", pixels)
    save_image(root / "data/train/good/x.png", noise(7))
    return root / "data"


def test_training_holds_whole_groups_back_and_says_so(photographs: Path, tmp_path: Path, run: Callable) -> None:
    output = tmp_path / "m.onnx"
    options = ("--size", 64, "--seed", 1)
    outcome = run("train", photographs, "-o", output, "--groups", r"(\d)[ab]\.png", *options)
    assert outcome.status == 0
    assert r"13 good images in 7 groups by (\d)[ab]\.png; 1 image that it does not name count" in outcome.err
    metadata = Detector.load(output).metadata
    assert (metadata.settings["groups"]["by"], metadata.settings["groups"]["number"]) == (r"(\d)[ab]\.png", 7)
    calibrate = metadata.data["calibration_images"]
    assert calibrate == len(metadata.roles["calibration"]) == 1
    assert metadata.data["train_images"] == len(metadata.roles["fit"]) in (11, 12)
    assert len(metadata.drift_reference["brightness"]) == 7
    card = run("info", output)
    assert "Good images came in 7 groups (by (\\d)[ab]\\.png)" in card.out
    assert json.loads(run("info", output, "--json").out)["settings"]["groups"]["number"] == 7


def test_folds_are_of_whole_groups(photographs: Path) -> None:
    made = prepared(photographs, groups=r"(\d)[ab]\.png", cross_conformal=7)
    assert [network.calibration for network in made.plan.networks] == [1] * 7
    assert len(made.roles()["fit"]) == 13
    with pytest.raises(BlemishError, match="in 7 groups do not make 8 folds"):
        prepared(photographs, groups=r"(\d)[ab]\.png", cross_conformal=8)


def test_a_few_groups_promise_what_as_many_images_would(photographs: Path) -> None:
    told: list[str] = []
    prepared(photographs, said=told, groups=r"(\d)[ab]\.png")
    assert any(re.search("few good images: 1 of 7 groups calibrates", one) for one in told)


def test_the_option_is_in_the_help(run: Callable) -> None:
    said = " ".join(run("train", "--help").out.split())
    assert "--groups PATTERN|FILE.csv" in said
    assert "held out together" in said
