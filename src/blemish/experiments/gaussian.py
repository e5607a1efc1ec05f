"""This package's own detector in the paper's experiments: Gaussians on frozen features, no gradient step.

It sees the nominal images only, as they are: no outliers, no augmentation, no normalisation but its backbone's.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.detector import SIGMA
from blemish.networks.feature_pyramid import STRIDES, FeaturePyramid
from blemish.networks.head import Head
from blemish.networks.timm_cnn import DEFAULT_BACKBONE, TimmCNN
from blemish.networks.upsampling import gaussian_upsampling
from blemish.training.steps.gaussian_estimation import fit_head, fit_projections

MIN_SIZE = 64  # pixels; smaller images are enlarged to it, so that stride 32 has more than a cell


class FrozenNetwork(nn.Module):
    """Frozen features and the Gaussian head: images (N, C, S, S) in 0..1 to anomaly maps (N, h, w).

    Args:
        size: side S of the images.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        side = max(MIN_SIZE, -(-size // 32) * 32)
        self.features = FeaturePyramid(TimmCNN(DEFAULT_BACKBONE, strides=STRIDES), size=(side, side))
        self.head = Head(self.features)

    def extract(self, images: Tensor) -> Sequence[Tensor]:
        """The backbone's maps (N, C, h, w)."""
        side = self.features.size[0]
        pixels = 255 * images.expand(-1, 3, -1, -1)
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)
        found: Sequence[Tensor] = self.features(pixels.permute(0, 2, 3, 1))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Anomaly maps (N, h, w)."""
        found = self.extract(images)
        maps: Tensor = self.head(self.features.to_levels(found), found)
        return maps


class Gaussian:
    """Gaussians on frozen features, a `blemish.experiments.methods.FittedMethod`.

    Args:
        size: side S of the images.
        local: whether an anomaly is a small part of its image, or all of it.
    """

    def __init__(self, size: int, *, local: bool) -> None:
        self._local = local
        self._frozen = FrozenNetwork(size)
        self.network: nn.Module = self._frozen
        features = self._frozen.features
        self.upsample = gaussian_upsampling(features.field, size=features.size, sigma=SIGMA)
        self._size = size

    def to(self, device: torch.device) -> None:
        """Moves the network and its upsampling to a device."""
        self.network.to(device)
        self.upsample.to(device)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the head to batches of nominal images (N, C, S, S), pixels in 0..1."""
        self.network.eval()
        features = self._frozen.features
        with torch.inference_mode():
            maps = [self._frozen.extract(images) for images in batches]  # each (N, C, h, w) a stride
            fit_projections(features, maps)
            fit_head(self._frozen.head, (features.to_levels(batch) for batch in maps))

    def scores(self, inputs: Tensor) -> Tensor:
        """The largest value of the map where anomalies are local, else its mean, as in FCDD."""
        maps: Tensor = self.network(inputs)
        return self.upsample(maps).amax((1, 2)) if self._local else maps.mean((1, 2))

    def maps(self, inputs: Tensor) -> Tensor:
        """The upsampled anomaly map at the images' size."""
        with torch.inference_mode():
            maps = self.upsample(self.network(inputs))
        return F.interpolate(maps[:, None], size=(self._size, self._size), mode="bilinear", antialias=True)[:, 0]
