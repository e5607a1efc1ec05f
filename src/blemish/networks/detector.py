"""The whole detector as one torch module, from uint8 pixels to map, score and p-value: what is exported."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from blemish.networks.alignment import Alignment
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.input_mask import InputMask

SIGMA = 5.0  # pixels; a little over half a cell of stride 8, so that neighbouring cells blend


class DetectorNetwork(nn.Module):
    """Pyramid, head and Gaussian upsampling: uint8 pixels to anomaly maps at network size.

    Args:
        pyramid: pixels to maps.
        head: maps to the anomaly map (N, h, w) on the grid of `pyramid.field`.
        upsample: that to network size, or to twice of it where there is an alignment.
        input_mask: what it is blind to, if anything.
        alignment: turns parts upright first, and their maps back.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        head: nn.Module,
        upsample: nn.Module,
        *,
        input_mask: InputMask | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.input_mask = input_mask
        self.alignment = alignment
        self.pyramid = pyramid
        self.head = head
        self.upsample = upsample

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that it takes."""
        return self.pyramid.size

    def forward(self, pixels: Tensor) -> Tensor:
        """Anomaly maps A' >= 0, float (N, H, W), of uint8 pixels (N, H, W, 3)."""
        if self.alignment is not None:
            poses = self.alignment.poses(pixels)
            return self.alignment.from_canonical(self._maps(self.alignment.to_canonical(pixels, poses)), poses)
        if self.input_mask is not None:
            return self.input_mask(self._maps(self.input_mask.fill_in(pixels)))
        return self._maps(pixels)

    def _maps(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.upsample(self.head(self.pyramid(pixels)))
        return maps


class MinEnsemble(nn.Module):
    """Several networks as one, whose map is at each pixel the smallest of theirs: a cross-conformal detector.

    What they have in common, such as the backbone, is written and computed once: the exporter merges equal weights
    and ONNX Runtime equal nodes.

    Args:
        networks: two or more of one size, whatever they learned from.
    """

    def __init__(self, networks: Sequence[DetectorNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.pyramid = networks[0].pyramid

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that it takes."""
        return self.pyramid.size

    def forward(self, pixels: Tensor) -> Tensor:
        """Anomaly maps (N, H, W) of uint8 pixels (N, H, W, 3)."""
        return torch.stack([network(pixels) for network in self.networks]).amin(0)


class MapNetwork(Protocol):
    """What a model file can hold: a torch module from uint8 pixels (N, H, W, 3) to anomaly maps (N, H, W)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height H and width W in pixels of the images that it takes."""
        ...

    def __call__(self, pixels: Tensor) -> Tensor:
        """Maps float (N, H, W) of uint8 pixels (N, H, W, 3)."""
        ...


class CalibratedNetwork(nn.Module):
    """A detector network with its calibration: the graph of the model file.

    Args:
        network: the trained network or networks.
        calibration_scores: scores of the held-back nominal images.
    """

    calibration_scores: Tensor

    def __init__(self, network: MapNetwork, calibration_scores: Sequence[float]) -> None:
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
