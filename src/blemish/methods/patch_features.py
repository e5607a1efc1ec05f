"""Maps of several strides concatenated on one grid, the patch features of PaDiM and PatchCore."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.upsampling import linear_resampling

MAX_STRIDE = 2  # of a map, in cells of the grid: deeper ones see far beyond a patch


class PatchFeatures(nn.Module):
    """Features (N, C, h, w) of a pyramid's maps on the anomaly map's grid, averaged twice over 3 x 3 cells.

    With strides 4, 8, 16 and 32 these are the first three. A finer map is averaged over the cells of the grid, a
    coarser one interpolated linearly.

    Args:
        pyramid: makes the maps.

    Attributes:
        channels: C.
    """

    def __init__(self, pyramid: FeaturePyramid) -> None:
        super().__init__()
        grid = pyramid.field
        chosen = [field for field in pyramid.fields if field.vertical.stride <= MAX_STRIDE * grid.vertical.stride]
        self.maps = len(chosen)
        self.channels = sum(pyramid.channels[: self.maps])
        self.to_grid = nn.ModuleList(
            nn.AvgPool2d(grid.vertical.stride // field.vertical.stride)
            if field.vertical.stride < grid.vertical.stride
            else linear_resampling(field, grid)
            if field.vertical.stride > grid.vertical.stride
            else nn.Identity()
            for field in chosen
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(N, C, h, w) of the pyramid's maps, in float32 also under mixed precision."""
        with torch.autocast(maps[0].device.type, enabled=False):
            brought = [to_grid(one) for to_grid, one in zip(self.to_grid, maps[: self.maps], strict=True)]
            return averaged(averaged(torch.cat(brought, dim=1)))


def averaged(cells: Tensor) -> Tensor:
    """Maps (N, C, h, w) averaged over 3 x 3 cells; at a border over those that there are."""
    return F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
