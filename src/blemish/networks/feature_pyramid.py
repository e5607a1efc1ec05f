"""From pixels to feature vectors: a frozen backbone's maps, and the levels that are compared with nominal images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.receptive_field import ReceptiveField, receptive_fields
from blemish.networks.timm_cnn import TimmCNN
from blemish.networks.upsampling import linear_resampling

STRIDES = (4, 8, 16, 32)
MAX_CHANNELS = 64  # of one map in a level; of more, the principal components count
STRIDE = 8  # of the anomaly map before it is upsampled


@dataclass(frozen=True)
class Level:
    """Features that are compared by themselves.

    Attributes:
        channels: length C of their vectors.
        field: the tiles of their cells, see `ReceptiveField.tiles`.
    """

    channels: int
    field: ReceptiveField

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) cells."""
        return self.field.grid


class FeaturePyramid(nn.Module):
    """The maps of a frozen backbone at strides 4, 8, 16 and 32, and three levels made of the last three.

    * Fine: stride 8, averaged over 3 x 3 cells.
    * Middle: stride 16.
    * Coarse: stride 16, averaged over 2 x 2 cells, beside stride 32.

    Maps of many channels are projected onto their leading principal components first.

    Args:
        backbone: with strides `STRIDES`; it is not trained, and its batch normalisation is folded away.
        size: network size (height, width), multiples of 32.

    Attributes:
        fields: the tiles of the cells of the backbone's maps.
        field: those of the anomaly map's cells.
        levels: fine, middle, coarse.
    """

    def __init__(self, backbone: TimmCNN, *, size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = backbone.folded()
        self.size = size
        self.fields = [field.tiles() for field in receptive_fields(backbone.backbone, size)]
        self.field: ReceptiveField = self.fields[STRIDES.index(STRIDE)]
        self.projections = nn.ModuleList(
            Projection(channels, MAX_CHANNELS) if channels > MAX_CHANNELS else nn.Identity()
            for channels in backbone.channels
        )
        fine, middle, deep = (min(channels, MAX_CHANNELS) for channels in backbone.channels[1:])
        self.levels = [
            Level(fine, self.fields[1]),
            Level(middle, self.fields[2]),
            Level(middle + deep, self.fields[3]),
        ]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The backbone's maps (N, C_k, h_k, w_k) of uint8 pixels (N, H, W, 3) at network size."""
        maps = self.backbone(pixels.permute(0, 3, 1, 2).float())
        # Float32 from here on also under mixed precision: quadratic forms need the digits.
        return [one.float() for one in maps]

    def to_levels(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The levels' features, each (N, C, h, w), of the backbone's maps."""
        with torch.autocast(maps[0].device.type, enabled=False):
            _, fine, middle, deep = (project(one) for project, one in zip(self.projections, maps, strict=True))
            fine = F.avg_pool2d(fine, 3, stride=1, padding=1, count_include_pad=False)
            return [fine, middle, torch.cat([F.avg_pool2d(middle, 2), deep], dim=1)]


class Projection(nn.Module):
    """The leading principal components of a map's channels.

    Args:
        channels: C of the map.
        components: K that are kept.
    """

    axes: Tensor  # (K, C), of length one

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer("axes", torch.eye(components, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, h, w)."""
        return F.conv2d(features, self.axes[:, :, None, None])

    def fit(self, covariance: Tensor) -> None:
        """Takes the leading axes of a covariance (C, C)."""
        _, axes = torch.linalg.eigh(covariance.double())
        self.axes.copy_(axes[:, -len(self.axes) :].T)


class OneGrid(nn.Module):
    """Maps of several strides on the grid of one of them.

    Args:
        fields: the tiles of the maps' cells.
        field: those of the grid's.
    """

    def __init__(self, fields: Sequence[ReceptiveField], field: ReceptiveField) -> None:
        super().__init__()
        self.resamples = nn.ModuleList(
            nn.Identity() if one == field else linear_resampling(one, field) for one in fields
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, ..., h_k, w_k) as (N, ..., h, w) each."""
        return [bring(one) for bring, one in zip(self.resamples, maps, strict=True)]
