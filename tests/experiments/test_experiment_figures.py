"""Tables, plots and pictures of the paper's experiments, from results made up here."""

import csv
import math
import statistics
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image
from sklearn.metrics import roc_auc_score

from blemish.errors import BlemishError
from blemish.experiments import plots
from blemish.experiments.pictures import combined_picture, heat_colours, pick
from blemish.experiments.published import Published, published
from blemish.experiments.tables import markdown, table, write_csv

EXPERIMENTS = ["fashion-mnist", "fashion-mnist-emnist", "cifar10", "cifar10-every", "imagenet30", "mvtec", "mvtec-semi"]


@dataclass(frozen=True)
class Point:
    epoch: int
    loss: float
    image_auroc: float | None = None
    pixel_auroc: float | None = None


@dataclass(frozen=True, eq=False)
class Result:
    nominal_class: str
    seed: int
    image_auroc: float
    pixel_auroc: float | None = None
    method: str = "fcdd"
    anomalous: np.ndarray | None = None
    scores: np.ndarray | None = None
    curve: tuple[Point, ...] = ()


def run(anomalous, scores, *, name="dog", seed=0, method="fcdd") -> Result:
    anomalous, scores = np.array(anomalous), np.array(scores, dtype=np.float32)
    return Result(name, seed, roc_auc_score(anomalous, scores), method=method, anomalous=anomalous, scores=scores)


# Published figures


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_printed_means_are_those_of_the_printed_class_figures(experiment):
    columns = published(experiment).columns
    assert columns
    for column in columns:
        assert column.source
        assert 0.5 < column.mean < 1
        if column.by_class:
            # Both are rounded; four digits are used for reruns, two for the paper.
            rounding = 1e-4 if column.name == "rerun" else 1e-2
            assert statistics.mean(column.by_class.values()) == pytest.approx(column.mean, abs=rounding)


@pytest.mark.parametrize(
    ("experiment", "method", "name", "measure", "nominal_class", "figure"),
    [
        ("fashion-mnist", "fcdd", "paper", "image_auroc", "t-shirt/top", 0.82),
        ("fashion-mnist", "autoencoder", "rerun", "image_auroc", "Ankle boot", 0.9639),
        ("cifar10", "hsc", "paper", "image_auroc", "automobile", 0.99),
        ("mvtec", "fcdd", "paper", "pixel_auroc", "metal_nut", 0.94),
        ("mvtec", "fcdd", "rerun", "image_auroc", "screw", 0.4205),
        ("mvtec-semi", "fcdd", "paper", "pixel_auroc", "pill", 0.97),
        ("mvtec-semi", "fcdd", "rerun", "image_auroc", "screw", 0.7341),
        ("imagenet30", "fcdd", "paper", "image_auroc", "acorn", None),
    ],
)
def test_published_figures(experiment, method, name, measure, nominal_class, figure):
    [column] = [
        column
        for column in published(experiment).columns
        if (column.method, column.name, column.measure) == (method, name, measure)
    ]
    assert column.figure(nominal_class) == figure


def test_published_ablations_keep_apart_what_was_not_checked():
    checked, unchecked = published("mvtec-sigma").curves
    assert (checked.checked, unchecked.checked) == (True, False)
    assert max(checked.points + unchecked.points, key=lambda point: point[1]) == (14.0, 0.9217)


def test_nothing_is_published_for_an_experiment_of_ones_own():
    assert (published("planted-cue").columns, published("planted-cue").curves) == ((), ())


# Tables

BAG, COAT, BOOT = "bag", "coat", "ankle boot"
CLASSES = ("t-shirt/top", "trouser", "pullover", "dress", COAT, "sandal", "shirt", "sneaker", BAG, BOOT)
UNEVEN = [
    Result(BAG, 1, 0.91, 0.71),
    Result(COAT, 0, 0.80, 0.60),
    Result(BAG, 0, 0.90, 0.70),
    Result(BAG, 2, 0.95, 0.75),
    Result(COAT, 1, 0.86, 0.62),
]


def headed(row):
    return {(column.name, column.measure): figure for column, figure in row.published.items()}


def test_a_class_is_the_mean_and_deviation_of_its_seeds():
    coat, bag, _ = table(UNEVEN, classes=CLASSES, published=published("fashion-mnist"))
    assert (coat.label, coat.seeds, bag.label, bag.seeds) == (COAT, 2, BAG, 3)
    for measure, values in (("image_auroc", [0.91, 0.90, 0.95]), ("pixel_auroc", [0.71, 0.70, 0.75])):
        assert bag.figures[measure].mean == pytest.approx(statistics.mean(values))
        assert bag.figures[measure].deviation == pytest.approx(statistics.stdev(values))
    assert headed(bag) == {("paper", "image_auroc"): 0.86, ("rerun", "image_auroc"): 0.8628}


def test_the_mean_is_of_class_means_and_its_deviation_over_seeds_that_every_class_has():
    *_, mean = table(UNEVEN, classes=CLASSES, published=published("fashion-mnist"))
    assert (mean.label, mean.seeds) == ("mean of 2 of 10 classes", 2)
    assert mean.figures["image_auroc"].mean == pytest.approx(((0.91 + 0.90 + 0.95) / 3 + 0.83) / 2)
    assert mean.figures["image_auroc"].deviation == pytest.approx(statistics.stdev([0.85, 0.885]))
    assert headed(mean)["paper", "image_auroc"] == pytest.approx((0.87 + 0.86) / 2)


def test_over_all_classes_the_mean_is_set_beside_the_printed_one():
    results = [Result(name, 0, 0.9) for name in CLASSES]
    *rows, mean = table(results, classes=CLASSES, published=published("fashion-mnist"))
    assert [row.label for row in rows] == list(CLASSES)
    assert (mean.label, mean.seeds, mean.figures["image_auroc"].deviation) == ("mean of 10 classes", 1, None)
    assert headed(mean) == {("paper", "image_auroc"): 0.89, ("rerun", "image_auroc"): 0.8894}


def test_without_a_common_seed_the_mean_has_no_deviation():
    *_, mean = table([Result(BAG, 0, 0.9), Result(COAT, 1, 0.8)], classes=CLASSES, published=Published())
    assert (mean.seeds, mean.figures["image_auroc"].deviation) == (0, None)
    assert mean.figures["image_auroc"].mean == pytest.approx(0.85)


def test_one_class_has_no_row_of_means():
    assert [row.label for row in table(UNEVEN[:1], classes=CLASSES, published=Published())] == [BAG]


def test_a_partial_mean_is_not_set_beside_a_mean_over_all_classes():
    results = [Result(name, 0, 0.9) for name in ("acorn", "banjo")]
    some = table(results, classes=("acorn", "banjo", "barn"), published=published("imagenet30"))
    every = table(results, classes=("acorn", "banjo"), published=published("imagenet30"))
    assert [headed(row) for row in some] == [{}, {}, {}]
    assert headed(every[-1]) == {("paper", "image_auroc"): 0.94}


def test_a_measure_that_some_runs_lack_is_left_out():
    rows = table([Result(BAG, 0, 0.9, 0.7), Result(COAT, 0, 0.8)], classes=CLASSES, published=Published())
    assert [list(row.figures) for row in rows] == [["image_auroc"], ["image_auroc", "pixel_auroc"], ["image_auroc"]]


def test_every_method_stands_beside_its_own_figures_and_the_gaussians_beside_fcdds():
    results = [Result("bird", 0, 0.9, method=method) for method in ("gaussian", "autoencoder", "hsc", "fcdd")]
    rows = table(results, classes=("bird",), published=published("cifar10"))
    figures = {row.method: headed(row)["paper", "image_auroc"] for row in rows}
    assert figures == {"gaussian": 0.91, "autoencoder": 0.49, "hsc": 0.93, "fcdd": 0.91}


def test_csv_holds_fractions_and_leaves_what_is_unknown_empty(tmp_path):
    results = [*UNEVEN, Result("trouser", 0, 0.123456789, None, method="hsc")]
    write_csv(table(results, classes=CLASSES, published=published("fashion-mnist")), tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        coat, bag, mean, trouser = csv.DictReader(file)
    assert list(coat) == [
        *("method", "class", "seeds", "image_auroc", "image_auroc_std", "pixel_auroc", "pixel_auroc_std"),
        *("paper_image_auroc", "rerun_image_auroc"),
    ]
    assert (bag["class"], bag["seeds"], bag["image_auroc"], bag["paper_image_auroc"]) == (BAG, "3", "0.92", "0.86")
    assert float(coat["image_auroc_std"]) == pytest.approx(statistics.stdev([0.80, 0.86]), abs=1e-6)
    assert mean["class"] == "mean of 2 of 10 classes"
    assert list(trouser.values()) == ["hsc", "trouser", "1", "0.123457", "", "", "", "", ""]


def test_csv_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BlemishError, match="no folder"):
        write_csv([], tmp_path / "nowhere/table.csv")


def test_markdown_shows_the_rows_and_says_where_the_figures_are_from():
    figures = published("fashion-mnist")
    text = markdown(table(UNEVEN, classes=CLASSES, published=figures), figures)
    header, rule, _, bag, mean = text.splitlines()[:5]
    assert header == "| method | class | seeds | image AUROC | pixel AUROC | paper, image | rerun, image |"
    assert rule.count("|") == header.count("|")
    assert bag == "| FCDD | bag | 3 | 0.9200 ± 0.0265 | 0.7200 ± 0.0265 | 0.86 | 0.8628 |"
    assert mean.startswith("| **FCDD** | **mean of 2 of 10 classes** | **2** |")
    assert "* paper, image AUROC: the paper (Liznerski et al., ICLR 2021), table 6" in text
    assert "* rerun, image AUROC: mean of five runs of the authors' code" in text
    assert "Deep SVDD 0.93, GEO 0.94 (the paper" in text


def test_markdown_of_classes_with_odd_names_stays_a_table():
    rows = table([Result("a|b", 0, 0.5)], classes=("a|b",), published=Published())
    assert markdown(rows, Published()).splitlines()[2] == r"| FCDD | a\|b | 1 | 0.5000 |"


# Plots


def runs(score):
    """Pairs of a label and a score, both labels there."""
    pairs = st.lists(st.tuples(st.booleans(), score), min_size=4, max_size=60)
    return pairs.filter(lambda pairs: len({label for label, _ in pairs}) == 2)


@given(st.lists(runs(st.integers(0, 6)) | runs(st.floats(0, 1, width=32)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_the_area_under_the_mean_roc_is_the_mean_auroc(drawn):
    results = [run(*zip(*pairs, strict=True)) for pairs in drawn]
    mean = plots.true_positive_rates(results).mean(0)
    expected = np.mean([roc_auc_score(result.anomalous, result.scores) for result in results])
    assert np.trapezoid(mean, plots.FALSE_POSITIVE_RATES) == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.booleans(), min_size=2, max_size=30).filter(lambda labels: len(set(labels)) == 2), st.randoms())
@settings(max_examples=40, deadline=None)
def test_without_ties_a_rate_is_the_most_found_at_that_false_positive_rate(labels, random):
    anomalous = np.array(labels)
    scores = np.array(random.sample(range(1000), len(labels)), dtype=np.float32)
    expected = [
        max(
            np.mean(scores[anomalous] >= threshold)
            for threshold in [*scores, math.inf]
            if np.mean(scores[~anomalous] >= threshold) <= rate
        )
        for rate in plots.FALSE_POSITIVE_RATES[::25]
    ]
    np.testing.assert_allclose(plots.true_positive_rates([run(anomalous, scores)])[0, ::25], expected)


def test_ties_are_straight_lines():
    rates = plots.true_positive_rates([run([True, False, True, False], [1, 1, 1, 1])])[0]
    np.testing.assert_allclose(rates, plots.FALSE_POSITIVE_RATES)


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def some_runs(method="fcdd") -> list[Result]:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2 == 0
    return [
        run(labels, generator.normal(size=40) + 2 * labels, name=name, seed=seed, method=method)
        for name in ("cat", "dog")
        for seed in range(3)
    ]


def test_a_line_a_run_and_a_legend_entry_a_class():
    results = some_runs()
    [axes] = plots.class_rocs(results).axes
    assert legend(axes) == [
        f"{name} {statistics.mean(r.image_auroc for r in results if r.nominal_class == name):.3f}"
        for name in ("cat", "dog")
    ]
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    for line, result in zip(curves, results, strict=True):
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(result.image_auroc)
    assert len({line.get_color() for line in curves}) == 2


def test_the_legend_of_the_mean_roc_gives_mean_auroc_and_runs_of_each_method():
    fcdd, hsc = some_runs(), some_runs("hsc")[:1]
    [axes] = plots.mean_roc(fcdd + hsc).axes
    mean = statistics.mean(result.image_auroc for result in fcdd)
    assert legend(axes) == [f"FCDD {mean:.3f}, 6 runs", f"HSC {hsc[0].image_auroc:.3f}, 1 run"]


def test_training_curves_are_means_over_runs_where_something_was_measured():
    results = [
        Result("cat", 0, 0.9, curve=(Point(1, 3.0), Point(2, 2.0, 0.7))),
        Result("cat", 1, 0.9, curve=(Point(1, 5.0), Point(2, 1.0, 0.8))),
        Result("dog", 0, 0.9, curve=(Point(1, 9.0),)),
    ]
    loss, image = plots.training_curves(results).axes  # no panel for pixels: nothing was measured
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[1, 4.0], [2, 1.5]], [[1, 9.0]]]
    [[[epoch, auroc]]] = [line.get_xydata().tolist() for line in image.lines]
    assert (epoch, auroc) == (2, pytest.approx(0.75))


def test_an_ablation_stands_beside_the_published_points():
    found = {16: [0.90, 0.94], 4: [0.80]}
    curves = published("mvtec-sigma").curves
    [axes] = plots.ablation(found, x="σ in pixels", measure="pixel_auroc", curves=curves).axes
    checked, unchecked, ours = axes.lines[:3]
    assert tuple(map(tuple, checked.get_xydata())) == curves[0].points
    assert (checked.get_markerfacecolor() != "none", unchecked.get_markerfacecolor()) == (True, "none")
    np.testing.assert_allclose(ours.get_xydata(), [[4, 0.80], [16, 0.92]])
    [bars] = axes.collections
    heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, [0, 2 * statistics.stdev([0.90, 0.94])])


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_plot_is_the_same_file(tmp_path, ending):
    for name in "ab":
        plots.save(plots.mean_roc(some_runs()), tmp_path / f"{name}.{ending}")
    first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[ending])


def test_thirty_classes_have_thirty_colours():
    results = [run([True, False], [1, 0], name=f"class {number}") for number in range(30)]
    [axes] = plots.class_rocs(results).axes
    assert len({tuple(line.get_color()) for line in axes.lines[:30]}) == 30


# Pictures


@pytest.mark.parametrize("quantile", [0.5, 0.85, 0.97, 1.0])
@pytest.mark.parametrize("scale", ["local", "global"])
def test_colours_start_at_the_minimum_and_end_at_the_quantile(scale, quantile):
    maps = [np.random.default_rng(seed).normal(seed, size=(5, 7)).astype(np.float32) for seed in range(3)]
    for one, places in zip(maps, heat_colours(maps, scale=scale, quantile=quantile), strict=True):
        pooled = sorted(np.concatenate(maps if scale == "global" else [one]).ravel().tolist())
        end = pooled[math.ceil(quantile * len(pooled)) - 1]  # the k-th smallest
        expected = [min(max((value - pooled[0]) / (end - pooled[0]), 0), 1) for value in one.ravel().tolist()]
        np.testing.assert_allclose(places.ravel(), expected, atol=1e-6)


def test_a_flat_map_is_all_cold_and_one_hot_pixel_on_it_is_hot():
    flat, spot = np.full((10, 10), 0.3), np.zeros((10, 10))
    spot[2, 3] = 1e-3
    first, second = heat_colours([flat, spot], scale="local", quantile=0.97)
    assert not first.any()
    assert second[2, 3] == 1 == second.sum()


def panel(**rows) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """A picture of two columns, and its second column's tiles by row."""
    picture = combined_picture(rows, kinds=("good", "crack"), nominal=1, scale="local", quantile=1.0, tile=64)
    pixels = np.asarray(picture)
    right = pixels.shape[1] - 11 - 64  # the margin is the font's size
    tops = {row: 4 * 11 + 67 * number for number, row in enumerate(rows)}
    return picture, {row: pixels[top : top + 64, right : right + 64] for row, top in tops.items()}


def test_rows_are_photographs_heatmaps_and_masks_by_their_dtype():
    photograph = np.full((32, 32, 3), (10, 200, 30), np.uint8)
    heatmap = np.tile(np.linspace(0, 5, 64, dtype=np.float32), (64, 1))
    mask = np.zeros((128, 128), bool)
    mask[:64] = True
    _, tiles = panel(input=[photograph] * 2, FCDD=[heatmap] * 2, truth=[mask] * 2)
    assert (tiles["input"] == (10, 200, 30)).all()
    expected = colormaps["jet"](np.linspace(0, 1, 64, dtype=np.float32), bytes=True)[:, :3]
    assert (tiles["FCDD"] == expected).all()
    assert (tiles["truth"][:32] == 255).all()
    assert not tiles["truth"][32:].any()


def test_a_column_has_the_proportions_of_its_first_row():
    grey = np.full((20, 40), 128, np.uint8)
    _, tiles = panel(input=[grey] * 2, FCDD=[np.ones((8, 8), np.float32)] * 2)
    for tile in tiles.values():
        inside = (tile != 255).any((1, 2))
        assert inside.tolist() == [False] * 16 + [True] * 32 + [False] * 16


def test_every_row_is_labelled_and_a_row_that_is_absent_takes_no_room():
    grey, heat = [np.full((8, 8), 128, np.uint8)] * 2, [np.ones((8, 8), np.float32)] * 2
    two, _ = panel(input=grey, FCDD=heat)
    three, tiles = panel(input=grey, FCDD=heat, gradient=heat)
    assert three.height - two.height == 67
    label_column = np.asarray(three)[:, : three.width - 11 - 2 * 64 - 18 - 3 - 11]
    for number in range(len(tiles)):
        top = 44 + 67 * number
        assert (label_column[top : top + 64] < 100).any()


ANOMALOUS = np.arange(60) >= 20
KINDS = ["good"] * 20 + ["scratch"] * 34 + ["dent"] * 3 + ["hole"] * 3


def test_picks_come_nominal_first():
    indices = pick(ANOMALOUS, KINDS, nominal=5, anomalous_count=8, seed=0)
    assert len(set(indices)) == 13
    assert ANOMALOUS[indices].tolist() == [False] * 5 + [True] * 8


def test_picks_are_random():
    drawn = [pick(ANOMALOUS, KINDS, nominal=5, anomalous_count=8, seed=seed) for seed in range(30)]
    assert set(range(20)) <= {index for some in drawn for index in some}
    assert len({frozenset(some) for some in drawn}) == 30


def test_kinds_of_anomaly_take_turns():
    indices = pick(ANOMALOUS, KINDS, nominal=0, anomalous_count=8, seed=3)
    assert sorted(Counter(KINDS[index] for index in indices).values()) == [2, 3, 3]


def test_where_there_are_too_few_all_are_taken():
    indices = pick(ANOMALOUS, KINDS, nominal=100, anomalous_count=2, seed=0)
    assert sorted(indices[:20]) == list(range(20))
    assert len(indices) == 22
