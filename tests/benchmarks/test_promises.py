"""The benchmark of the promises: that no image kept away is learned from, and its figures against literal ones."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance

from blemish.conformal.split import Calibration
from blemish.datasets.layouts import Sample, read_data_set
from blemish.io.files import fingerprint
from blemish.model.metadata import FINGERPRINT_DIGITS
from helpers.images import noise, save_image, stained

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from blemish.conformal.drift import DriftMonitor
from promises.deployed import most_alarms
from promises.drift import run
from promises.material import keep_away, prepare
from promises.small_detector import distances


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for number in range(18):
        save_image(tmp_path / f"parts/train/good/{number:02}.png", noise(number))
    for number in range(3):
        save_image(tmp_path / f"parts/test/good/{number}.png", noise(100 + number))
        save_image(tmp_path / f"parts/test/stain/{number}.png", stained(200 + number))
    return tmp_path / "parts"


def test_a_third_is_drawn_by_chance_and_the_rest_stays_in_its_order(parts: Path) -> None:
    data = read_data_set(parts)
    data = replace(data, train=tuple(Sample(Path(f"{number}.png")) for number in range(300)))
    drawn = np.zeros(300)
    for seed in range(60):
        away, rest = keep_away(data, seed=seed)
        assert len(away) == 100
        assert [sample for sample in data.train if sample not in away] == list(rest.train)
        assert rest.test == data.test
        drawn[[data.train.index(sample) for sample in away]] += 1
    assert drawn.min() > 4  # Binomial(60, 1/3)
    assert drawn.max() < 37
    assert keep_away(data, seed=5)[0] == keep_away(data, seed=5)[0]


def test_no_new_image_is_learned_from_and_all_are_scored(parts: Path) -> None:
    data = read_data_set(parts)
    material = prepare(data, seed=0, size=64)
    away = [sample.path for sample in keep_away(data, seed=0)[0]]
    used = set(material.detector.metadata.used_images)
    digests = [fingerprint(path)[:FINGERPRINT_DIGITS] for path in sorted((parts / "train/good").iterdir())]
    unused = [digest for digest in digests if digest not in used]
    assert sorted(unused) == sorted(fingerprint(path)[:FINGERPRINT_DIGITS] for path in away)
    assert (len(used), material.kept_away) == (12, 6)

    new = [*away, *(parts / f"test/good/{number}.png" for number in range(3))]
    np.testing.assert_allclose(material.new["none"].scores, material.detector.score(new).scores, rtol=1e-5)
    stains = [parts / f"test/stain/{number}.png" for number in range(3)]
    np.testing.assert_allclose(material.anomalous.scores, material.detector.score(stains).scores, rtol=1e-5)
    darker, usual = (material.new[name].light["brightness"] for name in ("brightness -20 %", "none"))
    np.testing.assert_allclose(darker, 0.8 * usual, rtol=0.01)
    assert len(material.nominal) == 21
    assert len(material.defects) == 3


@pytest.mark.parametrize(("n", "images", "rate"), [(43, 107, 0.1), (64, 41, 0.01), (99, 150, 0.05)])
def test_nineteen_of_twenty_calibration_sets_stay_below_the_most(n: int, images: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(4000):
        drawn = rng.normal(size=n + images).astype(np.float32)
        calibration = Calibration(drawn[:n].tolist(), rate)
        shares.append((drawn[n:] >= calibration.threshold).mean())
    most = most_alarms(calibration, images)
    assert (np.array(shares) <= most + 1e-9).mean() > 0.94
    assert (np.array(shares) < most - 1e-9).mean() < 0.96


def test_the_small_detector_is_mahalanobis_with_a_ridge() -> None:
    rng = np.random.default_rng(0)
    fit, others = rng.normal(size=(30, 2, 3)) * [1, 2, 3], rng.normal(size=(4, 2, 3))
    covariances = [EmpiricalCovariance().fit(fit[:, cell]).covariance_ for cell in range(2)]
    ridge = 0.1 * np.mean(covariances, axis=0).trace() / 3
    precisions = [np.linalg.inv(covariance + ridge * np.eye(3)) for covariance in covariances]
    means = fit.mean(0)
    expected = [[mahalanobis(image[cell], means[cell], precisions[cell]) ** 2 for image in others] for cell in range(2)]
    np.testing.assert_allclose(distances(fit, others), expected)


def test_a_stream_is_run_until_the_alarm() -> None:
    rng = np.random.default_rng(0)
    calibration = {"score": rng.normal(size=50).tolist()}
    check = DriftMonitor(calibration)
    assert run(check, {"score": rng.normal(size=100) + 2}) == check.images == check.drift.image
    assert run(DriftMonitor(calibration), {"score": rng.normal(size=100)}) == np.inf
