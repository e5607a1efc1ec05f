"""The drift check against its definition, word for word and by simulation."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom, kstest

from blemish.conformal.drift import BETTING_DENSITIES, Drift, DriftMonitor, drift_statistics
from blemish.errors import BlemishError


def feed(check: DriftMonitor, scores: np.ndarray) -> int | None:
    """The number of the image that raises the first alarm."""
    for score in scores.tolist():
        if check.add({"score": score}):
            return check.images
    return None


def test_the_capital_is_that_of_the_definition() -> None:
    """Literally: every bet from every moment on, against the share of calibration and earlier images in each cell."""
    rng = np.random.default_rng(0)
    calibration, stream = rng.normal(size=7), rng.normal(size=40) + 0.3
    check = DriftMonitor({"score": calibration.tolist()}, false_alarm_rate=1e-9)
    literal = literal_p_values(calibration, stream, bets=[bet for bets in BETTING_DENSITIES.values() for bet in bets])
    for value, expected in zip(stream.tolist(), literal, strict=True):
        check.add({"score": value})
        assert check.p_value == pytest.approx(expected)


def literal_p_values(
    calibration: np.ndarray, stream: np.ndarray, *, bets: Sequence[tuple[float, float]]
) -> list[float]:
    """Of seven calibration values and forty images, after each image."""
    densities = [beta(a, b) for a, b in bets]
    edges = np.sort(calibration)
    cells = [int((edges < x).sum()) for x in stream]
    factors = np.zeros((40, len(densities)))
    for t, cell in enumerate(cells):
        chance = [(1 + cells[:t].count(j)) / (8 + t) for j in range(8)]
        for b, density in enumerate(densities):
            mean = sum(chance[j] * density.pdf((j + 0.5) / 8) for j in range(8))
            factors[t, b] = density.pdf((cell + 0.5) / 8) / mean
    highest, p_values = 1.0, []
    for t in range(1, 41):
        begun = sum(factors[k - 1 : t].prod(0).mean() / (k * (k + 1)) for k in range(1, t + 1))
        highest = max(highest, begun + 1 / (t + 1))
        p_values.append(1 / highest)
    return p_values


@pytest.mark.parametrize("n", [3, 60], ids=["few", "usual"])
@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "ties"])
def test_false_alarms_stay_below_their_rate_although_the_calibration_set_is_small(n: int, ties: bool) -> None:
    """Taken for independent, p-values from one small calibration set would raise an alarm in most of these runs."""
    rng = np.random.default_rng(n)
    rate, runs = 0.2, 60
    alarms = 0
    for run in range(runs):
        drawn = rng.gamma(3, size=n + 400)
        drawn = np.round(2 * drawn) if ties else drawn
        check = DriftMonitor({"score": drawn[:n].tolist()}, false_alarm_rate=rate, seed=run)
        alarms += feed(check, drawn[n:]) is not None
    assert alarms <= binom.ppf(0.999, runs, rate)


def test_equal_values_fall_into_equally_likely_cells() -> None:
    """All calibration values are equal to all incoming ones: only the seed decides, and the cells are an urn's."""
    first = []
    for seed in range(300):
        check = DriftMonitor({"score": [1.0] * 9}, seed=seed)
        check.add({"score": 1.0})
        first.append(check.state()["statistics"]["score"]["counts"].index(1))
    spread = (np.array(first) + np.random.default_rng(0).random(300)) / 10
    assert kstest(spread, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("change", "direction"),
    [
        (lambda x: x + 1.5, "higher"),
        (lambda x: x - 1.5, "lower"),
        (lambda x: 3 * x, "more spread"),
        (lambda x: x / 4, "less spread"),
    ],
    ids=["up", "down", "wide", "narrow"],
)
@pytest.mark.parametrize("before", [0, 300], ids=["at once", "after 300 images"])
def test_a_drift_is_found_within_200_images_and_named(change, direction: str, before: int) -> None:
    rng = np.random.default_rng(5)
    check = DriftMonitor({"score": rng.normal(size=60).tolist()})
    assert feed(check, rng.normal(size=before)) is None
    assert feed(check, change(rng.normal(size=200))) is not None
    assert check.drift is not None
    assert check.drift.direction == direction
    assert f"score {direction} than in calibration" in check.statement()


# Statistics that may be lower by their making: only higher values are drift


def one_sided(calibration: np.ndarray, **options: Any) -> DriftMonitor:
    return DriftMonitor({"score": calibration.tolist()}, one_sided={"score"}, **options)


def test_the_capital_of_higher_values_is_that_of_the_definition() -> None:
    """Literally, and with the bets on higher values alone."""
    rng = np.random.default_rng(0)
    calibration, stream = rng.normal(size=7), rng.normal(size=40) + 0.3
    check = one_sided(calibration, false_alarm_rate=1e-9)
    literal = literal_p_values(calibration, stream, bets=BETTING_DENSITIES["higher"])
    for value, expected in zip(stream.tolist(), literal, strict=True):
        check.add({"score": value})
        assert check.p_value == pytest.approx(expected)


@pytest.mark.parametrize("before", [0, 300], ids=["at once", "after 300 images"])
def test_higher_values_are_found_and_named_as_before(before: int) -> None:
    rng = np.random.default_rng(5)
    check = one_sided(rng.normal(size=60))
    assert feed(check, rng.normal(size=before)) is None
    at = feed(check, rng.normal(size=200) + 1.5)
    assert at is not None
    assert check.drift == Drift(at, "score", "higher")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x, rng: x, id="the same"),
        pytest.param(lambda x, rng: x - 0.1, id="a little lower"),
        pytest.param(lambda x, rng: x - 1.5, id="much lower"),
        pytest.param(lambda x, rng: np.minimum(x, rng.normal(size=len(x))), id="the smaller of two"),
        pytest.param(lambda x, rng: np.where(rng.random(len(x)) < 0.5, x - 3, x), id="half of them lower"),
        pytest.param(lambda x, rng: np.minimum(x, 0.5), id="never high"),
        pytest.param(lambda x, rng: np.where(x < 0, x - 3, x), id="low ones lower"),
    ],
)
def test_lower_values_are_no_drift_and_make_no_false_alarms(change) -> None:
    """As long as they are lowered in the same way throughout the stream."""
    rng = np.random.default_rng(1)
    rate, runs = 0.2, 40
    alarms = 0
    for run in range(runs):
        drawn = rng.normal(size=20 + 300)
        alarms += feed(one_sided(drawn[:20], false_alarm_rate=rate, seed=run), change(drawn[20:], rng)) is not None
    assert alarms <= binom.ppf(0.999, runs, rate)


def test_the_others_are_watched_in_both_directions() -> None:
    rng = np.random.default_rng(3)
    calibration = {name: rng.normal(size=60).tolist() for name in ("score", "brightness")}
    check = DriftMonitor(calibration, one_sided={"score"})
    for _ in range(100):
        check.add({"score": -9.0, "brightness": rng.normal()})
    assert check.drift is None
    for _ in range(100):
        check.add({"score": -9.0, "brightness": rng.normal() - 2})
    assert check.drift is not None
    assert (check.drift.statistic, check.drift.direction) == ("brightness", "lower")


def test_a_check_of_both_directions_does_not_go_on_from_one_of_higher_values() -> None:
    calibration = np.random.default_rng(0).normal(size=20)
    check = one_sided(calibration)
    feed_all(check, np.zeros(30))
    again = one_sided(calibration, state=json.loads(json.dumps(check.state(), allow_nan=False)))
    assert again.p_value == check.p_value
    with pytest.raises(BlemishError, match="another model or rate"):
        DriftMonitor({"score": calibration.tolist()}, state=check.state())


def test_the_first_alarm_stays() -> None:
    check = DriftMonitor({"score": list(range(50))})
    at = feed(check, np.full(40, 99.0))
    assert check.drift == Drift(at, "score", "higher")
    assert check.add({"score": 99.0}) is None
    feed(check, np.random.default_rng(0).uniform(0, 50, 200))
    assert check.drift.image == at


def test_several_statistics_share_the_rate() -> None:
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=50).tolist() for name in ("score", "brightness", "sharpness")}
    alone, all_three = DriftMonitor({"brightness": values["brightness"]}), DriftMonitor(values)
    for _ in range(60):
        darker = {"score": rng.normal(), "brightness": rng.normal() - 1, "sharpness": rng.normal()}
        alone.add(darker)
        all_three.add(darker)
    assert all_three.p_value == pytest.approx(3 * alone.p_value)
    assert all_three.drift is not None
    assert (all_three.drift.statistic, all_three.drift.direction) == ("brightness", "lower")
    assert all_three.drift.image >= alone.drift.image


@pytest.mark.parametrize("cut", [0, 1, 30, 199], ids=lambda cut: f"after {cut}")
def test_a_check_goes_on_from_its_state(cut: int) -> None:
    rng = np.random.default_rng(1)
    calibration = {"score": np.round(rng.normal(size=40), 1).tolist()}
    stream = np.round(rng.normal(size=200) + 0.6, 1)
    whole, first = DriftMonitor(calibration), DriftMonitor(calibration)
    feed_all(whole, stream)
    feed_all(first, stream[:cut])
    second = DriftMonitor(calibration, state=json.loads(json.dumps(first.state(), allow_nan=False)))
    feed_all(second, stream[cut:])
    assert second.state() == whole.state()
    assert second.p_value == whole.p_value


def feed_all(check: DriftMonitor, scores: np.ndarray) -> None:
    for score in scores.tolist():
        check.add({"score": score})


def test_statistics_of_an_image_are_those_of_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    green = pixels[:, :, 1].astype(float)
    down = [abs(green[i + 1, j] - green[i, j]) for i in range(4) for j in range(7)]
    right = [abs(green[i, j + 1] - green[i, j]) for i in range(5) for j in range(6)]
    values = drift_statistics(pixels, 2.5)
    assert values["score"] == 2.5
    assert values["brightness"] == pytest.approx(pixels.astype(float).mean())
    assert values["sharpness"] == pytest.approx((np.mean(down) + np.mean(right)) / 2)


@pytest.mark.parametrize(
    ("calibration", "rate", "words"),
    [
        ({}, 0.01, "nothing to watch"),
        ({"score": []}, 0.01, "finite calibration values of score"),
        ({"score": [1.0, math.nan]}, 0.01, "finite calibration values of score"),
        ({"score": [1.0]}, 0.0, "between 0 and 1"),
        ({"score": [1.0]}, 1.0, "between 0 and 1"),
    ],
    ids=["no statistic", "no value", "nan", "rate 0", "rate 1"],
)
def test_refusals(calibration: dict[str, list[float]], rate: float, words: str) -> None:
    with pytest.raises(BlemishError, match=words):
        DriftMonitor(calibration, false_alarm_rate=rate)


@pytest.mark.parametrize("values", [{}, {"score": math.nan}, {"brightness": 1.0}], ids=["none", "nan", "another"])
def test_an_image_without_a_value_is_refused_and_not_counted(values: dict[str, float]) -> None:
    check = DriftMonitor({"score": [1.0, 2.0]})
    with pytest.raises(BlemishError, match="needs a finite value of score"):
        check.add(values)
    assert check.images == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state | {"check": "0"}, "another model or rate"),
        (lambda state: {"check": state["check"]}, "damaged"),
        (lambda state: state | {"images": 7}, "damaged"),
        (lambda state: state | {"statistics": {"score": {"counts": [1]}}}, "damaged"),
    ],
    ids=["other", "missing", "count", "cells"],
)
def test_a_state_that_is_not_this_checks_is_refused(spoil, words: str) -> None:
    check = DriftMonitor({"score": [1.0, 2.0]})
    check.add({"score": 1.5})
    with pytest.raises(BlemishError, match=words):
        DriftMonitor({"score": [1.0, 2.0]}, state=spoil(check.state()))
