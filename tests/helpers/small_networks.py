"""Detector networks that take no second to make and no weights: a small random backbone, and Gaussians fitted to it."""

from collections.abc import Sequence

import numpy as np
import torch

from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.build import build_detector, build_normal_model
from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import DetectorNetwork
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.input_mask import InputMask
from blemish.networks.normal_model import NormalModel
from blemish.training.config import DefectBranchConfig, TrainConfig
from blemish.training.feature_extraction import MapsInMemory

SMALL = "test_resnet"  # half a million weights; one of its maps has more channels than a level takes


def random_pyramid(size: tuple[int, int], *, backbone: str = SMALL) -> FeaturePyramid:
    """A feature pyramid on a backbone of random weights."""
    return FeaturePyramid(load_extractor(backbone, pretrained=False), size=size).eval()


def new_model(pyramid: FeaturePyramid, method: str = "gaussian", **options: object) -> NormalModel:
    """A normal model that has learned nothing."""
    return build_normal_model(method, pyramid, TrainConfig(method=method).with_options(**options))


@torch.inference_mode()
def fit(pyramid: FeaturePyramid, model: NormalModel, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Fits to nominal images (H, W, 3); distances out of fold."""
    return model.fit(MapsInMemory([pyramid(torch.from_numpy(np.stack(images)))]))


def fitted_network(
    images: Sequence[np.ndarray], *, method: str = "gaussian", input_mask: InputMask | None = None
) -> DetectorNetwork:
    """A detector on a random backbone, fitted to nominal images (H, W, 3)."""
    height, width = images[0].shape[:2]
    pyramid = random_pyramid((height, width))
    model = new_model(pyramid, method)
    fit(pyramid, model, images)
    return build_detector(pyramid, model, input_mask=input_mask)


def gaussians_of(module: torch.nn.Module) -> list[PositionGaussians]:
    """The Gaussians in a network, level by level."""
    return [part for part in module.modules() if isinstance(part, PositionGaussians)]


@torch.inference_mode()
def random_branch(pyramid: FeaturePyramid, maps: Sequence[torch.Tensor], *, unit: float, seed: int = 0) -> DefectBranch:
    """A defect branch of random weights, its logits of these maps spread about 0 as wide as `1 / unit`."""
    torch.manual_seed(seed)
    branch = DefectBranch(pyramid, maps=DefectBranchConfig().maps, hidden=8).eval()
    inputs = branch.inputs(maps)
    branch.classifier.standardise_by(inputs)
    logits = branch.classifier(inputs)
    branch.logit_centre.copy_(logits.median())
    branch.logit_scale.copy_(unit * logits.std())
    return branch
