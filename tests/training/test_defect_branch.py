"""What evidence learns of labelled defects, on a small random backbone: that it does, from what, and its unit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from blemish.networks.defect_branch import Evidence
from blemish.networks.feature_pyramid import Features
from blemish.synthetic.augment import ANY
from blemish.training.anomaly_sources import Anomaly
from blemish.training.distributed import ALONE
from blemish.training.feature_extraction import Extraction
from blemish.training.steps import defect_branch as learning
from blemish.training.steps.defect_branch import QUIET, learn_evidence, scale_evidence
from blemish.training.trainer import Training, coverage
from helpers.images import SIDE, noise
from helpers.small_networks import random_features

GOOD, UNSEEN = range(24), range(24, 33)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([noise(seed) for seed in range(36)])


@pytest.fixture(scope="module")
def features() -> Features:
    torch.manual_seed(0)
    return random_features((SIDE, SIDE))


@pytest.fixture
def extraction(features: Features, training: Training) -> Extraction:
    return Extraction(features, training.fabric, ALONE)


def with_stains(images: np.ndarray, seed: int) -> list[Anomaly]:
    """Good images, each with a reddish stain somewhere."""
    rng, made = np.random.default_rng(seed), []
    for index in GOOD:
        image, mask = images[index].copy(), np.zeros((SIDE, SIDE), dtype=bool)
        top, left = 8 * rng.integers(0, SIDE // 8 - 2, 2)
        mask[top : top + 16, left : left + 16] = True
        image[mask] = (170, 90, 90)
        made.append(Anomaly(image, mask, kind="stain"))
    return made


def learned(images: np.ndarray, extraction: Extraction, training: Training, *, epochs: int = 12) -> Evidence:
    torch.manual_seed(0)
    network = Evidence(extraction.features, hidden=16)
    learn_evidence(
        network,
        images,
        GOOD,
        with_stains(images, 0),
        freedom=ANY,
        extraction=extraction,
        training=replace(training, epochs=epochs),
    )
    return network


def loud(maps: np.ndarray) -> float:
    """What maps (N, h, w) reach, the mean of those not below the median."""
    largest = maps.max((1, 2))
    return float(largest[largest >= np.median(largest)].mean())


def test_it_is_learned_wherever_the_defect_lies(
    images: np.ndarray, extraction: Extraction, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "COPIES", 16)
    network = learned(images, extraction, training, epochs=100)
    assert not network.training
    new = with_stains(images, 5)
    with torch.inference_mode():
        standing = network.standing(extraction.alone(np.stack([one.image for one in new])))
    covered = np.stack([coverage(one.mask, standing.shape[-2:]).numpy() for one in new])
    assert roc_auc_score(covered.ravel() > 0.5, standing.numpy().ravel()) > 0.97


def test_it_reaches_on_the_louder_good_images_a_little_less_than_the_distances(
    images: np.ndarray, extraction: Extraction, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "COPIES", 0)
    network = learned(images, extraction, training, epochs=2)
    distances = 3 + torch.rand(len(UNSEEN), 8, 8, generator=torch.Generator().manual_seed(0))
    scale_evidence(network, images, UNSEEN, distances, extraction=extraction)
    with torch.inference_mode():
        standing = network.standing(extraction.alone(images[list(UNSEEN)])).double().numpy()
    assert np.median(standing) == pytest.approx(0, abs=0.01)
    assert loud(standing) == pytest.approx(QUIET * loud(distances.double().numpy()), rel=1e-3)


def test_distances_of_zero_leave_a_unit(images: np.ndarray, extraction: Extraction) -> None:
    network = Evidence(extraction.features, hidden=8).eval()
    scale_evidence(network, images, UNSEEN, torch.zeros(len(UNSEEN), 8, 8), extraction=extraction)
    assert torch.isfinite(network.spread)
    assert network.spread > 0


def test_it_learns_from_good_images_their_copies_and_no_others(
    images: np.ndarray, extraction: Extraction, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "COPIES", 10)
    monkeypatch.setattr(learning, "MAX_NOMINAL", 20)
    given = {}

    def note(network: Evidence, **data: object) -> None:
        given.update(data)

    monkeypatch.setattr(learning, "refine", note)
    other = images.copy()
    other[24:] = 0  # not among the good ones
    for some in (images, other):
        learned(some, extraction, training)
        nominal = given["nominal"]
        assert nominal.shape[0] == 20 + 10
        assert nominal.dtype == torch.float16
        expected = Evidence(extraction.features).inputs(extraction.alone(images[:20])).half()
        torch.testing.assert_close(nominal[:20], expected)
    assert given["anomalies"].features.shape[0] == len(GOOD)
    assert given["anomalies"].coverage.amax((1, 2)).tolist() == [1.0] * len(GOOD)
