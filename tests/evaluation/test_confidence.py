"""Confidence intervals against scikit-learn on samples drawn one by one, and against our exact figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from blemish.datasets.layouts import Sample
from blemish.evaluation.confidence import bootstrap_weights, intervals
from blemish.evaluation.metrics import PixelMetrics
from blemish.evaluation.results import EvaluatedImage
from blemish.model.scored_image import ScoredImage
from helpers.images import save_image


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[EvaluatedImage]:
    """Twelve good and nine anomalous images with overlapping scores; six have masks, of one or two regions."""
    root, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    made = []
    for number in range(21):
        bad = number >= 12
        values = rng.normal(size=(24, 32)).astype(np.float32).round(2)
        mask = None
        if bad and number % 3:
            painted = np.zeros((24, 32), np.uint8)
            painted[4:9, 6 : 8 + number % 5] = 255
            if number % 2:
                painted[15:20, 20:30] = 255
            values[painted > 0] += 1.5
            mask = save_image(root / f"{number}.png", painted)
        score = float(values.max() + bad * rng.normal(0.5))
        scored = ScoredImage("x", score, 0.5, "anomalous" if score > 3.5 else "ok", values, (24, 32))
        made.append(EvaluatedImage(Sample(Path("x"), "bad" if bad else None, mask), scored))
    return made


def pixel_figures(images: list[EvaluatedImage]) -> tuple[float, float]:
    from blemish.imaging.masks import read_mask

    with PixelMetrics() as metrics:
        for one in images:
            if not one.sample.anomalous:
                metrics.update(one.scored.full_map(), np.zeros((24, 32), bool))
            elif one.sample.mask is not None:
                metrics.update(one.scored.full_map(), read_mask(one.sample.mask))
        result = metrics.compute()
    return result.auroc, result.aupro


def test_intervals_are_those_of_a_slow_bootstrap(images: list[EvaluatedImage]) -> None:
    draws = 120
    found = intervals(images, draws=draws)
    anomalous = np.array([one.sample.anomalous for one in images])
    scores = np.array([one.scored.score for one in images])
    weights = bootstrap_weights(anomalous, draws, np.random.default_rng(0)).astype(int)
    assert (weights[:, anomalous].sum(1) == 9).all()
    assert (weights[:, ~anomalous].sum(1) == 12).all()
    samples = [np.repeat(np.arange(21), times) for times in weights]
    literal = {
        "image_auroc": [roc_auc_score(anomalous[sample], scores[sample]) for sample in samples],
        "pixel_auroc": [pixel_figures([images[index] for index in sample])[0] for sample in samples],
        "aupro": [pixel_figures([images[index] for index in sample])[1] for sample in samples],
    }
    for name, values in literal.items():
        assert found[name] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=2e-3), name


def test_rates_have_the_exact_interval(images: list[EvaluatedImage]) -> None:
    found = intervals(images, draws=10)
    for name, bad in (("detection_rate", True), ("false_alarm_rate", False)):
        alarms = [one.scored.verdict == "anomalous" for one in images if one.sample.anomalous is bad]
        k, n = sum(alarms), len(alarms)
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        assert found[name] == pytest.approx((low, high))


@pytest.mark.slow
def test_ninety_five_in_a_hundred_intervals_hold_the_truth() -> None:
    """Scores of two normal distributions one apart: the true AUROC is the normal distribution's value at 1 / sqrt 2."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        images = []
        for number in range(80):
            bad = number >= 40
            scored = ScoredImage("x", rng.normal() + bad, 0.5, "ok", np.zeros((2, 2), np.float32), (2, 2))
            images.append(EvaluatedImage(Sample(Path("x"), "bad" if bad else None), scored))
        low, high = intervals(images, draws=200)["image_auroc"]
        covered += low <= 0.7602 <= high
    assert 178 <= covered <= 199


def test_what_is_missing_has_no_interval(images: list[EvaluatedImage]) -> None:
    good = [one for one in images if not one.sample.anomalous]
    found = intervals(good, draws=10)
    assert [name for name, interval in found.items() if interval is not None] == ["false_alarm_rate"]
    without = [replace(one, sample=replace(one.sample, mask=None)) for one in images]
    assert intervals(without, draws=10)["pixel_auroc"] is None
