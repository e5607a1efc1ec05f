"""Which images are shown as those on which methods differ."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.comparison.disagreement import disagreements, first_of_each
from blemish.comparison.records import Run
from blemish.evaluation.metrics import auroc
from helpers.comparing import run_of

ANOMALOUS = [True, True, True, False, False, False]


def paths(runs, **how):
    return [image.path for image in disagreements({run.method: run for run in runs}, **how)]


def test_ranks_are_what_the_image_auroc_is_the_mean_of():
    rng = np.random.default_rng(0)
    anomalous = rng.random(50) < 0.4
    run = run_of("a", rng.integers(0, 10, 50) / 10, anomalous)
    other = run_of("b", rng.integers(0, 10, 50) / 10, anomalous)
    found = disagreements({"a": run, "b": other}, most=50, few=50)
    area = auroc(anomalous, np.array([image.score for image in run.images]))
    ranks = {image.path: image.ranks["a"] for image in found if image.anomalous}
    assert len(ranks) == anomalous.sum()
    assert np.mean(list(ranks.values())) == pytest.approx(area)


def test_verdicts_come_before_peaks_and_these_before_ranks():
    first = run_of("a", [0.9, 0.8, 0.7, 0.1, 0.2, 0.3], ANOMALOUS)
    second = run_of("b", [0.4, 0.8, 0.7, 0.1, 0.2, 0.45], ANOMALOUS)  # 0: missed; 5: ranked above 0
    beside = replace(second.images[1], peak_inside=False)
    inside = tuple(replace(image, peak_inside=True) if image.anomalous else image for image in first.images)
    first = replace(first, images=inside)
    second = replace(
        second, images=(inside_of(second.images[0]), beside, inside_of(second.images[2]), *second.images[3:])
    )
    assert paths([first, second], few=0) == ["0.png", "1.png", "5.png"]
    assert paths([first, second], few=4) == ["0.png", "1.png", "5.png", "2.png"]
    assert paths([first, second], most=1) == ["0.png"]


def inside_of(image):
    return replace(image, peak_inside=True)


def test_methods_that_say_the_same_differ_on_no_image():
    runs = [run_of(method, [0.9, 0.8, 0.7, 0.1, 0.2, 0.3], ANOMALOUS) for method in "ab"]
    assert paths(runs, few=0) == []
    assert paths(runs[:1]) == []


def test_images_of_one_kind_differ_by_verdict_alone():
    first, second = (run_of(m, s, [False, False], figures={}) for m, s in (("a", [0.1, 0.2]), ("b", [0.1, 0.9])))
    assert paths([first, second]) == ["1.png"]


def test_the_first_seed_that_all_methods_have_is_shown():
    of = {(method, seed): run_of(method, [0.9, 0.1], [True, False], seed=seed) for method in "ab" for seed in (0, 1)}
    of["a", 0] = Run(method="a", seed=0, failed="killed")
    assert {run.seed for run in first_of_each(list(of.values())).values()} == {1}
    of["b", 1] = Run(method="b", seed=1, failed="killed")
    assert {method: run.seed for method, run in first_of_each(list(of.values())).items()} == {"a": 1, "b": 0}
