"""The whole detector as one torch module, from uint8 pixels to map, score and p-value: what is exported."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor, nn

from blemish.networks.alignment import Alignment
from blemish.networks.features import FeatureGrid
from blemish.networks.focus import as_high_as
from blemish.networks.heads import Head
from blemish.networks.interest import Interest
from blemish.networks.upsampling import gaussian_upsampling


class DetectorNetwork(nn.Module):
    """Features, head and Gaussian upsampling: uint8 pixels to anomaly maps at network size.

    Args:
        features: brings pixels to a grid of feature vectors.
        head: turns the grid into the anomaly map.
        sigma: standard deviation of the upsampling Gaussian in pixels.
        interest: what it is blind to, if anything.
        alignment: turns parts upright first, and their maps back.
    """

    def __init__(
        self,
        features: FeatureGrid,
        head: Head,
        *,
        sigma: float,
        interest: Interest | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.interest = interest
        self.alignment = alignment
        self.features = features
        self.head = head
        self.upsample = gaussian_upsampling(
            features.field, size=features.size, sigma=sigma, halves=alignment is not None
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Anomaly maps A' >= 0, float (N, H, W), of uint8 pixels (N, H, W, 3)."""
        poses = None
        if self.alignment is not None:
            poses = self.alignment.poses(pixels)
            pixels = self.alignment.upright(pixels, poses)
        elif self.interest is not None:
            pixels = self.interest.blind(pixels)
        cells = self.head.maps(*self.features.with_maps(pixels))
        maps = [self._to_pixels(one, poses) for one in cells]
        return maps[0] if len(maps) == 1 else as_high_as(*maps)

    def _to_pixels(self, cells: Tensor, poses: Tensor | None) -> Tensor:
        """Maps (N, h, w) as those of the image as it came, (N, H, W)."""
        maps = self.upsample(cells)
        if self.alignment is not None and poses is not None:
            return self.alignment.back(maps, poses)
        return maps if self.interest is None else self.interest(maps)

    def first_opinion(self) -> "DetectorNetwork":
        """The same network without its second opinion: what the images held back can calibrate."""
        first = copy(self)
        first._modules = self._modules | {"head": self.head.first_opinion()}
        return first


class SmallestMap(nn.Module):
    """Several networks as one, whose map is at each pixel the smallest of theirs: a cross-conformal detector.

    What they have in common, such as the backbone, is written and computed once: the exporter merges equal weights
    and ONNX Runtime equal nodes.

    Args:
        networks: two or more of one size, whatever they learned from.
    """

    def __init__(self, networks: Sequence[DetectorNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.features = networks[0].features

    def forward(self, pixels: Tensor) -> Tensor:
        """Anomaly maps (N, H, W) of uint8 pixels (N, H, W, 3)."""
        return torch.stack([network(pixels) for network in self.networks]).amin(0)


class CalibratedNetwork(nn.Module):
    """A detector network with its calibration: the graph of the model file.

    Args:
        network: the trained network or networks.
        calibration_scores: scores of the held-back nominal images.
    """

    calibration_scores: Tensor

    def __init__(self, network: DetectorNetwork | SmallestMap, calibration_scores: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        scores = torch.from_numpy(np.asarray(calibration_scores, dtype=np.float32))
        self.register_buffer("calibration_scores", scores)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (N, H, W), scores (N,) and p-values (N,) of uint8 pixels (N, H, W, 3) at network size."""
        maps = self.network(pixels)
        scores = maps.amax((1, 2))
        at_least = (self.calibration_scores >= scores[:, None]).sum(1)
        return maps, scores, (1 + at_least) / (1 + len(self.calibration_scores))
