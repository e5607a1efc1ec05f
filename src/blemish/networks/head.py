"""The head: from the extractor's maps to the anomaly map, put together from small modules."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from blemish.networks.losses import pseudo_huber


class Head(nn.Module):
    """A = sqrt(d^2 + e^2 + 1) - 1, the pseudo-Huber loss of FCDD.

    d is the distance to nominal images, e >= 0 the defect branch's output. What was learned from known defects can only
    raise the map: defects of other types keep their distance.

    Args:
        distance: maps to d (N, h, w), 1 where images are ordinary.
        branches: maps to e >= 0 (N, h, w) each, on the same grid.
    """

    def __init__(self, distance: nn.Module, *branches: nn.Module) -> None:
        super().__init__()
        self.distance = distance
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The anomaly map A >= 0 (N, h, w) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        squares = [term(maps).square() for term in (self.distance, *self.branches)]
        return pseudo_huber(reduce(torch.add, squares).sqrt())


class BackgroundWeight(nn.Module):
    """Weights the excess of distances over 1, the usual value, beside the part.

    The excess and not the distance itself, or the outline of the part would show in every map.

    Args:
        foreground: bool (h, w), the cells that show the part.
        weight: of the excess elsewhere.
    """

    weight: Tensor  # (h, w)

    def __init__(self, foreground: Tensor, weight: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.where(foreground, 1.0, weight))

    def forward(self, distance: Tensor) -> Tensor:
        """Distances (N, h, w) to such with the excess weighted."""
        return 1 + self.weight * (distance - 1)
