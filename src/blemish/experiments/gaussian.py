"""This package's own detector in the paper's experiments: Gaussians on frozen features, no gradient step.

It sees the nominal images only, as they are: no outliers, no augmentation, no normalisation but its backbone's.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.build import build_detector, build_normal_model
from blemish.networks.detector import DetectorNetwork
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.training.config import GaussianConfig, TrainConfig
from blemish.training.feature_extraction import MapsInMemory

MAX_IMAGES = 2**31  # that principal components are taken of: all of them
MIN_SIZE = 64  # pixels; smaller images are enlarged to it, so that stride 32 has more than a cell


def network_side(size: int) -> int:
    """The side in pixels of the network for images of side `size`."""
    return max(MIN_SIZE, -(-size // 32) * 32)


class FrozenNetwork(nn.Module):
    """A detector's pyramid and head: images (N, C, S, S) in 0..1 to anomaly maps (N, h, w).

    Args:
        detector: takes square images whose side is a multiple of 32.
    """

    def __init__(self, detector: DetectorNetwork) -> None:
        super().__init__()
        self.detector = detector

    def extract(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps (N, C, h, w)."""
        side = self.detector.pyramid.size[0]
        pixels = 255 * images.expand(-1, 3, -1, -1)
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
        maps: list[Tensor] = self.detector.pyramid(pixels.permute(0, 2, 3, 1))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Anomaly maps (N, h, w)."""
        maps: Tensor = self.detector.head(self.extract(images))
        return maps


class Gaussian:
    """Gaussians on frozen features, a `blemish.experiments.methods.FittedMethod`.

    Args:
        size: side S of the images.
        local: whether an anomaly is a small part of its image, or all of it.
    """

    def __init__(self, size: int, *, local: bool) -> None:
        self._size, self._local = size, local
        side = network_side(size)
        config = TrainConfig(gaussian=GaussianConfig(component_images=MAX_IMAGES))
        pyramid = FeaturePyramid(load_extractor(config.backbone), size=(side, side))
        # It shares its tensors with the detector, in whose weights they are saved.
        self._normal_model = build_normal_model(config.method, pyramid, config)
        detector = build_detector(pyramid, self._normal_model)
        self.network = FrozenNetwork(detector)
        self.upsample = detector.upsample

    def to(self, device: torch.device) -> None:
        """Moves the network and its upsampling to a device."""
        self.network.to(device)  # of which the upsampling is a part

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the head to batches of nominal images (N, C, S, S), pixels in 0..1."""
        self.network.eval()
        with torch.inference_mode():
            maps = [self.network.extract(images) for images in batches]  # each (N, C, h, w) a stride
            self._normal_model.fit(MapsInMemory(maps))

    def scores(self, inputs: Tensor) -> Tensor:
        """The largest value of the map where anomalies are local, else its mean, as in FCDD."""
        maps: Tensor = self.network(inputs)
        scores: Tensor = self.upsample(maps).amax((1, 2)) if self._local else maps.mean((1, 2))
        return scores

    def maps(self, inputs: Tensor) -> Tensor:
        """The upsampled anomaly map at the images' size."""
        with torch.inference_mode():
            maps = self.upsample(self.network(inputs))
        return F.interpolate(maps[:, None], size=(self._size, self._size), mode="bilinear", antialias=True)[:, 0]
