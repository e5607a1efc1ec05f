"""Draws of the benchmarks: which image goes where, in folders of empty files, for a layout opens none."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.datasets.layouts import DataSet, read_data_set
from blemish.errors import BlemishError
from helpers.scripts import load_script

GOOD, TESTED_GOOD, DEFECTIVE = 90, 5, {"crack": 8, "stain": 12}

draws = load_script("draws")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> DataSet:
    """Names occur in every folder alike, as in MVTec's data; masks are called one way here, the other way there."""
    root = tmp_path_factory.mktemp("source")
    names = [f"train/good/{i:03d}.png" for i in range(GOOD)] + [f"test/good/{i:03d}.png" for i in range(TESTED_GOOD)]
    for defect, number in DEFECTIVE.items():
        names += [f"test/{defect}/{i:03d}.png" for i in range(number)]
        end = "_mask.png" if defect == "crack" else ".bmp"
        names += [f"ground_truth/{defect}/{i:03d}{end}" for i in range(number)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return draws.read_source(root)


def drawn(
    source: DataSet,
    *,
    seed: int = 0,
    good: int | None = None,
    contamination: float = 0,
    masks: int = 0,
    labels: int = 0,
    unseen: str | None = None,
) -> DataSet:
    """Several draws, one after the other."""
    if good is not None:
        source = draws.keep_good(source, good, seed=seed)
    if contamination:
        source = draws.contaminate(source, contamination, seed=seed)
    source = draws.draw_labels(source, masks, seed=seed, masks=True, unseen=unseen)
    return draws.draw_labels(source, labels, seed=seed, masks=False, unseen=unseen)


def files(samples) -> set[Path]:
    """The files behind the links."""
    return {sample.path.resolve() for sample in samples}


def mask_of(image: Path) -> Path:
    """Where the source keeps the mask of this test image, spelled out."""
    defect = image.parent.name
    name = f"{image.stem}_mask.png" if defect == "crack" else f"{image.stem}.bmp"
    return image.parents[2] / "ground_truth" / defect / name


def test_unchanged_folder_holds_the_same_samples_in_the_same_order(source, tmp_path):
    built = draws.link(source, tmp_path / "data")
    for split in ("train", "test"):
        theirs, ours = getattr(source, split), getattr(built, split)
        assert [one.path.resolve() for one in ours] == [one.path.resolve() for one in theirs]
        assert [one.defect for one in ours] == [one.defect for one in theirs]
        assert [one.mask and one.mask.resolve() for one in ours] == [one.mask and one.mask.resolve() for one in theirs]
    assert built.notes == ()


def test_a_folder_is_built_of_links_only(source, tmp_path):
    draws.link(drawn(source, masks=2, contamination=5), tmp_path / "data")
    found = [path for path in (tmp_path / "data").rglob("*") if not path.is_dir()]
    assert found
    assert all(path.is_symlink() and path.exists() for path in found)


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "labels"])
def test_labelled_images_leave_the_test_and_keep_or_lose_their_masks(source, tmp_path, masks):
    drawn = draws.draw_labels(source, 3, seed=0, masks=masks)
    draws.link(drawn, tmp_path / "data")
    built = read_data_set(tmp_path / "data")
    labelled = [sample for sample in built.train if sample.anomalous]
    assert Counter(sample.defect for sample in labelled) == {"crack": 3, "stain": 3}
    for sample in labelled:
        file = sample.path.resolve()
        assert file.parent.name == sample.defect
        assert (sample.mask and sample.mask.resolve()) == (mask_of(file) if masks else None)
    assert files(labelled).isdisjoint(files(built.test))
    assert files(labelled) | files(built.test) == files(source.test)
    for sample in built.test:
        if sample.anomalous:
            assert sample.mask is not None
            assert sample.mask.resolve() == mask_of(sample.path.resolve())
    assert built.notes == ()  # no mask without an image, none contested


def test_masks_and_labels_together_are_different_images(source):
    both = drawn(source, seed=0, masks=2, labels=3)
    labelled = [sample for sample in both.train if sample.anomalous]
    assert len(files(labelled)) == 10
    assert Counter((sample.defect, sample.mask is not None) for sample in labelled) == {
        ("crack", True): 2,
        ("crack", False): 3,
        ("stain", True): 2,
        ("stain", False): 3,
    }


def test_unseen_type_is_never_labelled_and_tested_alone(source, tmp_path):
    chosen = {"masks": 3, "unseen": "crack"}
    built = draws.test_on(draws.link(drawn(source, **chosen), tmp_path / "data"), "crack")
    assert {sample.defect for sample in built.train} == {None, "stain"}
    assert Counter(sample.defect for sample in built.test) == {None: TESTED_GOOD, "crack": DEFECTIVE["crack"]}
    reference = draws.test_on(drawn(source, seed=0), "crack")
    assert files(built.test) == files(reference.test)


@pytest.mark.parametrize("percent", [2, 5, 10])
def test_contamination_is_that_share_of_the_good_training_images(source, tmp_path, percent):
    built = draws.link(draws.contaminate(source, percent, seed=0), tmp_path / "data")
    assert not any(sample.anomalous for sample in built.train)
    defective = {sample.path.resolve() for sample in source.test if sample.anomalous}
    contaminating = files(built.train) & defective
    assert len(contaminating) / len(built.train) == pytest.approx(percent / 100, abs=0.5 / GOOD)
    assert len(built.train) == GOOD + len(contaminating)  # every name is its own: none replaced another
    assert contaminating.isdisjoint(files(built.test))
    assert contaminating | files(built.test) == files(source.test)
    assert built.notes == ()  # their masks are gone with them


def test_contamination_mixes_the_types(source):
    found = set()
    for seed in range(5):
        train = draws.contaminate(source, 5, seed=seed).train
        found |= {sample.path.parent.name for sample in train} - {"good"}
    assert found == set(DEFECTIVE)


def test_good_keeps_that_many(source):
    train = draws.keep_good(source, 7, seed=0).train
    assert len(train) == 7
    assert files(train) < files(source.train)


def test_contamination_counts_the_good_images_that_are_kept(source):
    train = drawn(source, seed=0, good=18, contamination=10).train
    assert Counter(sample.path.parent.name == "good" for sample in train) == {True: 18, False: 2}


EACH = {
    "masks": {"masks": 2},
    "labels": {"labels": 2},
    "contamination": {"contamination": 5},
    "good": {"good": 10},
}


@pytest.mark.parametrize("chosen", EACH.values(), ids=EACH)
def test_the_seed_alone_decides_the_draw(source, chosen):
    first = [drawn(source, seed=seed, **chosen) for seed in (0, 1, 2)]
    assert [drawn(source, seed=seed, **chosen) for seed in (0, 1, 2)] == first
    assert len({frozenset(files(one.train)) for one in first}) == 3


def test_the_place_of_the_data_does_not_matter(source, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.symlink_to(source.root, target_is_directory=True)
    chosen = {"good": 10, "contamination": 10, "masks": 2}
    there = drawn(draws.read_source(moved), **chosen)
    assert files(there.train) == files(drawn(source, **chosen).train)


@pytest.mark.parametrize("name", ["masks", "labels", "contamination", "good"])
def test_more_include_the_fewer(source, name):
    fewer, more = (drawn(source, seed=0, **{name: number}).train for number in (4, 6))
    assert files(fewer) < files(more)


def test_labels_are_the_same_beside_contamination(source):
    clean = drawn(source, seed=0, masks=3)
    mixed = drawn(source, seed=0, masks=3, contamination=2)
    labelled = files(sample for sample in clean.train if sample.anomalous)
    contaminating = {path for path in files(mixed.train) if path.parent.name != "good"} & files(
        sample for sample in mixed.train if not sample.anomalous
    )
    assert labelled - contaminating <= files(sample for sample in mixed.train if sample.anomalous)


FAULTS = {
    "more good images than there are": ({"good": GOOD + 1}, "90 good training images"),
    "contamination by nothing": ({"good": 3, "contamination": 1}, "takes 0 of 20"),
    "contamination by all": ({"contamination": 50}, "takes 90 of 20"),
    "no test image left": ({"labels": 8}, "crack has 8 test images"),
}


@pytest.mark.parametrize(("chosen", "message"), FAULTS.values(), ids=FAULTS)
def test_refuses_what_the_data_cannot_give(source, chosen, message):
    with pytest.raises(BlemishError, match=message):
        drawn(source, **chosen)


def test_refuses_masks_that_are_not_there(source):
    bare = replace(source, test=tuple(replace(sample, mask=None) for sample in source.test))
    with pytest.raises(BlemishError, match="0 with masks"):
        draws.draw_labels(bare, 1, seed=0, masks=True)


def test_refuses_a_source_with_labels_of_its_own(source, tmp_path):
    draws.link(drawn(source, seed=0, labels=1), tmp_path / "data")
    with pytest.raises(BlemishError, match="leave only good/ in train/"):
        draws.read_source(tmp_path / "data")
