"""A stand-in for the paper's frozen VGG11 whose ImageNet weights are bundled: EfficientNet-Lite0."""

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.experiments.networks.frozen import Frozen
from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.networks.timm_cnn import TimmCNN
from blemish.networks.upsampling import Resample

STRIDES = (4, 8, 16)
GRID_STRIDE = 8
HIDDEN = 128
# The field of a cell of VGG11 cut before its fourth pool: 62 pixels around the middle of its 8 x 8 tile.
VGG_EXTENT, VGG_FIRST = 62, -27


class Lite0Features(nn.Module):
    """Frozen features of three depths, brought to the stride-8 grid of the cut VGG11.

    Args:
        update_bn_stats: see `Frozen`.
    """

    def __init__(self, *, update_bn_stats: bool = False) -> None:
        super().__init__()
        backbone = TimmCNN(strides=STRIDES)
        self.channels = sum(backbone.channels)
        self.trunk = Frozen(backbone, update_bn_stats=update_bn_stats)
        self.resamples: nn.ModuleList | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 176, h, w) of images (N, 3, H, W) whose values lie about 0..1, h = ceil(H / 8)."""
        maps = self.trunk(images * 255)  # the trunk wants grey levels
        if self.resamples is not None:
            return torch.cat([resample(m.float()) for resample, m in zip(self.resamples, maps, strict=True)], dim=1)
        grid = maps[STRIDES.index(GRID_STRIDE)].shape[-2:]
        # Antialiased, this is a triangle filter on the middles of the cells' tiles, whether it shrinks or enlarges.
        return torch.cat([F.interpolate(m.float(), grid, mode="bilinear", antialias=True) for m in maps], dim=1)

    def fix_size(self, size: tuple[int, int]) -> None:
        """Takes images of this (height, width) only from now on, and resizes by matrices, which ONNX can express."""
        sides = [tuple(ceil(side / stride) for side in size) for stride in STRIDES]
        grid = sides[STRIDES.index(GRID_STRIDE)]
        self.resamples = nn.ModuleList(
            Resample(*(_matrix(inner, outer) for inner, outer in zip(side, grid, strict=True))) for side in sides
        )


def _matrix(inputs: int, outputs: int) -> Tensor:
    """The antialiased bilinear resizing of one axis, float (outputs, inputs): what it makes of each unit vector."""
    units = torch.eye(inputs)[None, None]  # rows are unit vectors
    return F.interpolate(units, (inputs, outputs), mode="bilinear", antialias=True)[0, 0].T.contiguous()


class Lite0(nn.Module):
    """FCDD on Lite0: the frozen features and two trained 3 x 3 convolutions, as VGG11 has above its frozen part.

    Images are expected as min-max scaling leaves them, about 0..1. Standardised ones (mean 0, deviation 1) work too,
    but reach the trunk with three to five times the contrast it was trained with.

    Args:
        update_bn_stats: see `Frozen`.
    """

    def __init__(self, *, update_bn_stats: bool = False) -> None:
        super().__init__()
        self.features = Lite0Features(update_bn_stats=update_bn_stats)
        self.head = nn.Sequential(*hidden_layers(self.features.channels), nn.Conv2d(HIDDEN, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """phi (N, 1, h, w) of images (N, 3, H, W)."""
        return self.head(self.features(images))

    @staticmethod
    def field(size: tuple[int, int]) -> ReceptiveField:
        """The field that VGG11's cells would have on this grid.

        Lite0's own fields reach far beyond the tiles of their cells, with little weight out there. The extent decides
        where the paper's un-normalised kernel is cut and, being even or odd, how high it is; the masks' loss depends on
        both. With VGG11's extent the paper's sigma and learning rate mean the same here.
        """
        vertical, horizontal = (
            AxisField(cells=ceil(side / GRID_STRIDE), stride=GRID_STRIDE, extent=VGG_EXTENT, first=VGG_FIRST)
            for side in size
        )
        return ReceptiveField(vertical, horizontal)


def hidden_layers(channels: int) -> list[nn.Module]:
    """The trained layers above the frozen features: (N, channels, h, w) to (N, 128, h, w)."""
    layers: list[nn.Module] = []
    for inputs in (channels, HIDDEN):
        layers += [nn.Conv2d(inputs, HIDDEN, 3, padding=1), nn.BatchNorm2d(HIDDEN), nn.ReLU(inplace=True)]
    return layers
