"""Evidence's own cells: the backbone's maps on the grid, without the averages that the closed form needs."""

from collections.abc import Sequence

from torch import Tensor

from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid


class SharpCells(CellNetwork):
    """A few layers on features that stay as they are, and that are not averaged: hair cracks would be lost.

    Args:
        features: makes the grid.
        hidden: channels between its layers.
    """

    def __init__(self, features: FeatureGrid, *, hidden: int) -> None:
        super().__init__(channels=features.channels, hidden=hidden, wide=True)
        self.sharp = features.sharp

    def sees(self, grid: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The backbone's maps on the grid (N, C, h, w). Raises ValueError where they are not given."""
        if not maps:
            raise ValueError("evidence on sharp cells needs the backbone's maps: see FeatureGrid.with_maps")
        return self.sharp(maps)
