"""Trained convolutions on a backbone's maps: the layers that the heads of FCDD and HSC have in common."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.upsampling import ToGrid


class GridConvolutions(nn.Module):
    """Convolutions with batch normalisation and ReLU on the grid of the anomaly map.

    Args:
        pyramid: makes the maps; its `channels` and `fields` say what they are.
        maps: of how many, the finest first, it sees.
        layers: how many convolutions; without any the maps themselves are the result, side by side.
        kernel_size: cells a side that each of them sees.
        hidden: channels of each.

    Attributes:
        channels: of the result.
    """

    def __init__(self, pyramid: FeaturePyramid, *, maps: int, layers: int, kernel_size: int, hidden: int) -> None:
        super().__init__()
        fields = pyramid.fields[:maps]
        self.to_grid = ToGrid(fields, pyramid.field)
        self.channels = sum(pyramid.channels[: len(fields)])
        made: list[nn.Module] = []
        for _ in range(layers):
            made += [
                nn.Conv2d(self.channels, hidden, kernel_size, padding=kernel_size // 2, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(inplace=True),
            ]
            self.channels = hidden
        self.layers = nn.Sequential(*made)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Features (N, C, h, w) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        features: Tensor = self.layers(torch.cat(self.to_grid(maps[: len(self.to_grid.resamples)]), dim=1))
        return features
