"""Discoveries against the step-up rule word for word; the realised false-discovery rate against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.conformal.fdr import control_fdr, min_rejections
from blemish.conformal.split import Calibration
from blemish.errors import BlemishError


@settings(max_examples=150, deadline=None)
@given(
    p_values=st.lists(st.integers(1, 41).map(lambda k: k / 41), min_size=1, max_size=30),
    rate=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
)
def test_discoveries_are_those_of_the_step_up_rule(p_values: list[float], rate: float) -> None:
    """Benjamini and Hochberg (1995), (1): the largest k with p_(k) <= k/m q; all up to it are discovered."""
    ranked, m = sorted(p_values), len(p_values)
    passed = [p for k, p in enumerate(ranked, start=1) if p * m <= k * rate + 1e-12]
    expected = [bool(passed) and p <= max(passed) for p in p_values]
    found = control_fdr(p_values, false_discovery_rate=rate)
    assert found.discovered.tolist() == expected
    assert all(
        control_fdr(p_values, false_discovery_rate=min(q, 0.999)).discovered[i] for i, q in _below_1(found.q_values)
    )


@pytest.mark.parametrize(
    ("images", "calibration_images", "rate"), [(100, 66, 0.1), (100, 99, 0.1), (7, 200, 0.05), (50, 4, 0.1)]
)
def test_no_batch_has_fewer_discoveries_than_the_fewest(images: int, calibration_images: int, rate: float) -> None:
    fewest = min_rejections(images, calibration_images=calibration_images, false_discovery_rate=rate)
    least = 1 / (calibration_images + 1)
    for lowest in range(images + 1):  # so many images above all calibration scores, the others below
        found = control_fdr([least] * lowest + [1.0] * (images - lowest), false_discovery_rate=rate).discovered.sum()
        assert found == (lowest if lowest >= fewest else 0)


def test_the_false_discovery_rate_with_one_calibration_set_for_the_batch_is_the_nominal_share_of_the_rate() -> None:
    """With n + 1 a multiple of m / q the bound is met exactly (Marandon, Lei, Mary and Roquain 2024)."""
    rng = np.random.default_rng(0)
    n, m, anomalous, rate = 199, 20, 5, 0.1
    shares = []
    for _ in range(3000):
        calibration = Calibration(rng.normal(size=n).astype(np.float32).tolist())
        scores = rng.normal(size=m) + 2.5 * (np.arange(m) < anomalous)
        found = control_fdr([calibration.p_value(x) for x in scores], false_discovery_rate=rate).discovered
        shares.append(found[anomalous:].sum() / max(1, found.sum()))
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(rate * (m - anomalous) / m, abs=3.5 * error)


@pytest.mark.parametrize(
    ("p_values", "rate", "words"),
    [
        ([], 0.1, "of a batch"),
        ([[0.5]], 0.1, "of a batch"),
        ([0.5, float("nan")], 0.1, "outside 0 to 1"),
        ([0.5, 1.5], 0.1, "outside 0 to 1"),
        ([0.5], 0.0, "between 0 and 1"),
        ([0.5], 1.0, "between 0 and 1"),
    ],
    ids=["none", "matrix", "nan", "above 1", "rate 0", "rate 1"],
)
def test_refusals(p_values: list[float], rate: float, words: str) -> None:
    with pytest.raises(BlemishError, match=words):
        control_fdr(p_values, false_discovery_rate=rate)


def _below_1(q_values: np.ndarray) -> list[tuple[int, float]]:
    return [(i, q) for i, q in enumerate(q_values.tolist()) if q < 1]
