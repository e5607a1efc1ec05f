"""Conformal p-values, thresholds and verdicts against literal counting, and the guarantee by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, kstest

from blemish.conformal.split import Calibration, images_needed
from blemish.errors import BlemishError

scores = st.lists(st.sampled_from([float(np.float32(x)) for x in np.linspace(-3, 3, 13)]), min_size=1, max_size=60)
rates = st.sampled_from([0.001, 0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.9])


@settings(max_examples=200, deadline=None)
@given(scores=scores, rate=rates, new=st.floats(-4, 4, width=32))
def test_p_value_and_verdict_are_the_counted_ones(scores: list[float], rate: float, new: float) -> None:
    calibration = Calibration(tuple(scores), rate)
    n = len(scores)
    at_least = sum(score >= new for score in scores)
    assert calibration.p_value(new) == (1 + at_least) / (n + 1)
    held = max(rate, 1 / (n + 1))
    anomalous = (1 + at_least) <= held * (n + 1) + 1e-9
    # Clopper-Pearson's one-sided lower bound, by another library function than the one in use
    lower = binomtest(at_least, n, alternative="greater").proportion_ci(0.95).low
    expected = "anomalous" if anomalous else "ok" if lower > held else "unsure"
    assert calibration.verdict(new) == expected


@settings(max_examples=100, deadline=None)
@given(scores=scores, rate=rates)
def test_the_threshold_is_the_smallest_anomalous_float32(scores: list[float], rate: float) -> None:
    calibration = Calibration(tuple(scores), rate)
    threshold = np.float32(calibration.threshold)
    assert float(threshold) == calibration.threshold
    assert calibration.p_value(calibration.threshold) <= calibration.effective_rate + 1e-9
    if threshold > np.finfo(np.float32).min:
        below = float(np.nextafter(threshold, np.float32(-np.inf)))
        assert calibration.p_value(below) > calibration.effective_rate
        assert calibration.verdict(below) != "anomalous"
    assert calibration.unsure_threshold <= calibration.threshold


@pytest.mark.parametrize("n", [5, 64, 99, 250])
@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_false_alarms_stay_below_the_held_rate(n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    alarms = []
    for _ in range(400):
        drawn = rng.gumbel(size=n + 50).astype(np.float32)
        calibration = Calibration(tuple(drawn[:n].tolist()), rate)
        alarms.append(np.mean(drawn[n:] >= calibration.threshold))
    held = calibration.effective_rate
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= held + 3 * error
    assert np.mean(alarms) >= held - 1 / (n + 1) - 3 * error  # exact up to the step of 1/(n+1): not needlessly strict


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (99, 0.01), (99, 0.1), (50, 0.33)])
def test_the_rate_of_one_calibration_set_has_the_beta_distribution(n: int, rate: float) -> None:
    """Given the calibration set, a nominal image is called anomalous at a rate of Beta(k, n + 1 - k) (Vovk 2012)."""
    rng = np.random.default_rng(n)
    thresholds = [Calibration(rng.random(n).astype(np.float32).tolist(), rate).threshold for _ in range(500)]
    k = int(rate * (n + 1) + 1e-9)
    assert kstest(1 - np.array(thresholds), beta(k, n + 1 - k).cdf).pvalue > 0.001


def test_the_statement_is_honest_about_too_few_images() -> None:
    few = Calibration(tuple(float(i) for i in range(64)), 0.01)
    assert "64 calibration images can promise 1.5 %" in few.statement()
    assert "99 would give 1 %" in few.statement()
    assert Calibration(tuple(float(i) for i in range(99)), 0.01).effective_rate == 0.01
    assert images_needed(0.01) == 99
    assert images_needed(0.05) == 19


@pytest.mark.parametrize(
    ("scores", "rate", "words"),
    [
        ((), 0.01, "no calibration scores"),
        ((1.0, float("nan")), 0.01, "not a finite number"),
        ((1.0,), 0.0, "between 0 and 1"),
        ((1.0,), 1.0, "between 0 and 1"),
        ((1.0,), 1.5, "between 0 and 1"),
    ],
    ids=["none", "nan", "zero", "one", "above"],
)
def test_refusals(scores: tuple[float, ...], rate: float, words: str) -> None:
    with pytest.raises(BlemishError, match=words):
        Calibration(scores, rate)
