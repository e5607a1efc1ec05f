"""The benchmark of other supervision: which image goes where, in folders of empty files, for a layout opens none."""

import csv
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.datasets.layouts import DataSet, read_data_set
from blemish.errors import BlemishError
from conftest import load_script

GOOD, TESTED_GOOD, DEFECTIVE = 90, 5, {"crack": 8, "stain": 12}

regimes = load_script("regimes")


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
    return regimes.read_source(root)


def files(samples) -> set[Path]:
    """The files behind the links."""
    return {sample.path.resolve() for sample in samples}


def mask_of(image: Path) -> Path:
    """Where the source keeps the mask of this test image, spelled out."""
    defect = image.parent.name
    name = f"{image.stem}_mask.png" if defect == "crack" else f"{image.stem}.bmp"
    return image.parents[2] / "ground_truth" / defect / name


def test_unchanged_folder_holds_the_same_samples_in_the_same_order(source, tmp_path):
    built = regimes.link(regimes.Regime().apply(source, seed=0), tmp_path / "data")
    for split in ("train", "test"):
        theirs, ours = getattr(source, split), getattr(built, split)
        assert [one.path.resolve() for one in ours] == [one.path.resolve() for one in theirs]
        assert [one.defect for one in ours] == [one.defect for one in theirs]
        assert [one.mask and one.mask.resolve() for one in ours] == [one.mask and one.mask.resolve() for one in theirs]
    assert built.notes == ()


def test_a_folder_is_built_of_links_only(source, tmp_path):
    regimes.link(regimes.Regime(masks=2, contamination=5).apply(source, seed=0), tmp_path / "data")
    found = [path for path in (tmp_path / "data").rglob("*") if not path.is_dir()]
    assert found
    assert all(path.is_symlink() and path.exists() for path in found)


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "labels"])
def test_labelled_images_leave_the_test_and_keep_or_lose_their_masks(source, tmp_path, masks):
    drawn = regimes.draw_labels(source, 3, seed=0, masks=masks)
    regimes.link(drawn, tmp_path / "data")
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
    both = regimes.Regime(masks=2, labels=3).apply(source, seed=0)
    labelled = [sample for sample in both.train if sample.anomalous]
    assert len(files(labelled)) == 10
    assert Counter((sample.defect, sample.mask is not None) for sample in labelled) == {
        ("crack", True): 2,
        ("crack", False): 3,
        ("stain", True): 2,
        ("stain", False): 3,
    }


def test_unseen_type_is_never_labelled_and_tested_alone(source, tmp_path):
    regime = regimes.Regime(masks=3, unseen="crack")
    built = regimes.test_on(regimes.link(regime.apply(source, seed=0), tmp_path / "data"), "crack")
    assert {sample.defect for sample in built.train} == {None, "stain"}
    assert Counter(sample.defect for sample in built.test) == {None: TESTED_GOOD, "crack": DEFECTIVE["crack"]}
    reference = regimes.test_on(regimes.Regime().apply(source, seed=0), "crack")
    assert files(built.test) == files(reference.test)


@pytest.mark.parametrize("percent", [2, 5, 10])
def test_contamination_is_that_share_of_the_good_training_images(source, tmp_path, percent):
    built = regimes.link(regimes.contaminate(source, percent, seed=0), tmp_path / "data")
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
        train = regimes.contaminate(source, 5, seed=seed).train
        found |= {sample.path.parent.name for sample in train} - {"good"}
    assert found == set(DEFECTIVE)


def test_good_keeps_that_many(source):
    train = regimes.keep_good(source, 7, seed=0).train
    assert len(train) == 7
    assert files(train) < files(source.train)


def test_contamination_counts_the_good_images_that_are_kept(source):
    train = regimes.Regime(good=18, contamination=10).apply(source, seed=0).train
    assert Counter(sample.path.parent.name == "good" for sample in train) == {True: 18, False: 2}


EACH = {
    "masks": regimes.Regime(masks=2),
    "labels": regimes.Regime(labels=2),
    "contamination": regimes.Regime(contamination=5),
    "good": regimes.Regime(good=10),
}


@pytest.mark.parametrize("regime", EACH.values(), ids=EACH)
def test_the_seed_alone_decides_the_draw(source, regime):
    drawn = [regime.apply(source, seed=seed) for seed in (0, 1, 2)]
    assert [regime.apply(source, seed=seed) for seed in (0, 1, 2)] == drawn
    assert len({frozenset(files(one.train)) for one in drawn}) == 3


def test_the_place_of_the_data_does_not_matter(source, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.symlink_to(source.root, target_is_directory=True)
    regime = regimes.Regime(good=10, contamination=10, masks=2)
    there = regime.apply(regimes.read_source(moved), seed=0)
    assert files(there.train) == files(regime.apply(source, seed=0).train)


@pytest.mark.parametrize("name", ["masks", "labels", "contamination", "good"])
def test_more_include_the_fewer(source, name):
    fewer, more = (regimes.Regime(**{name: number}).apply(source, seed=0).train for number in (4, 6))
    assert files(fewer) < files(more)


def test_labels_are_the_same_beside_contamination(source):
    clean = regimes.Regime(masks=3).apply(source, seed=0)
    mixed = regimes.Regime(masks=3, contamination=2).apply(source, seed=0)
    labelled = files(sample for sample in clean.train if sample.anomalous)
    contaminating = {path for path in files(mixed.train) if path.parent.name != "good"} & files(
        sample for sample in mixed.train if not sample.anomalous
    )
    assert labelled - contaminating <= files(sample for sample in mixed.train if sample.anomalous)


FAULTS = {
    "more good images than there are": (regimes.Regime(good=GOOD + 1), "90 good training images"),
    "contamination by nothing": (regimes.Regime(good=3, contamination=1), "takes 0 of 20"),
    "contamination by all": (regimes.Regime(contamination=50), "takes 90 of 20"),
    "no test image left": (regimes.Regime(labels=8), "crack has 8 test images"),
}


@pytest.mark.parametrize(("regime", "message"), FAULTS.values(), ids=FAULTS)
def test_refuses_what_the_data_cannot_give(source, regime, message):
    with pytest.raises(BlemishError, match=message):
        regime.apply(source, seed=0)


def test_refuses_masks_that_are_not_there(source):
    bare = replace(source, test=tuple(replace(sample, mask=None) for sample in source.test))
    with pytest.raises(BlemishError, match="0 with masks"):
        regimes.draw_labels(bare, 1, seed=0, masks=True)


def test_refuses_a_source_with_labels_of_its_own(source, tmp_path):
    regimes.link(regimes.Regime(labels=1).apply(source, seed=0), tmp_path / "data")
    with pytest.raises(BlemishError, match="leave only good/ in train/"):
        regimes.read_source(tmp_path / "data")


def test_every_option_is_in_the_words():
    plain = regimes.Regime()
    others = [replace(plain, **{name: 3}) for name in ("good", "contamination", "masks", "labels", "size")] + [
        replace(plain, masks=3, unseen="crack"),
        replace(plain, labels=3, unseen="crack"),
    ]
    words = [one.words(tested) for one in (plain, *others) for tested in (None, "crack", "stain")]
    assert len(set(words)) == len(words)


def fake_runs(monkeypatch) -> list[tuple[str, list[str | None], int]]:
    """Training and evaluation stood in for: the list fills with what was asked for."""
    asked = []

    def measure(source, regime, tested, seed):
        asked.append((regime.words(None), list(tested), seed))
        return [[0.5 + seed / 10, np.nan, 0.25, 1.0] for _ in tested]

    monkeypatch.setattr(regimes, "measure", measure)
    return asked


def call(monkeypatch, source: DataSet, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["regimes.py", source.root.name, "--data", str(source.root.parent), *arguments])
    regimes.main()


def test_an_interrupted_benchmark_goes_on_where_it_was(source, tmp_path, monkeypatch, capsys):
    asked, file = fake_runs(monkeypatch), tmp_path / "runs.csv"
    call(monkeypatch, source, "--masks", "2", "--csv", str(file), "--seeds", "2")
    assert [seed for *_, seed in asked] == [0, 1]
    call(monkeypatch, source, "--masks", "2", "--csv", str(file), "--seeds", "3")
    assert [seed for *_, seed in asked] == [0, 1, 2]
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["data"], row["seed"], row["image_auroc"]) for row in rows] == [
        (source.root.name, "0", "0.5"),
        (source.root.name, "1", "0.6"),
        (source.root.name, "2", "0.7"),
    ]
    last = capsys.readouterr().out.splitlines()[-1]
    # The sample standard deviation of 0.5, 0.6 and 0.7 is the root of 0.02 / 2.
    assert last.endswith("| 0.600 ± 0.100 | – | 0.250 ± 0.000 | 1.000 ± 0.000 |")
    call(monkeypatch, source, "--masks", "3", "--csv", str(file), "--seeds", "1")
    assert len(asked) == 4


def test_unseen_trains_once_without_labels_and_once_a_type(source, monkeypatch, capsys):
    asked = fake_runs(monkeypatch)
    call(monkeypatch, source, "--labels", "2", "--unseen", "--seeds", "1")
    assert [(tested, "without masks" in words) for words, tested, _ in asked] == [
        (["crack", "stain"], False),
        (["crack"], True),
        (["stain"], True),
    ]
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 6
    assert rows[2].startswith(f"| {source.root.name} | difference on crack | +0.000 | – |")


BAD_OPTIONS = {
    "unseen without labels": (["--unseen"], "give --masks or --labels too"),
    "no masks": (["--masks", "0"], "1 or more"),
    "contamination of everything": (["--contamination", "100"], "between 0 and 100"),
    "no folder for the CSV": (["--csv", "nowhere/runs.csv"], "no such folder"),
    "too many labels": (["--labels", "50"], "leave one to test"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_one_sentence(source, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, source, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
