"""From pixels to one grid of feature vectors: a backbone's depths brought to a common stride."""

from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.backbones import Backbone
from blemish.networks.gaussian import View
from blemish.networks.receptive_field import ReceptiveField, receptive_fields
from blemish.networks.upsampling import linear_resampling


class FeatureGrid(nn.Module):
    """All depths of a backbone on the grid of one of them, averaged twice over 3 x 3 cells: a pyramid of 5 x 5.

    The average makes a cell's statistics those of its surroundings, so that a part may lie a few pixels off.

    Args:
        backbone: the trunk; it is not trained, and its batch normalisation is folded away.
        size: network size (height, width).
        stride: the stride, one of the backbone's, whose grid the features take.

    Attributes:
        fields: the tiles of the cells of the backbone's own maps, see `ReceptiveField.tiles`.
        field: those of the grid's cells.
        grid: (h, w) cells.
        sharp: brings the backbone's maps to the grid, before they are averaged.
        stride: of the grid.
        channels: length C of a feature vector.
        views: what a closed form compares.
    """

    def __init__(self, backbone: Backbone, *, size: tuple[int, int], stride: int = 8) -> None:
        super().__init__()
        self.backbone = backbone.folded()
        self.size = size
        self.stride = stride
        self.fields = [field.tiles() for field in receptive_fields(backbone.trunk, size)]
        self.field: ReceptiveField = self.fields[backbone.strides.index(stride)]
        self.grid = self.field.grid
        self.sharp = OneGrid(self.fields, self.field)
        self.channels = sum(backbone.channels)
        self.views = [View.whole(self.channels)]

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (N, C, h, w) of uint8 pixels (N, H, W, 3) at network size."""
        return self.with_maps(pixels)[0]

    def with_maps(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features, and the backbone's own maps (N, C_k, h_k, w_k), one a stride: where deeper stages go on."""
        maps = self.backbone(pixels.permute(0, 3, 1, 2).float())
        # Float32 from here on also under mixed precision: the head's quadratic forms need the digits.
        with torch.autocast(pixels.device.type, enabled=False):
            maps = [one.float() for one in maps]
            grid = averaged(self.sharp(maps), times=2)
        return grid, maps

    def deepest(self) -> Self:
        """The same, its vectors the deepest features alone: those whose averages wide cells and their focus look at."""
        other = copy(self)
        sharp = OneGrid(self.fields[-1:], self.field).to(self.backbone.mean.device)
        other._modules = self._modules | {"sharp": sharp}
        other.channels = self.backbone.channels[-1]
        other.views = [View.whole(other.channels)]
        return other


class OneGrid(nn.Module):
    """Maps of several strides, or of the deepest alone, on the grid of one of them.

    Args:
        fields: the tiles of the maps' cells.
        field: those of the grid's.
    """

    def __init__(self, fields: Sequence[ReceptiveField], field: ReceptiveField) -> None:
        super().__init__()
        self.resamples = nn.ModuleList(
            nn.Identity() if one == field else linear_resampling(one, field) for one in fields
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """All channels (N, C, h, w) of the last of the maps (N, C_k, h_k, w_k)."""
        brought = [bring(one) for bring, one in zip(self.resamples, maps[-len(self.resamples) :], strict=True)]
        return brought[0] if len(brought) == 1 else torch.cat(brought, dim=1)


def averaged(cells: Tensor, *, times: int) -> Tensor:
    """Features (N, C, h, w) averaged a number of times over 3 x 3 cells; at a border over those that there are."""
    for _ in range(times):
        cells = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    return cells
