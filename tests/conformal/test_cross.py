"""Cross-conformal p-values against literal counting and scikit-learn's folds, the bounds by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from blemish.conformal.cross import cross_conformal_bound
from blemish.conformal.split import Calibration

some_scores = st.sampled_from([float(np.float32(x)) for x in np.linspace(-2, 2, 9)])
some_folds = st.lists(st.lists(some_scores, min_size=1, max_size=8), min_size=2, max_size=6)


@settings(max_examples=100, deadline=None)
@given(folds=some_folds, data=st.data())
def test_the_smallest_score_never_makes_an_image_more_anomalous_than_all_do(
    folds: list[list[float]], data: st.DataObject
) -> None:
    new = data.draw(st.lists(some_scores, min_size=len(folds), max_size=len(folds)))
    pooled = Calibration([score for fold in folds for score in fold], 0.1, folds=tuple(map(len, folds)))
    assert pooled.p_value(min(new)) >= cross_conformal_p_value(folds, new)


def test_one_model_for_all_folds_gives_the_split_conformal_p_value() -> None:
    scores = np.random.default_rng(0).normal(size=30).astype(np.float32)
    folds = [scores[k::3].tolist() for k in range(3)]
    split = Calibration(scores.tolist())
    for score in (-5.0, 0.0, float(scores[3]), 5.0):
        assert cross_conformal_p_value(folds, [score] * 3) == split.p_value(score)


@pytest.mark.parametrize(
    ("sizes", "rate", "bound"),
    [
        # 2 a + 2 (1 - a)(K - 1)/(n + K): the figure that Gasparin and Ramdas (2025) quote for Vovk's predictor
        ((50, 50, 50, 50), 0.05, 0.1 + 2 * 0.95 * 3 / 204),
        ((3, 197), 0.05, 0.1 + 2 * 0.95 * 1 / 202),
        # Barber et al. (2021): jackknife+ has 2 a; CV+ with K = 50 folds of two has 2 a + (1 - K/n)/(K + 1)
        ((1,) * 100, 0.05, 0.1),
        ((2,) * 50, 0.05, 0.1 + 0.5 / 51),
        ((1, 1), 0.9, 1.0),
    ],
    ids=["K=4", "unequal", "jackknife+", "CV+ of pairs", "never above 1"],
)
def test_the_bound_is_the_papers(sizes: tuple[int, ...], rate: float, bound: float) -> None:
    assert cross_conformal_bound(rate, sizes) == pytest.approx(bound)


@pytest.mark.parametrize(("images", "folds"), [(24, 4), (25, 4), (12, 12)], ids=["equal", "unequal", "left-one-out"])
def test_false_alarms_with_models_that_learn_stay_below_the_bound(images: int, folds: int) -> None:
    """The model is a Mahalanobis distance fitted to so few points that left-out scores depend on it heavily."""
    rng = np.random.default_rng(images)
    rates = (0.1, 0.2, 0.3)
    alarms = np.zeros((300, len(rates)))
    for run in range(len(alarms)):
        points = rng.standard_t(3, size=(images, 4))
        new = rng.standard_t(3, size=(20, 4))
        left_out, scores = [], []
        for fit, held in KFold(folds).split(points):
            mean, covariance = points[fit].mean(0), np.cov(points[fit].T) + 0.1 * np.eye(4)
            left_out.append(_distances(points[held], mean, covariance).tolist())
            scores.append(_distances(new, mean, covariance))
        p_values = np.array([cross_conformal_p_value(left_out, of_one) for of_one in np.transpose(scores).tolist()])
        alarms[run] = [(p_values <= rate).mean() for rate in rates]
    error = alarms.std(0) / np.sqrt(len(alarms))
    bounds = np.array([cross_conformal_bound(rate, [len(fold) for fold in left_out]) for rate in rates])
    assert (alarms.mean(0) <= bounds + 3 * error).all()
    assert (np.abs(alarms.mean(0) - rates) <= 0.07).all()  # in practice near the rate itself


def cross_conformal_p_value(folds: list[list[float]], scores: list[float]) -> float:
    """Vovk 2015, counted out."""
    at_least = sum(score >= scores[k] for k, fold in enumerate(folds) for score in fold)
    return (1 + at_least) / (1 + sum(len(fold) for fold in folds))


def _distances(points: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    centred = points - mean
    return np.einsum("nc,nc->n", centred @ np.linalg.inv(covariance), centred).astype(np.float32)
