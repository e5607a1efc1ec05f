"""From pixels to one grid of feature vectors: a backbone's depths brought to a common stride."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.backbones import Backbone
from blemish.networks.receptive_field import ReceptiveField, receptive_fields
from blemish.networks.upsampling import linear_resampling


class FeatureGrid(nn.Module):
    """All depths of a backbone on the grid of one of them, averaged twice over 3 x 3 cells: a pyramid of 5 x 5.

    The average makes a cell's statistics those of its surroundings, so that a part may lie a few pixels off.

    Args:
        backbone: the trunk; it is not trained.
        size: network size (height, width).
        stride: the stride, one of the backbone's, whose grid the features take.
        projection: float (K, channels), the directions along which the feature vectors are looked at; all of them
            as they are where it is None. See `blemish.projection`.

    Attributes:
        field: the tiles of the grid's cells, see `ReceptiveField.tiles`.
        channels: length C of a feature vector.
    """

    def __init__(
        self, backbone: Backbone, *, size: tuple[int, int], stride: int = 8, projection: Tensor | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.size = size
        fields = [field.tiles() for field in receptive_fields(backbone.trunk, size)]
        self.field: ReceptiveField = fields[backbone.strides.index(stride)]
        self.resamples = nn.ModuleList(
            nn.Identity() if field == self.field else linear_resampling(field, self.field) for field in fields
        )
        self.projections: nn.ModuleList | None = None
        self.channels = sum(backbone.channels)
        if projection is not None:
            self.channels = len(projection)
            self.projections = nn.ModuleList(_Linear(part) for part in projection.split(backbone.channels, dim=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (N, C, h, w) of uint8 pixels (N, H, W, 3) at network size."""
        maps = self.backbone(pixels.permute(0, 3, 1, 2).float())
        # Float32 from here on also under mixed precision: the head's quadratic forms need the digits.
        with torch.autocast(pixels.device.type, enabled=False):
            maps = [one.float() for one in maps]
            if self.projections is None:
                grid = torch.cat([f(one) for f, one in zip(self.resamples, maps, strict=True)], dim=1)
            else:
                grid = self._projected(maps, self.projections)
            for _ in range(2):
                grid = F.avg_pool2d(grid, 3, stride=1, padding=1, count_include_pad=False)
        return grid

    def _projected(self, maps: list[Tensor], projections: nn.ModuleList) -> Tensor:
        # Resampling and projecting are linear and may change places: what is done first is done on the smaller grid.
        _, cells, _ = zip(*(one.shape[1:] for one in maps), strict=True)
        parts = [
            resample(project(one)) if rows <= self.field.grid[0] else project(resample(one))
            for one, rows, resample, project in zip(maps, cells, self.resamples, projections, strict=True)
        ]
        return reduce(torch.add, parts)


class _Linear(nn.Module):
    """The same linear map (K, C) of every cell."""

    weight: Tensor  # (K, C, 1, 1)

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight[:, :, None, None].clone())

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, h, w)."""
        return F.conv2d(maps, self.weight)
