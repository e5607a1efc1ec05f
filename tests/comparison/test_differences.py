"""Paired differences of image AUROC, against a bootstrap written down literally."""

import numpy as np
import pytest

from blemish.comparison.differences import differences
from blemish.comparison.records import Run
from helpers.comparing import run_of


def auroc(bad, good):
    return np.mean([(b > g) + 0.5 * (b == g) for b in bad for g in good])


def test_the_interval_is_that_of_differences_on_the_same_resamples():
    rng = np.random.default_rng(1)
    anomalous = np.arange(30) < 12
    ours = np.where(anomalous, 0.6, 0.3) + 0.2 * rng.random(30)
    theirs = np.where(anomalous, 0.4, 0.3) + 0.3 * rng.random(30)
    (found,) = differences([run_of("a", ours, anomalous), run_of("b", theirs, anomalous)], draws=2000)
    literal = []
    for _ in range(2000):
        bad, good = rng.integers(12, size=12), 12 + rng.integers(18, size=18)
        literal.append(auroc(ours[bad], ours[good]) - auroc(theirs[bad], theirs[good]))
    assert (found.best, found.other) == ("a", "b")
    assert found.mean == pytest.approx(auroc(ours[:12], ours[12:]) - auroc(theirs[:12], theirs[12:]))
    assert found.interval == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=0.02)


def test_equal_methods_cannot_be_told_apart_and_a_far_worse_one_can():
    anomalous = np.arange(40) < 20
    right, wrong = np.where(anomalous, 0.9, 0.1), np.where(anomalous, 0.1, 0.9)
    same, worse = differences(
        [run_of("a", right, anomalous), run_of("b", right, anomalous), run_of("c", wrong, anomalous)]
    )
    assert not same.is_clear
    assert "cannot be told apart" in same.sentence()
    assert worse.is_clear
    assert worse.sentence().startswith("a is better than c: image AUROC +1.000")


def test_without_two_methods_with_an_image_auroc_there_is_none():
    anomalous = [True, False]
    assert differences([run_of("a", [1, 0], anomalous)]) == []
    failed = Run(method="b", seed=0, failed="too little memory")
    assert differences([run_of("a", [1, 0], anomalous), failed]) == []


def test_seeds_that_one_method_lacks_do_not_count():
    anomalous = [True, True, False, False]
    runs = [run_of("a", [0.9, 0.8, 0.1, 0.2], anomalous, seed=seed) for seed in (0, 1)]
    runs += [run_of("b", [0.1, 0.8, 0.15, 0.2], anomalous, seed=1), Run(method="b", seed=0, failed="killed")]
    (found,) = differences(runs)
    assert found.mean == pytest.approx(1 - 0.5)
