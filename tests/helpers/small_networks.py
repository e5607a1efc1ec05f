"""Detector networks that take no second to make and no weights: a small random backbone, and Gaussians fitted to it."""

from collections.abc import Sequence

import numpy as np
import torch

from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import DetectorNetwork
from blemish.networks.feature_pyramid import STRIDES, FeaturePyramid
from blemish.networks.head import Head
from blemish.networks.input_mask import InputMask
from blemish.networks.timm_cnn import TimmCNN
from blemish.training.steps.gaussian_estimation import fit_head, fit_projections

SMALL = "test_resnet"  # half a million weights; one of its maps has more channels than a level takes


def random_features(size: tuple[int, int], *, backbone: str = SMALL) -> FeaturePyramid:
    """A feature pyramid on a backbone of random weights."""
    return FeaturePyramid(TimmCNN(backbone, strides=STRIDES, pretrained=False), size=size).eval()


@torch.inference_mode()
def fit(features: FeaturePyramid, head: Head, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Fits both to nominal images (H, W, 3); distances out of fold."""
    maps = features(torch.from_numpy(np.stack(images)))
    fit_projections(features, [maps])
    return fit_head(head, [features.to_levels(maps)])


def fitted_network(images: Sequence[np.ndarray], *, input_mask: InputMask | None = None) -> DetectorNetwork:
    """A detector on a random backbone, fitted to nominal images (H, W, 3)."""
    height, width = images[0].shape[:2]
    features = random_features((height, width))
    head = Head(features)
    fit(features, head, images)
    return DetectorNetwork(features, head, input_mask=input_mask).eval()


@torch.inference_mode()
def random_branch(
    features: FeaturePyramid, maps: Sequence[torch.Tensor], *, unit: float, seed: int = 0
) -> DefectBranch:
    """A defect branch of random weights, its logits of these maps spread about 0 as wide as `1 / unit`."""
    torch.manual_seed(seed)
    branch = DefectBranch(features, hidden=8).eval()
    inputs = branch.inputs(maps)
    branch.standardise_by(inputs)
    logits = branch(inputs)
    branch.logit_centre.copy_(logits.median())
    branch.logit_scale.copy_(unit * logits.std())
    return branch
