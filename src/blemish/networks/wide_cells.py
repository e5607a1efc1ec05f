"""Wider cells for the closed form: what images that differ as wholes are compared by.

Where every good image has a texture, an exposure or a subject of its own, a small cell says more about whose image it
is than about whether something is wrong. What is left to compare are deep features, averaged far.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.features import FeatureGrid, averaged_twice
from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.networks.upsampling import linear_resampling

SIDE = 2  # of the grid's cells


class WideCells(nn.Module):
    """The deepest features of a grid on cells of 2 x 2 of its own, averaged twice over 3 x 3 of these.

    Args:
        features: makes the grid; even on both sides.

    Attributes:
        channels: length C_k of the deepest features.
        grid: (h / 2, w / 2) wide cells.
        back: brings maps of wide cells (N, h / 2, w / 2) to the grid (N, h, w), linearly.
    """

    def __init__(self, features: FeatureGrid) -> None:
        super().__init__()
        self.channels = features.backbone.channels[-1]
        field = ReceptiveField(_wide(features.field.vertical), _wide(features.field.horizontal))
        self.grid = field.grid
        self.back = linear_resampling(field, features.field)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) of the grid to those of wide cells (N, C_k, h / 2, w / 2)."""
        return averaged_twice(F.avg_pool2d(self.deepest(features), SIDE))

    def deepest(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) of the grid to the deepest of them (N, C_k, h, w)."""
        return features[:, -self.channels :]


def _wide(axis: AxisField) -> AxisField:
    return AxisField(axis.cells // SIDE, SIDE * axis.stride, SIDE * axis.extent, axis.first)
