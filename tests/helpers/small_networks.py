"""Detector networks that take no second to make and no weights: a small random backbone, and Gaussians fitted to it."""

from collections.abc import Sequence

import numpy as np
import torch

from blemish.networks.backbones import Backbone
from blemish.networks.defect_branch import Evidence
from blemish.networks.detector import DetectorNetwork
from blemish.networks.feature_pyramid import STRIDES, Features
from blemish.networks.head import Head
from blemish.networks.input_mask import Interest
from blemish.training.steps.gaussian_estimation import fit_head, fit_projections

SMALL = "test_resnet"  # half a million weights; one of its maps has more channels than a level takes


def random_features(size: tuple[int, int], *, backbone: str = SMALL) -> Features:
    """Features on a backbone of random weights."""
    return Features(Backbone(backbone, strides=STRIDES, pretrained=False), size=size).eval()


@torch.inference_mode()
def fit(features: Features, head: Head, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Fits both to nominal images (H, W, 3); distances out of fold."""
    maps = features(torch.from_numpy(np.stack(images)))
    fit_projections(features, [maps])
    return fit_head(head, [features.to_levels(maps)])


def fitted_network(images: Sequence[np.ndarray], *, interest: Interest | None = None) -> DetectorNetwork:
    """A detector on a random backbone, fitted to nominal images (H, W, 3)."""
    height, width = images[0].shape[:2]
    features = random_features((height, width))
    head = Head(features)
    fit(features, head, images)
    return DetectorNetwork(features, head, interest=interest).eval()


@torch.inference_mode()
def random_evidence(features: Features, maps: Sequence[torch.Tensor], *, unit: float, seed: int = 0) -> Evidence:
    """Evidence of random weights, its logits of these maps spread about 0 as wide as `1 / unit`."""
    torch.manual_seed(seed)
    evidence = Evidence(features, hidden=8).eval()
    inputs = evidence.inputs(maps)
    evidence.standardise_by(inputs)
    logits = evidence(inputs)
    evidence.centre.copy_(logits.median())
    evidence.spread.copy_(unit * logits.std())
    return evidence
