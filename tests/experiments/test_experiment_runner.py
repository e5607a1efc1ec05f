"""Whole experiments on small folders of images: what is run, kept, made again and refused, also by the command line."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from blemish.errors import BlemishError
from blemish.experiments import recipe as recipes
from blemish.experiments import runner, runs, summary
from blemish.experiments.data.tasks import ArrayImages, Task
from blemish.experiments.published import Curve, Published
from blemish.experiments.recipe import Ablation, Recipe
from blemish.experiments.results import Point, Result
from blemish.experiments.runner import Plan, run_experiment
from blemish.experiments.runs import Run, file_name, load_result, save_pictured, save_result
from blemish.experiments.trial import Settings
from helpers.images import save_image

TINY = """
title = "Stripes"
source = "class-folders"
network = "cnn32-s"
size = 32
normalisation = "standard"
sigma = 1.2
quantile = 0.85

[training]
optimiser = "adam"
learning_rate = 1e-3
weight_decay = 0.0
batch = 8
epochs = 2

[augmentation]
padding = 2
flip = true
"""
ABLATION = (
    'base = "tiny"\ntitle = "How many"\n[vary]\nsetting = "supervision.limit"\ntitle = "outliers"\nvalues = [1, 4]\n'
)
PARTS = (
    TINY.replace('source = "class-folders"', 'source = "mvtec"\npixel_wise = true')
    .replace("padding = 2\nflip = true", "crop_or_resize = true")
    .replace("[training]", "[reading]\nsize = 36\n\n[training]")
)
CLASSES = {"cat": 4, "dog": 8, "eel": 16}  # width of the stripes in pixels


def stripes(width: int, *, seed: int, side: int = 32) -> np.ndarray:
    """A noisy striped image, uint8 (S, S, 3)."""
    rng = np.random.default_rng(seed)
    waves = 128 + 80 * np.sin(np.pi * (np.arange(side) + rng.uniform(0, width)) / width)
    return (waves[None, :, None] + rng.normal(0, 10, (side, side, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Class folders: 12 training and 6 test images of each class."""
    root = tmp_path_factory.mktemp("data")
    for name, width in CLASSES.items():
        for split, count in (("train", 12), ("test", 6)):
            for k in range(count):
                save_image(
                    root / split / name / f"{k}.png", stripes(width, seed=100 * width + k + 50 * (split == "test"))
                )
    return root


@pytest.fixture(scope="session")
def foreign(tmp_path_factory) -> Path:
    """A folder of foreign images of several sizes."""
    root = tmp_path_factory.mktemp("foreign")
    for k in range(6):
        save_image(root / f"{k}.png", np.random.default_rng(k).integers(0, 256, (32 + k, 40, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="session")
def inspection(tmp_path_factory) -> Path:
    """One class in MVTec's layout: 40 pixels a side, two kinds of defects of 3 and 4 images, with masks."""
    root = tmp_path_factory.mktemp("mvtec") / "screw"
    for k in range(8):
        save_image(root / f"train/good/{k}.png", stripes(5, seed=k, side=40))
    for k in range(4):
        save_image(root / f"test/good/{k}.png", stripes(5, seed=20 + k, side=40))
    for kind, count in (("hole", 3), ("scratch", 4)):
        for k in range(count):
            pixels, mask = stripes(5, seed=40 + k, side=40), np.zeros((40, 40), np.uint8)
            mask[5 + k : 15, 10:20] = 255
            pixels[mask > 0] = 0
            save_image(root / f"test/{kind}/{k}.png", pixels)
            save_image(root / f"ground_truth/{kind}/{k}_mask.png", mask)
    return root.parent


@dataclass
class Log:
    """What an experiment told while it ran."""

    epochs: list[tuple[str, int]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    kill: tuple[str, int] | None = None

    def progress(self, name: str, done: int, total: int) -> None:
        self.epochs.append((name, done))
        if self.kill == (name, done):
            raise KeyboardInterrupt

    @property
    def made(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.epochs))


@pytest.fixture
def plan(data, foreign, tmp_path, monkeypatch) -> Plan:
    """One run of two epochs, without tables and plots: these take longer than the runs here."""
    monkeypatch.setattr(runner, "summarise", lambda *_, **__: ({}, ""))
    return Plan(
        recipe=Recipe.from_toml(TINY, name="tiny"),
        methods=("fcdd",),
        classes=("cat",),
        seeds=1,
        data=data,
        outliers=str(foreign),
        output=tmp_path / "out",
        settings=Settings(device="cpu"),
    )


def make(plan: Plan, *, kill: tuple[str, int] | None = None) -> Log:
    log = Log(kill=kill)
    run_experiment(plan, progress=log.progress, notify=log.sentences.append)
    return log


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "table.csv").read_text("utf-8"))))


# What is made


@pytest.fixture(scope="session")
def finished(data, foreign, tmp_path_factory) -> Path:
    """The folder of a finished experiment: two methods, two classes, two seeds."""
    output = tmp_path_factory.mktemp("finished")
    recipe = Recipe.from_toml(TINY, name="tiny")
    settings = Settings(device="cpu", epochs=1)
    make(Plan(recipe, ("hsc", "fcdd"), ("cat", "dog"), 2, data, str(foreign), output, settings))
    return output


def test_every_run_has_its_folder(finished):
    for method in ("fcdd", "hsc"):
        for name in ("cat", "dog"):
            for seed in (0, 1):
                folder = finished / "runs" / method / name / f"seed-{seed}"
                assert {path.name for path in folder.iterdir()} == {
                    *("run.json", "scores.csv", "curve.csv", "heatmaps.npz", "network.safetensors"),
                }  # and no checkpoint


def test_tables_plots_and_pictures_are_there(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *("runs", "pictures", "table.csv", "table.md", "mean-roc.png"),
        *(f"{kind}-{method}.png" for kind in ("roc", "training") for method in ("fcdd", "hsc")),
    }
    pictures = sorted((finished / "pictures").iterdir())
    assert [path.name for path in pictures] == [
        f"{name}-{how}.png" for name in ("cat", "dog") for how in ("global", "local")
    ]
    for path in [*pictures, finished / "mean-roc.png"]:
        with Image.open(path) as picture:
            assert picture.width > 300


def test_the_tables_figures_follow_from_the_scores_on_disk(finished):
    rows = {(row["method"], row["class"]): row for row in table(finished)}
    assert set(rows) == {
        (method, name) for method in ("fcdd", "hsc") for name in ("cat", "dog", "mean of 2 of 3 classes")
    }
    for method in ("fcdd", "hsc"):
        means = []
        for name in ("cat", "dog"):
            aurocs = []
            for seed in (0, 1):
                path = finished / "runs" / method / name / f"seed-{seed}" / "scores.csv"
                lines = list(csv.DictReader(path.open(encoding="utf-8")))
                assert [line["image"] for line in lines] == [str(k) for k in range(18)]
                assert all((line["anomalous"] == "0") == (line["kind"] == name) for line in lines)
                labels = [int(line["anomalous"]) for line in lines]
                aurocs.append(roc_auc_score(labels, [float(line["score"]) for line in lines]))
            assert float(rows[method, name]["image_auroc"]) == pytest.approx(np.mean(aurocs), abs=1e-6)
            assert float(rows[method, name]["image_auroc_std"]) == pytest.approx(np.std(aurocs, ddof=1), abs=1e-6)
            means.append(np.mean(aurocs))
        assert float(rows[method, "mean of 2 of 3 classes"]["image_auroc"]) == pytest.approx(np.mean(means), abs=1e-6)


def test_a_runs_record_tells_its_circumstances(finished):
    record = json.loads((finished / "runs/fcdd/cat/seed-1/run.json").read_text("utf-8"))
    assert (record["recipe"], record["method"], record["nominal_class"], record["seed"]) == ("tiny", "fcdd", "cat", 1)
    assert record["notes"]["epochs"] == "1 of 2"
    assert record["notes"]["network"] == "cnn32-s"


def test_methods_show_the_same_test_images(finished):
    shown = [np.load(finished / f"runs/{method}/cat/seed-0/heatmaps.npz") for method in ("fcdd", "hsc")]
    assert shown[0]["indices"].tolist() == shown[1]["indices"].tolist()
    assert shown[0]["maps"].shape == shown[1]["maps"].shape == (12, 32, 32)


def test_what_was_written_is_read_back(finished):
    folder = finished / "runs/fcdd/dog/seed-0"
    key = json.loads((folder / "run.json").read_text("utf-8"))["key"]
    result = load_result(folder, key=key)
    assert result.image_auroc == pytest.approx(roc_auc_score(result.anomalous, result.scores))
    assert result.kinds == ("cat",) * 6 + ("dog",) * 6 + ("eel",) * 6
    assert [point.epoch for point in result.curve] == [1]
    assert load_result(folder, key="another") is None


def test_masks_give_pixel_figures_and_labelled_images_leave_the_test_set(plan, inspection):
    text = PARTS + '[supervision]\nkind = "masks"\nlimit = 2\n'
    make(replace(plan, recipe=Recipe.from_toml(text, name="parts"), classes=(), data=inspection, outliers=None))
    lines = list(csv.DictReader((plan.output / "runs/fcdd/screw/seed-0/scores.csv").open(encoding="utf-8")))
    kinds = [line["kind"] for line in lines]
    assert {kind: kinds.count(kind) for kind in kinds} == {"good": 4, "hole": 1, "scratch": 2}
    record = json.loads((plan.output / "runs/fcdd/screw/seed-0/run.json").read_text("utf-8"))
    assert 0 <= record["pixel_auroc"] <= 1
    shown = np.load(plan.output / "runs/fcdd/screw/seed-0/heatmaps.npz")
    assert shown["mask-0"].shape == (40, 40)
    assert shown["image-0"].shape == (36, 36, 3)


def test_photographs_are_pictured_as_the_network_sees_them(plan, tmp_path):
    for split in ("train", "test"):
        for name, width in CLASSES.items():
            for k in range(4):
                save_image(tmp_path / "wide" / split / name / f"{k}.png", stripes(width, seed=k, side=48)[:40])
    make(replace(plan, data=tmp_path / "wide", settings=replace(plan.settings, epochs=1)))
    shown = np.load(plan.output / "runs/fcdd/cat/seed-0/heatmaps.npz")
    assert shown["image-0"].shape == (32, 32, 3)
    with Image.open(tmp_path / f"wide/test/cat/{shown['indices'][0]}.png") as image:
        assert np.array_equal(shown["image-0"], np.asarray(image)[4:36, 8:40])


# What is kept, and what is made again


def test_a_finished_run_is_not_made_again(plan):
    first = make(plan)
    assert first.made == ["fcdd cat seed 0"]
    assert len(first.sentences) == 1
    written = {path: path.stat().st_mtime_ns for path in (plan.output / "runs").rglob("*.*")}
    again = make(plan)
    assert (again.epochs, again.sentences) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in (plan.output / "runs").rglob("*.*")} == written


def test_only_what_is_missing_is_added(plan):
    plan = replace(plan, settings=replace(plan.settings, epochs=1))
    make(plan)
    more = make(replace(plan, seeds=2, classes=("cat", "dog"), methods=("fcdd", "autoencoder")))
    assert more.made == [
        "autoencoder cat seed 0", "fcdd dog seed 0", "autoencoder dog seed 0",
        "fcdd cat seed 1", "autoencoder cat seed 1", "fcdd dog seed 1", "autoencoder dog seed 1",
    ]  # fmt: skip


CHANGES: dict[str, Callable[[Plan], Plan]] = {
    "epochs": lambda plan: replace(plan, settings=replace(plan.settings, epochs=1)),
    "mode": lambda plan: replace(plan, settings=replace(plan.settings, mode="corrected")),
    "precision": lambda plan: replace(plan, settings=replace(plan.settings, precision="bf16-mixed")),
    "recipe": lambda plan: replace(plan, recipe=plan.recipe.with_setting("training.batch", 6)),
    "outliers": lambda plan: replace(plan, outliers=str(plan.data)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_make_another_run(plan, change):
    make(plan)
    assert make(CHANGES[change](plan)).made == ["fcdd cat seed 0"]


@pytest.mark.parametrize("what", ["data", "outliers", "version"])
def test_other_files_or_another_version_make_another_run(plan, what, tmp_path, monkeypatch):
    data, foreign = (shutil.copytree(folder, tmp_path / Path(folder).name) for folder in (plan.data, plan.outliers))
    plan = replace(plan, data=data, outliers=str(foreign))
    make(plan)
    if what == "data":
        save_image(data / "train/cat/0.png", stripes(9, seed=1))
    elif what == "outliers":
        save_image(foreign / "more.png", stripes(9, seed=1))
    else:
        monkeypatch.setattr(runner, "version", lambda name: "99.0")
    assert make(plan).made == ["fcdd cat seed 0"]


def test_results_that_lie_in_the_data_do_not_count_as_data(plan, tmp_path):
    data = shutil.copytree(plan.data, tmp_path / "data")
    plan = replace(plan, data=data, output=data / "out", settings=replace(plan.settings, epochs=1))
    make(plan)
    assert make(plan).made == []


def test_the_gaussians_are_saved_with_the_detector_that_they_belong_to(plan):
    plan = replace(plan, methods=("gaussian",))
    assert make(plan).made == ["gaussian cat seed 0"]
    weights = load_file(plan.output / "runs/gaussian/cat/seed-0/network.safetensors")
    assert any("backbone" in name for name in weights)
    assert sum("whitening" in name for name in weights) == len(
        {w.tobytes() for n, w in weights.items() if "whitening" in n}
    )
    assert make(plan).made == []


def spoil(change: str, folder: Path) -> None:
    record = folder / "run.json"
    if change == "no record":
        record.unlink()
    elif change == "cut record":
        record.write_text(record.read_text("utf-8")[:-40], "utf-8")
    elif change == "older record":
        record.write_text(record.read_text("utf-8").replace('"seconds"', '"minutes"', 1), "utf-8")
    else:
        (folder / "scores.csv").unlink()


@pytest.mark.parametrize("change", ["no record", "cut record", "older record", "no scores"])
def test_a_half_written_folder_is_made_again(plan, change):
    make(plan)
    folder = plan.output / "runs/fcdd/cat/seed-0"
    before = (folder / "scores.csv").read_bytes()
    spoil(change, folder)
    assert make(plan).made == ["fcdd cat seed 0"]
    assert (folder / "scores.csv").read_bytes() == before  # the same seed, the same scores


def test_a_killed_experiment_goes_on_where_it_was(plan):
    two = replace(plan, classes=("cat", "dog"))
    with pytest.raises(KeyboardInterrupt):
        make(two, kill=("fcdd dog seed 0", 1))
    folder = plan.output / "runs/fcdd/dog/seed-0"
    assert (folder / "checkpoint").is_dir()
    assert not (folder / "run.json").exists()
    assert make(two).epochs == [("fcdd dog seed 0", 1), ("fcdd dog seed 0", 2)]
    assert not (folder / "checkpoint").exists()


def test_a_run_whose_files_are_half_replaced_is_not_taken_for_the_former(plan, monkeypatch):
    make(plan)
    write, other = runs._write_rows, CHANGES["epochs"](plan)

    def killed(path, *rows):
        write(path, *rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_write_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        make(other)
    monkeypatch.undo()
    assert make(plan).made == ["fcdd cat seed 0"]


def test_a_run_under_way_says_what_its_curve_reaches(plan):
    lines: list[str] = []
    run_experiment(plan, progress=lambda *_: None, notify=lambda _: None, measured=lines.append)
    curve = json.loads((plan.output / "runs/fcdd/cat/seed-0/run.json").read_text("utf-8"))["curve"]
    (line,) = lines  # the figures of the last epoch are those of the run
    start = f"fcdd cat seed 0: epoch 1 of 2: loss {curve[0]['loss']:.4f}, image AUROC {curve[0]['image_auroc']:.4f}; "
    assert line.startswith(start)
    assert line.endswith(" s left for this run")


# Foreign images


def read(plan: Plan) -> list[int]:
    """How many different foreign images the recipe's runs could draw, by opening them."""
    bench = runner._Experiment(plan)
    images = bench._outliers(plan.recipe, bench._task("cat"), 0)
    assert images.read(0).shape == (3, 32, 32)
    return [int(images.read(k).sum()) for k in range(len(images))]


def test_a_folder_of_images_is_brought_to_the_nominal_images_size(plan):
    assert len(set(read(plan))) == 6


def test_foreign_images_are_limited(plan):
    some = read(replace(plan, recipe=plan.recipe.with_setting("supervision.limit", 2)))
    assert len(some) == 2
    assert set(some) < set(read(plan))


def test_of_class_folders_the_training_images_are_foreign(plan, data):
    in_memory = read(replace(plan, outliers=str(data)))
    assert len(in_memory) == 3 * 12
    resized = plan.recipe.with_setting("reading", recipes.Reading(size=32))
    assert sorted(read(replace(plan, outliers=str(data), recipe=resized))) == sorted(in_memory)


def test_without_foreign_images_the_current_folder_is_not_taken(plan, foreign, monkeypatch):
    monkeypatch.chdir(foreign)
    with pytest.raises(BlemishError, match=r"tiny learns from foreign images; give a folder of them with --outliers"):
        make(replace(plan, outliers=None))


@pytest.mark.parametrize("method", ["autoencoder", "gaussian"])
def test_who_learns_from_nominal_images_alone_needs_no_foreign_ones(plan, method):
    recipe = plan.recipe.with_setting("supervision.outliers", "cifar100")  # not there
    make(replace(plan, recipe=recipe, outliers=None, methods=(method,)))
    record = json.loads((plan.output / "runs" / method / "cat" / "seed-0" / "run.json").read_text("utf-8"))
    assert record["notes"]["anomalies"] == "none"


def test_small_images_are_refused(plan):
    recipe = plan.recipe.with_setting("size", 40)
    with pytest.raises(BlemishError, match="32 x 32 pixels is smaller than the network's input of 40 x 40"):
        make(replace(plan, recipe=recipe))


# Names


@pytest.mark.parametrize("name", ["t-shirt/top", "a%2Fb", "a/b", "a-b", "ankle boot", "Straße", "../.."])
def test_a_class_has_one_folder_directly_in_its_methods(name, tmp_path):
    run = Run(Recipe.load("cifar10"), "", "fcdd", name, 3)
    assert run.folder(tmp_path).parent.parent == tmp_path / "runs/fcdd"
    assert run.folder(tmp_path).name == "seed-3"


def test_no_two_classes_share_a_folder():
    names = ["a/b", "a-b", "a%2Fb", "a%252Fb", "a%b", "a", "b", "a/b/", "%", "/"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("ankle boot") == "ankle boot"


def test_the_settings_of_an_ablation_have_folders_of_their_own(tmp_path):
    recipe = Recipe.load("cifar10-outliers")
    folders = {Run(one, label, "fcdd", "cat", 0).folder(tmp_path) for label, one in recipe.variants()}
    assert len(folders) == 4


# Ablations and pictures from results made up here


def finding(sigma: str, method: str, nominal_class: str, seed: str, image_auroc: str) -> dict[str, str]:
    """A line of an ablation's table, without a pixel-level figure."""
    row = {"setting": f"sigma-{sigma}", "method": method, "class": nominal_class, "seed": seed}
    return row | {"image_auroc": image_auroc, "pixel_auroc": ""}


def result(run: Run, image: float, pixel: float | None = None) -> Result:
    return Result(
        run.recipe.name, run.method, run.nominal_class, run.seed, image, pixel,
        np.array([False, True]), np.array([0, 1], np.float32), ("good", "bad"), (Point(1, 0.5, 1.0),), 1.0,
    )  # fmt: skip


@pytest.fixture
def varied(monkeypatch) -> Callable[..., tuple[str, dict[str, object]]]:
    """Summarises runs (method, value, class, seed, image AUROC) and gives the table, and what was plotted."""
    vary = Ablation("sigma", "σ in pixels", (4.0, 6.0, 14.0))
    recipe = replace(Recipe.load("mvtec"), vary=vary, title="Sigma")
    curves = (
        Curve("σ", "image_auroc", "print", True, ((4.0, 0.8567), (14.0, 0.9217))),
        Curve("σ", "image_auroc", "memory", False, ((6.0, 0.8836),)),
        Curve("σ", "pixel_auroc", "print", True, ((6.0, 0.1234),)),
    )
    monkeypatch.setattr(summary, "published", lambda _: Published(curves=curves))

    def call(output: Path, made: list[tuple[str, float, str, int, float]]):
        plotted: dict[str, object] = {}
        plot = summary.plots.ablation

        def caught(found, **options):
            page = plot(found, **options)
            plotted[f"figure {len(plotted)}"] = (dict(found), options)
            return page

        monkeypatch.setattr(summary.plots, "ablation", caught)
        pairs = []
        for method, value, name, seed, auroc in made:
            run = Run(recipe.with_setting("sigma", value), f"sigma-{value}", method, name, seed)
            pairs.append((run, result(run, auroc)))
        _, text = summary.summarise(recipe, pairs, classes=("cup", "nut"), output=output)
        return text, plotted

    return call


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]


def test_what_was_not_read_in_print_is_in_no_table(varied, tmp_path):
    text, plotted = varied(tmp_path, [("fcdd", value, "cup", 0, 0.5) for value in (4.0, 6.0, 14.0)])
    assert cells(text) == [
        ["4", "FCDD", "image AUROC", "0.5000", "0.8567"],
        ["6", "FCDD", "image AUROC", "0.5000", ""],
        ["14", "FCDD", "image AUROC", "0.5000", "0.9217"],
    ]
    ((_, options),) = plotted.values()
    assert [curve.checked for curve in options["curves"]] == [True, False]  # the plot tells them apart


def test_methods_are_not_mixed(varied, tmp_path):
    made = [("fcdd", 4.0, "cup", 0, 0.9), ("hsc", 4.0, "cup", 0, 0.5)]
    text, _ = varied(tmp_path, made)
    assert cells(text) == [
        ["4", "FCDD", "image AUROC", "0.9000", "0.8567"],
        ["4", summary.METHOD_NAMES["hsc"], "image AUROC", "0.5000", ""],
    ]
    assert {path.name for path in tmp_path.glob("*.png")} == {"image_auroc-fcdd.png", "image_auroc-hsc.png"}


def test_a_seed_counts_where_all_classes_have_it(varied, tmp_path):
    made = [
        ("fcdd", 4.0, "cup", 0, 0.8), ("fcdd", 4.0, "nut", 0, 0.6), ("fcdd", 4.0, "cup", 1, 0.9),
        ("fcdd", 6.0, "cup", 0, 0.7), ("fcdd", 6.0, "nut", 1, 0.7),
    ]  # fmt: skip
    text, plotted = varied(tmp_path, made)
    ((found, _),) = plotted.values()
    assert found == {4.0: [pytest.approx(0.7)]}
    assert [row[0] for row in cells(text)] == ["4"]


def test_the_csv_of_an_ablation_has_a_line_a_run(varied, tmp_path):
    varied(tmp_path, [("fcdd", 4.0, "cup", 0, 0.8), ("fcdd", 6.0, "a, b", 2, 0.25)])
    assert table(tmp_path) == [
        finding("4.0", "fcdd", "cup", "0", "0.800000"),
        finding("6.0", "fcdd", "a, b", "2", "0.250000"),
    ]


class Corner:
    def read(self, index: int) -> torch.Tensor:
        return torch.ones(4, 4, dtype=torch.bool) if index else torch.zeros(4, 4, dtype=torch.bool)


@pytest.mark.parametrize("order", [("gaussian", "autoencoder", "hsc", "fcdd"), ("hsc", "fcdd", "autoencoder")])
@pytest.mark.parametrize("masks", [Corner(), None], ids=["masks", "no masks"])
def test_rows_of_pictures_are_in_the_papers_order_and_of_the_smallest_seed(tmp_path, monkeypatch, order, masks):
    images = ArrayImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    task, made = Task(images, images, torch.tensor([False, True]), ("good", "bad"), masks), []
    for seed in (5, 3):
        for place, method in enumerate(order):
            run = Run(Recipe.load("cifar10"), "", method, "a/b", seed)
            folder = run.folder(tmp_path)
            folder.mkdir(parents=True)
            save_pictured(folder, task, [0, 1], np.full((2, 4, 4), 10 * seed + place, np.float32))
            made.append((run, result(run, 0.5)))
    seen = []

    def caught(rows, **options):
        seen.append((rows, options))
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(summary, "combined_picture", caught)
    summary._pictures(made[0][0].recipe, made, tmp_path)
    labels = {"fcdd": "FCDD", "hsc": "gradient (HSC)", "autoencoder": "autoencoder", "gaussian": "Gaussian"}
    expected = ["input", *(label for method, label in labels.items() if method in order)]
    assert {tuple(rows) for rows, _ in seen} == {(*expected, *(["ground truth"] if masks else []))}
    for method in order:
        assert float(seen[0][0][labels[method]][0][0, 0]) == 30 + order.index(method)
    assert (seen[0][1]["kinds"], seen[0][1]["nominal"], seen[0][1]["quantile"]) == (["good", "bad"], 1, 0.85)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a%2Fb-global.png", "a%2Fb-local.png"]


def test_saving_a_run_ends_its_checkpoint(tmp_path):
    run = Run(Recipe.load("cifar10"), "", "fcdd", "cat", 0)
    (tmp_path / "checkpoint").mkdir()
    save_result(tmp_path, result(run, 0.75, 0.5), key="k")
    assert not (tmp_path / "checkpoint").exists()
    loaded = load_result(tmp_path, key="k")
    assert (loaded.image_auroc, loaded.pixel_auroc, loaded.curve) == (0.75, 0.5, (Point(1, 0.5, 1.0),))


# The command line


@pytest.fixture
def experiment(run, tmp_path, data, foreign, monkeypatch):
    """Runs `blemish experiment` with the recipes above beside the paper's, in an empty folder."""
    folder = tmp_path / "recipes"
    shutil.copytree(str(recipes._FOLDER), folder)
    (folder / "tiny.toml").write_text(TINY, "utf-8")
    (folder / "how-many.toml").write_text(ABLATION, "utf-8")
    (folder / "parts.toml").write_text(PARTS + '[supervision]\nkind = "confetti"\n', "utf-8")
    monkeypatch.setattr(recipes, "_FOLDER", folder)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object):
        defaults = {"--data": data, "--outliers": foreign, "--classes": "cat", "--device": "cpu", "--epochs": 1}
        said = list(arguments)
        for option, value in defaults.items():
            if option in said:
                place = said.index(option)
                if said[place + 1] is None:
                    del said[place : place + 2]
            else:
                said += [option, value]
        return run("experiment", *said)

    return call


def test_json_names_the_table(experiment, tmp_path):
    outcome = experiment("tiny", "--json")
    assert outcome.status == 0
    assert Path(outcome.json["table"]) == Path("tiny/table.csv")  # without -o a folder of the experiment's name
    assert table(tmp_path / "tiny")[0]["class"] == "cat"
    assert outcome.err.startswith("fcdd cat seed 0: image AUROC ")


def test_the_table_is_printed_and_a_second_call_has_nothing_to_do(experiment, tmp_path):
    first = experiment("tiny", "-o", tmp_path / "deep" / "out", "--classes", "cat, dog,,cat")
    assert first.status == 0
    assert first.out.strip() == (tmp_path / "deep/out/table.md").read_text("utf-8").partition("\n\n")[2].strip()
    assert [line.split(":")[0] for line in first.err.splitlines()] == ["fcdd cat seed 0", "fcdd dog seed 0"]
    again = experiment("tiny", "-o", tmp_path / "deep" / "out", "--classes", "cat,dog")
    assert (again.status, again.out, again.err) == (0, first.out, "")


def test_an_ablation_runs_every_value(experiment, tmp_path):
    outcome = experiment("how-many", "-o", tmp_path / "out")
    assert outcome.status == 0
    assert [row["setting"] for row in table(tmp_path / "out")] == ["limit-1", "limit-4"]
    assert (tmp_path / "out/image_auroc-fcdd.png").is_file()


def test_values_of_an_ablation_are_chosen_and_kept_for_all_of_it(experiment, tmp_path):
    assert experiment("how-many", "--values", "4", "-o", tmp_path / "out").status == 0
    assert [row["setting"] for row in table(tmp_path / "out")] == ["limit-4"]
    kept = (tmp_path / "out/runs/fcdd/cat/limit-4/seed-0/run.json").stat().st_mtime_ns
    assert experiment("how-many", "-o", tmp_path / "out").status == 0
    assert [row["setting"] for row in table(tmp_path / "out")] == ["limit-1", "limit-4"]
    assert (tmp_path / "out/runs/fcdd/cat/limit-4/seed-0/run.json").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["cifar11"], ["no experiment 'cifar11'", "cifar10"]),
        (["tiny", "--method", "fcdd,gan"], ["no method gan", "gaussian"]),
        (["tiny", "--method", ","], ["no method", "fcdd"]),
        (["tiny", "--classes", "cat,cow"], ["no class 'cow'", "cat, dog, eel"]),
        (["tiny", "--data", "nowhere"], ["no train in nowhere", "train/<class>/<image>"]),
        (["cifar10", "--data", "."], ["cifar-10-batches-py", "download"]),
        (["tiny", "--outliers", "nowhere"], ["nowhere", "no such folder"]),
        (["tiny", "--outliers", "cifar100"], ["cifar-100-python", "download"]),
        (["tiny", "--outliers", None], ["foreign images", "--outliers"]),
        (["tiny", "--network", "resnet"], ["no network 'resnet'", "cnn28"]),
        (["tiny", "--masks", "1"], ["no masks", "--masks"]),
        (["mvtec-semi", "--outliers", None, "--outliers-limit", "3"], ["no outliers", "--outliers-limit"]),
        (["parts"], ["no outliers", "--outliers"]),
        (["parts", "--outliers", None, "--full-outlier-epochs"], ["no outliers", "--full-outlier-epochs"]),
        (["how-many", "--outliers-limit", "3"], ["varies supervision.limit itself"]),
        (["how-many", "--values", "1,3"], ["values of supervision.limit are 1, 4", "no '3'"]),
        (["tiny", "--values", "1"], ["tiny is no ablation", "--values"]),
        (["tiny", "-o", "taken"], ["taken", "a file is in its place"]),
        (["tiny", "-o", "taken/below"], ["taken", "a file is in its place"]),
        (["tiny", "--epochs", "0"], ["--epochs"]),
        (["tiny", "--mode", "best"], ["paper", "corrected"]),
        (["tiny", "--data", None], ["--data"]),
    ],
    ids=[
        *("experiment", "method", "no method", "class", "data", "download", "outliers", "outlier set", "no outliers"),
        *("network", "masks", "limit", "outliers unused", "every unused", "varied", "value", "no values"),
        *("file", "below file", "epochs", "mode", "data needed"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_sentence_and_status_2(experiment, tmp_path, arguments, named):
    (tmp_path / "taken").write_text("a file", "utf-8")
    outcome = experiment(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert all(part in outcome.err for part in named), outcome.err
    assert not list(tmp_path.rglob("run.json"))


def test_missing_data_leave_no_empty_folder(experiment, tmp_path):
    assert experiment("tiny", "--data", "nowhere", "-o", "out").status == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(experiment):
    outcome = experiment("tiny", "--device", "cuda")
    assert outcome.status == 2
    assert "no cuda device" in outcome.err


def test_without_the_training_packages_one_sentence_says_what_to_install(experiment, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("blemish.experiments.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = experiment("cifar10")
    assert outcome.status == 2
    assert 'pip install "blemish[train]"' in outcome.err
