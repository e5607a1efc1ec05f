"""FCDD's head: trained convolutions on a backbone's maps, whose output is the anomaly map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.losses import pseudo_huber
from blemish.networks.upsampling import ToGrid


class FcddHead(nn.Module):
    """A = sqrt(phi^2 + 1) - 1 on the grid of the anomaly map (equation 1 of FCDD, cell by cell).

    phi is a 1 x 1 convolution of the last layer; its bias is the centre of the hypersphere.

    Args:
        pyramid: makes the maps; its `channels` and `fields` say what they are.
        maps: of how many, the finest first, it sees.
        layers: convolutions with batch normalisation and ReLU below the 1 x 1 convolution.
        kernel_size: cells a side that each of them sees.
        hidden: channels between them.
    """

    def __init__(self, pyramid: FeaturePyramid, *, maps: int, layers: int, kernel_size: int, hidden: int) -> None:
        super().__init__()
        fields = pyramid.fields[:maps]
        self.to_grid = ToGrid(fields, pyramid.field)
        channels = sum(pyramid.channels[: len(fields)])
        made: list[nn.Module] = []
        for _ in range(layers):
            made += [
                nn.Conv2d(channels, hidden, kernel_size, padding=kernel_size // 2, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU(inplace=True),
            ]
            channels = hidden
        self.layers = nn.Sequential(*made, nn.Conv2d(channels, 1, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The anomaly map A >= 0 (N, h, w) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        cells = torch.cat(self.to_grid(maps[: len(self.to_grid.resamples)]), dim=1)  # (N, C, h, w)
        return pseudo_huber(self.layers(cells)[:, 0].float())
