"""Evidence's own cells: the backbone's maps on the grid, without the averages that the closed form needs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid


class SharpCells(CellNetwork):
    """A few layers on features that stay as they are, and that are not averaged: hair cracks would be lost.

    Maps finer than the grid are brought to it as means, in which both sides of a line cancel out. So it also sees how
    far their cells within one of the grid's lie apart.

    Args:
        features: makes the grid.
        hidden: channels between its layers.
    """

    def __init__(self, features: FeatureGrid, *, hidden: int) -> None:
        sides = [_cells_within(field.grid, features.grid) for field in features.fields]
        finer = [channels for channels, side in zip(features.backbone.channels, sides, strict=True) if side > 1]
        super().__init__(channels=features.channels + sum(finer), hidden=hidden, wide=True)
        self.sharp = features.sharp
        self.sides = sides

    def sees(self, grid: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The backbone's maps on the grid, then the ranges of the finer ones within its cells, (N, C, h, w).

        Raises ValueError where the maps are not given.
        """
        if not maps:
            raise ValueError("evidence on sharp cells needs the backbone's maps: see FeatureGrid.with_maps")
        ranges = [_range(one, side) for one, side in zip(maps, self.sides, strict=True) if side > 1]
        return torch.cat([self.sharp(maps), *ranges], dim=1)


def _cells_within(fine: tuple[int, int], grid: tuple[int, int]) -> int:
    """How many cells of a fine grid fill the side of one of another; 1 where they do not."""
    side = fine[0] // grid[0]
    return side if side > 1 and fine == (side * grid[0], side * grid[1]) else 1


def _range(fine: Tensor, side: int) -> Tensor:
    """The largest less the smallest of each side x side cells: (N, C, side * h, side * w) to (N, C, h, w)."""
    return F.max_pool2d(fine, side) + F.max_pool2d(-fine, side)
