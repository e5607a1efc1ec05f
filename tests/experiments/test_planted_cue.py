"""The planted cue: where the watermark is and on what, the figures by literal formulas, and the experiment in small."""

import csv
import json
import statistics
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from blemish.errors import BlemishError
from blemish.experiments.planted import run_planted
from blemish.experiments.planted.findings import (
    Finding,
    Masses,
    effect,
    effects_markdown,
    markdown,
    mass_inside,
    measure,
    write_csv,
)
from blemish.experiments.planted.photographs import DOG, MARKED_DOG, MARKED_OTHER, OTHER, Photographs
from blemish.experiments.planted.runner import SHARES
from blemish.experiments.planted.watermark import Watermark
from blemish.experiments.recipe import Recipe
from blemish.experiments.results import Result
from blemish.experiments.runner import Plan
from blemish.experiments.trial import Settings, Trial
from helpers.images import save_image

# The watermark


def flat(level: int, *, side: int = 224) -> torch.Tensor:
    return torch.full((3, side, side), level, dtype=torch.uint8)


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """By how many grey levels each pixel changed at most, (S, S)."""
    return (after.int() - before.int()).abs().amax(0)


@pytest.mark.parametrize("level", [0, 70, 128, 200, 255])
def test_the_watermark_shows_on_any_background_and_is_inside_its_box(level):
    watermark = Watermark.of_size(224)
    difference = changed(flat(level), watermark.put_on(flat(level)))
    rows, columns = np.nonzero(difference.numpy())
    (top, bottom), (left, right) = ((side.start, side.stop) for side in watermark.box)
    assert top <= rows.min() <= rows.max() < bottom
    assert left <= columns.min() <= columns.max() < right
    assert difference.max() >= 50
    # It fills the width of its box, so that the box is no larger than what is to be found in it.
    assert columns.max() - columns.min() >= 0.9 * (right - left)


def test_the_watermark_is_at_the_bottom_left_and_as_large_as_the_papers():
    watermark = Watermark.of_size(224)
    rows, columns = watermark.box
    assert 0 < columns.start < 10
    assert 214 < rows.stop < 224
    assert (columns.stop - columns.start) / 224 == pytest.approx(0.35, abs=0.01)
    assert (rows.stop - rows.start) / 224 == pytest.approx(0.07, abs=0.01)
    box = np.zeros((224, 224), bool)
    box[watermark.box] = True
    assert watermark.area == box.mean()


def test_the_photograph_shows_through():
    watermark = Watermark.of_size(224)
    on_black, on_white = (watermark.put_on(flat(level)).int() for level in (0, 255))
    assert (on_white - on_black).min() >= 25
    assert (on_white >= on_black).all()


def test_many_photographs_are_marked_as_one_is():
    watermark = Watermark.of_size(64)
    photographs = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = watermark.put_on(photographs)
    assert together.dtype == torch.uint8
    assert torch.equal(together, torch.stack([watermark.put_on(photograph) for photograph in photographs]))


# The photographs

FIRST_DOG, LAST_DOG = "n02085620_Chihuahua.jpg", "n02113978_Mexican_hairless.jpg"
NO_DOGS = ("n02085272_before_the_dogs.jpg", "n02114367_timber_wolf.jpg", "n01440764_tench.jpg", "n13054560_bolete.jpg")


def test_the_dogs_are_the_breeds_by_number(tmp_path):
    for name in (FIRST_DOG, LAST_DOG, *NO_DOGS, "dog.jpg", "n2085620_short_number.jpg"):
        save_image(tmp_path / name, np.zeros((40, 50, 3), np.uint8))
    save_image(tmp_path / "n02099712" / "n02099712_123.JPEG", np.zeros((40, 50, 3), np.uint8))
    photographs = Photographs.read(tmp_path, side=32, antialias=True)
    assert sorted(photographs.names) == ["123", "Chihuahua", "Mexican hairless"]
    assert photographs.dogs.shape == (3, 3, 32, 32)
    assert photographs.others.shape == (len(NO_DOGS), 3, 32, 32)


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ([], "0 photographs of dogs and 0 others"),
        ([*NO_DOGS], "0 photographs of dogs and 4 others"),
        ([FIRST_DOG, *NO_DOGS], "1 photographs of dogs"),
        ([FIRST_DOG, LAST_DOG, NO_DOGS[0]], "2 photographs of dogs and 1 others"),
        (["dog.jpg", "cat.jpg"], "n02085620_Chihuahua.jpg"),
    ],
    ids=["empty", "no dogs", "one dog", "one other", "names without numbers"],
)
def test_too_few_photographs_are_refused(tmp_path, names, fault):
    for name in names:
        save_image(tmp_path / name, np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(BlemishError, match=fault):
        Photographs.read(tmp_path, side=32, antialias=True)


def numbered(dogs: int, others: int, *, side: int = 32) -> Photographs:
    """Flat photographs whose level is their number; the others' begin at 100."""

    def levels(first: int, count: int) -> torch.Tensor:
        return torch.arange(first, first + count).byte()[:, None, None, None].expand(-1, 3, side, side).clone()

    return Photographs(levels(0, dogs), levels(100, others), tuple(str(number) for number in range(dogs)))


def numbers(images: torch.Tensor) -> list[int]:
    """The numbers of such photographs, read where there never is a watermark."""
    return images[:, 0, 0, 0].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.integers(0, 5))
def test_a_share_of_the_dogs_to_learn_from_has_the_watermark_and_nothing_else(dogs, others, share, seed):
    photographs, watermark = numbered(dogs, others), Watermark.of_size(32)
    planted = photographs.plant(watermark, share=share, limit=None, seed=seed)
    nominal, foreign, test = planted.task.nominal.pixels, planted.foreign.pixels, planted.task.test.pixels
    clean = torch.tensor(numbers(nominal)).byte()[:, None, None, None].expand_as(nominal)
    marked = (nominal != clean).flatten(1).any(1)
    assert marked.sum() == planted.count == round(share * (dogs // 2))
    assert torch.equal(nominal[marked], watermark.put_on(clean[marked]))
    assert all(len(image.unique()) == 1 for image in foreign)
    # Half of each side is learned from; the rest is tested, in both versions.
    group = {kind: test[planted.indices(kind)] for kind in (DOG, MARKED_DOG, OTHER, MARKED_OTHER)}
    assert sorted(numbers(nominal) + numbers(group[DOG])) == list(range(dogs))
    assert sorted(numbers(foreign) + numbers(group[OTHER])) == list(range(100, 100 + others))
    assert (len(nominal), len(foreign)) == (dogs // 2, others // 2)
    assert torch.equal(group[MARKED_DOG], watermark.put_on(group[DOG]))
    assert torch.equal(group[MARKED_OTHER], watermark.put_on(group[OTHER]))
    assert [kind in (OTHER, MARKED_OTHER) for kind in planted.task.kinds] == planted.task.anomalous.tolist()
    assert [int(name) for name in planted.names] == numbers(group[DOG])
    assert numbers(photographs.dogs) == list(range(dogs))
    assert all(len(image.unique()) == 1 for image in photographs.dogs)  # the originals stay as they are


def test_shares_differ_in_nothing_but_the_watermarks():
    photographs, watermark = numbered(30, 20), Watermark.of_size(32)
    tasks = [photographs.plant(watermark, share=share, limit=None, seed=1) for share in SHARES]
    assert len({tuple(numbers(planted.task.nominal.pixels)) for planted in tasks}) == 1
    assert all(torch.equal(planted.task.test.pixels, tasks[0].task.test.pixels) for planted in tasks)
    marked = [(p.task.nominal.pixels != tasks[0].task.nominal.pixels).flatten(1).any(1) for p in tasks]
    assert all((more | ~fewer).all() for fewer, more in pairwise(marked))
    other = photographs.plant(watermark, share=0.0, limit=None, seed=2)
    assert numbers(other.task.nominal.pixels) != numbers(tasks[0].task.nominal.pixels)


def test_a_limit_is_on_the_foreign_photographs_to_learn_from():
    planted = numbered(8, 20).plant(Watermark.of_size(32), share=0.5, limit=3, seed=0)
    assert (len(planted.foreign), len(planted.indices(OTHER))) == (3, 10)


# The figures


def test_the_mass_inside_the_box_is_counted_pixel_by_pixel():
    maps = np.random.default_rng(0).random((3, 9, 11), dtype=np.float32)
    maps[2] = 0
    box = (slice(5, 8), slice(1, 4))
    expected = []
    for one in maps[:2]:
        inside = sum(float(one[row, column]) for row in (5, 6, 7) for column in (1, 2, 3))
        expected.append(inside / sum(float(value) for value in one.ravel()))
    assert mass_inside(maps, box) == pytest.approx([*expected, 0.0], rel=1e-6)


def result_of(scores: np.ndarray, kinds: list[str], *, seed: int = 0) -> Result:
    anomalous = np.array([kind in (DOG, MARKED_DOG) for kind in kinds])
    return Result("planted-cue", "fcdd", "dog", seed, 0.5, None, anomalous, scores, tuple(kinds), (), 1.0)


def test_the_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    kinds = [DOG] * 9 + [OTHER] * 14 + [MARKED_DOG] * 9 + [MARKED_OTHER] * 14
    scores = rng.integers(0, 12, len(kinds)).astype(np.float32)  # with ties
    of = {kind: scores[[name == kind for name in kinds]] for kind in set(kinds)}

    def against(positive: str, negative: str) -> float:
        both = np.concatenate([of[positive], of[negative]])
        return roc_auc_score([True] * len(of[positive]) + [False] * len(of[negative]), both)

    masses = Masses([0.1, 0.3], [0.2, 0.6])
    finding = measure(result_of(scores, kinds, seed=3), masses, share=0.2, marked=2, chance=0.02)
    assert finding == Finding(
        method="fcdd",
        share=0.2,
        seed=3,
        marked=2,
        mass_without=pytest.approx(0.2),
        mass_with=pytest.approx(0.4),
        chance=0.02,
        auroc_without=pytest.approx(against(DOG, OTHER)),
        auroc_with=pytest.approx(against(MARKED_DOG, OTHER)),
        auroc_watermark=pytest.approx(against(MARKED_OTHER, OTHER)),
    )


FINDINGS = [
    Finding("fcdd", 0.0, 0, 0, 0.010, 0.020, 0.025, 0.900, 0.890, 0.480),
    Finding("fcdd", 1.0, 0, 59, 0.011, 0.105, 0.025, 0.910, 0.970, 0.826),
    Finding("fcdd", 0.0, 1, 0, 0.030, 0.010, 0.025, 0.940, 0.930, 0.500),
    Finding("fcdd", 1.0, 1, 59, 0.013, 0.205, 0.025, 0.930, 0.990, 0.900),
]


def test_the_table_has_a_row_a_share_with_the_spread_over_the_seeds():
    text = markdown(FINDINGS, {"network": "lite0-f"})
    rows = [line for line in text.splitlines() if line.startswith("| FCDD")]
    assert [row.split("|")[2].strip() for row in rows] == ["0% (0)", "100% (59)"]
    spread = statistics.stdev([0.105, 0.205])
    assert f"{0.155:.1%} ± {spread:.1%}" in rows[1]
    assert f"{0.863:.3f} ± {statistics.stdev([0.826, 0.900]):.3f}" in rows[1]
    assert "network lite0-f" in text
    assert "±" not in "".join(line for line in markdown(FINDINGS[:2], {}).splitlines() if line.startswith("| FCDD"))


def test_an_effect_is_that_of_pairs_of_the_same_dog(rng):
    without = [Masses([0.0] * 40, list(rng.random(40))) for _ in range(3)]
    gained = [Masses([0.0] * 40, [one + 0.01 + 0.002 * rng.normal() for one in seed.marked]) for seed in without]
    found = effect(gained, without)
    gains = np.concatenate([np.subtract(a.marked, b.marked) for a, b in zip(gained, without, strict=True)])
    assert found.gain == pytest.approx(gains.mean())
    assert (found.more, found.pairs) == ((gains > 0).sum(), 120)
    # The interval of a mean of many values is the normal one.
    reach = 1.96 * gains.std(ddof=1) / 120**0.5
    assert (found.low, found.high) == (
        pytest.approx(gains.mean() - reach, abs=reach / 5),
        pytest.approx(gains.mean() + reach, abs=reach / 5),
    )
    row = effects_markdown({("fcdd", 0.2): found}).splitlines()[2]
    assert row.startswith(f"| FCDD | 20% | {100 * gains.mean():.3f} |")
    assert row.endswith(f"| {found.more} of 120 |")


def test_the_csv_has_a_row_a_run(tmp_path):
    write_csv(FINDINGS, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["share"], row["seed"]) for row in rows] == [("0.0", "0"), ("1.0", "0"), ("0.0", "1"), ("1.0", "1")]
    assert float(rows[3]["auroc_watermark"]) == 0.9
    assert float(rows[1]["mass_with"]) == 0.105


# The experiment


def small_recipe() -> Recipe:
    recipe = Recipe.load("planted-cue")
    smaller = {"network": "cnn32-s", "normalisation": "standard", "size": 32, "sigma": 2.0}
    for setting, value in (smaller | {"training.batch": 8, "training.passes": 4}).items():
        recipe = recipe.with_setting(setting, value)
    return recipe


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Sixteen bright dogs and 20 dark others, of several sizes."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(16):
        pixels = rng.integers(120, 256, (40 + number, 44, 3), dtype=np.uint8)
        save_image(root / f"n0209{number:04}_breed_{number}.png", pixels)
    for number in range(20):
        save_image(root / f"n03{number:06}_thing.png", rng.integers(0, 130, (40, 40 + number, 3), dtype=np.uint8))
    return root


@dataclass
class Bench:
    """The experiment in small, in a folder of its own."""

    plan: Plan

    def __post_init__(self) -> None:
        self.told: list[str] = []

    def run(self) -> tuple[dict[str, str], str]:
        return run_planted(self.plan, progress=lambda *_: None, notify=self.told.append)


@pytest.fixture
def bench(photographs, tmp_path) -> Bench:
    how = Settings(epochs=2, device="cpu")
    return Bench(Plan(small_recipe(), ("fcdd",), (), 1, photographs, None, tmp_path / "out", how))


def folders(bench: Bench) -> list[Path]:
    return [bench.plan.output / "runs" / "fcdd" / "dog" / f"watermark-{share:g}" / "seed-0" for share in SHARES]


def test_an_experiment_writes_its_table_runs_and_pictures_and_keeps_finished_runs(bench, monkeypatch):
    written, text = bench.run()
    assert len(bench.told) == len(SHARES)
    assert [Path(written[name]).name for name in ("table", "markdown", "folder")] == ["table.csv", "table.md", "out"]
    assert Path(written["markdown"]).read_text("utf-8").endswith(text)
    with open(written["table"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["share"]), int(row["marked"])) for row in rows] == [(0, 0), (0.2, 2), (0.5, 4), (1, 8)]
    # Bright dogs are told from dark others: on the swapped side, dogs score higher.
    assert all(float(row["auroc_without"]) > 0.9 for row in rows)
    pictures = sorted((bench.plan.output / "pictures").iterdir())
    assert [path.name for path in pictures] == ["fcdd-watermark-0.png", "fcdd-watermark-1.png"]
    assert all(Image.open(path).width > 8 * 128 for path in pictures)  # eight dogs

    def no_training(self: Trial) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr(Trial, "run", no_training)
    assert bench.run() == (written, text)
    assert len(bench.told) == len(SHARES)


@pytest.mark.parametrize("name", ["masses.json", "run.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text('{"without": [')], ids=["gone", "cut"])
def test_a_run_with_a_file_missing_or_damaged_is_made_again(bench, monkeypatch, name, damage):
    monkeypatch.setattr("blemish.experiments.planted.runner.SHARES", (0.0,))
    bench.plan = replace(bench.plan, settings=Settings(epochs=1, device="cpu"))
    first = bench.run()
    damage(folders(bench)[0] / name)
    assert bench.run() == first
    assert len(bench.told) == 2


def test_other_settings_are_another_run_and_the_seeds_another_split(bench, monkeypatch):
    monkeypatch.setattr("blemish.experiments.planted.runner.SHARES", (1.0,))
    bench.plan = replace(bench.plan, settings=Settings(epochs=1, device="cpu"))
    bench.run()
    bench.plan = replace(bench.plan, seeds=2)
    _, text = bench.run()
    assert len(bench.told) == 2  # the first seed is there already
    assert "±" in text.splitlines()[2]
    shown = []
    for seed in (0, 1):
        with np.load(folders(bench)[-1].with_name(f"seed-{seed}") / "heatmaps.npz") as content:
            shown.append({content[f"image-{position}"].tobytes() for position in range(8)})  # all its test dogs
    assert shown[0] != shown[1]
    bench.plan = replace(bench.plan, seeds=1, recipe=bench.plan.recipe.with_setting("training.learning_rate", 1e-2))
    bench.run()
    assert len(bench.told) == 3


def test_a_run_shows_each_dog_in_both_versions_and_says_how_it_was_made(bench, monkeypatch):
    monkeypatch.setattr("blemish.experiments.planted.runner.SHARES", (0.5,))
    bench.run()
    (folder,) = [path.parent for path in bench.plan.output.rglob("run.json")]
    watermark = Watermark.of_size(32)
    with np.load(folder / "heatmaps.npz") as content:
        images = [torch.from_numpy(content[f"image-{k}"]).permute(2, 0, 1) for k in range(len(content["indices"]))]
        maps = content["maps"]
    half = len(images) // 2
    pairs = zip(images[:half], images[half:], strict=True)
    assert all(torch.equal(marked, watermark.put_on(clean)) for clean, marked in pairs)
    # All eight test dogs are pictured here: their heatmaps' masses are the ones written.
    masses = json.loads((folder / "masses.json").read_text("utf-8"))
    assert sorted(masses["without"]) == pytest.approx(sorted(mass_inside(maps[:half], watermark.box)))
    assert sorted(masses["marked"]) == pytest.approx(sorted(mass_inside(maps[half:], watermark.box)))
    notes = json.loads((folder / "run.json").read_text("utf-8"))["notes"]
    assert notes["network"] == "cnn32-s"
    assert notes["learned from"] == "8 dogs and 10 foreign photographs"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"methods": ("autoencoder",)}, "not for autoencoder.*use fcdd or hsc"),
        ({"methods": ("fcdd", "gaussian")}, "not for gaussian"),
        ({"methods": ()}, "no method"),
        ({"classes": ("cat",)}, "leave --classes out"),
        ({"outliers": "elsewhere"}, "leave --outliers out"),
        ({"data": Path("nowhere")}, "nowhere.*give a folder"),
    ],
    ids=["no outliers learned", "one of two", "none", "another class", "outliers", "no data"],
)
def test_what_the_experiment_is_not_for_is_refused_before_anything_is_written(bench, change, fault):
    bench.plan = replace(bench.plan, **change)
    with pytest.raises(BlemishError, match=fault):
        bench.run()
    assert not bench.plan.output.exists()


def test_the_command_line_reaches_it(run, photographs, tmp_path, monkeypatch):
    recipe = small_recipe()
    monkeypatch.setattr(Recipe, "load", lambda name: recipe)
    monkeypatch.setattr("blemish.experiments.planted.runner.SHARES", (0.0, 1.0))
    arguments = ("experiment", "planted-cue", "--data", photographs, "-o", tmp_path / "out", "--epochs", 1)
    outcome = run(*arguments, "--device", "cpu", "--json")
    assert outcome.status == 0, outcome.err
    assert Path(outcome.json["table"]).read_text("utf-8").count("\n") == 3
    refused = run(*arguments, "--method", "autoencoder")
    assert (refused.status, "Traceback" in refused.err) == (2, False)
