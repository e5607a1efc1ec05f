"""What the defect branch learns of labelled defects, on a small random backbone: that it does, and its unit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from blemish.networks.defect_branch import DefectBranch
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.training.anomaly_sources import Anomaly, ImageAugmentation
from blemish.training.config import DefectBranchConfig, TrainConfig
from blemish.training.distributed import SINGLE_PROCESS
from blemish.training.feature_extraction import FeatureExtraction
from blemish.training.steps import defect_branch as learning
from blemish.training.steps.defect_branch import scale_defect_branch, train_defect_branch
from blemish.training.trainer import Training, coverage
from helpers.images import SIDE, noise
from helpers.small_networks import random_pyramid

GOOD, UNSEEN = range(24), range(24, 33)
RELATIVE_SCALE = 0.85


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([noise(seed) for seed in range(36)])


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    torch.manual_seed(0)
    return random_pyramid((SIDE, SIDE))


@pytest.fixture
def extraction(pyramid: FeaturePyramid, training: Training) -> FeatureExtraction:
    return FeatureExtraction(pyramid, training.fabric, SINGLE_PROCESS)


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


def learned(
    images: np.ndarray, extraction: FeatureExtraction, training: Training, *, epochs: int = 12, **constants: int
) -> DefectBranch:
    torch.manual_seed(0)
    network = DefectBranch(extraction.pyramid, maps=DefectBranchConfig().maps, hidden=16)
    train_defect_branch(
        network,
        images,
        GOOD,
        with_stains(images, 0),
        augmentation=ImageAugmentation(TrainConfig().augmentation),
        extraction=extraction,
        training=replace(training, epochs=epochs),
        config=DefectBranchConfig(**constants),
        mix_styles=False,
    )
    return network


def loud(maps: np.ndarray) -> float:
    """What maps (N, h, w) reach, the mean of those not below the median."""
    largest = maps.max((1, 2))
    return float(largest[largest >= np.median(largest)].mean())


def test_it_is_learned_wherever_the_defect_lies(
    images: np.ndarray, extraction: FeatureExtraction, training: Training
) -> None:
    network = learned(images, extraction, training, epochs=100, nominal_copies=16)
    assert not network.training
    new = with_stains(images, 5)
    with torch.inference_mode():
        logits_in_units = network.standardized_logits(extraction.local(np.stack([one.image for one in new])))
    covered = np.stack([coverage(one.mask, logits_in_units.shape[-2:]).numpy() for one in new])
    assert roc_auc_score(covered.ravel() > 0.5, logits_in_units.numpy().ravel()) > 0.97


def test_it_reaches_on_the_louder_good_images_a_little_less_than_the_distances(
    images: np.ndarray, extraction: FeatureExtraction, training: Training
) -> None:
    network = learned(images, extraction, training, epochs=2, nominal_copies=0)
    distances = 3 + torch.rand(len(UNSEEN), 8, 8, generator=torch.Generator().manual_seed(0))
    scale_defect_branch(network, images, UNSEEN, distances, extraction=extraction, relative_scale=RELATIVE_SCALE)
    with torch.inference_mode():
        logits_in_units = network.standardized_logits(extraction.local(images[list(UNSEEN)])).double().numpy()
    assert np.median(logits_in_units) == pytest.approx(0, abs=0.01)
    assert loud(logits_in_units) == pytest.approx(RELATIVE_SCALE * loud(distances.double().numpy()), rel=1e-3)


def test_distances_of_zero_leave_a_unit(images: np.ndarray, extraction: FeatureExtraction) -> None:
    network = DefectBranch(extraction.pyramid, maps=DefectBranchConfig().maps, hidden=8).eval()
    scale_defect_branch(
        network, images, UNSEEN, torch.zeros(len(UNSEEN), 8, 8), extraction=extraction, relative_scale=RELATIVE_SCALE
    )
    assert torch.isfinite(network.logit_scale)
    assert network.logit_scale > 0


def test_it_learns_from_good_images_their_copies_and_no_others(
    images: np.ndarray, extraction: FeatureExtraction, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def note(network: DefectBranch, **data: object) -> None:
        given.update(data)

    monkeypatch.setattr(learning, "train_classifier", note)
    other = images.copy()
    other[24:] = 0  # not among the good ones
    for some in (images, other):
        learned(some, extraction, training, nominal_copies=10, nominal_images=20)
        nominal = given["nominal"]
        assert nominal.shape[0] == 20 + 10
        assert nominal.dtype == torch.float16
        expected = (
            DefectBranch(
                extraction.pyramid, maps=DefectBranchConfig().maps, hidden=DefectBranchConfig().hidden_channels
            )
            .inputs(extraction.local(images[:20]))
            .half()
        )
        torch.testing.assert_close(nominal[:20], expected)
    assert given["anomalies"].features.shape[0] == len(GOOD)
    assert given["anomalies"].coverage.amax((1, 2)).tolist() == [1.0] * len(GOOD)
