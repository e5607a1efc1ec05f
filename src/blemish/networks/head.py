"""The head that turns a backbone's maps into the anomaly map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.defect_branch import DefectBranch
from blemish.networks.feature_pyramid import FeaturePyramid, OneGrid
from blemish.networks.gaussian import PositionGaussians, harmonic
from blemish.networks.losses import pseudo_huber

REACH = 1  # cells: how far off a position the same thing may lie
BACKGROUND = 0.3  # of what distances exceed 1 by counts beside the part, where parts are turned upright


class Head(nn.Module):
    """Distances of all levels in one, joined by the defect branch where there is one.

    A = sqrt(d^2 + e^2 + 1) - 1, the pseudo-Huber loss of FCDD: d is the harmonic mean of the levels' distances, e >= 0
    the defect branch. So what was learned from some defects takes nothing away from any others.

    Args:
        features: makes the levels.
        part: bool (h, w), the cells that show the part where parts are turned upright; beside it
            distances count less.

    Attributes:
        levels: a `PositionGaussians` each.
        defect_branch: trained on known anomalies; None where there are none.
    """

    weight: Tensor | None  # (h, w)

    def __init__(self, features: FeaturePyramid, *, part: Tensor | None = None) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            PositionGaussians(channels=level.channels, grid=level.grid, reach=REACH) for level in features.levels
        )
        self.to_grid = OneGrid([level.field for level in features.levels], features.field)
        self.defect_branch: DefectBranch | None = None
        self.register_buffer("weight", None if part is None else torch.where(part, 1.0, BACKGROUND))

    def forward(self, levels: Sequence[Tensor], maps: Sequence[Tensor]) -> Tensor:
        """The anomaly map A >= 0 (N, h, w) of the levels' features and the backbone's maps."""
        squares = self.distance(levels).square()
        if self.defect_branch is not None:
            squares = squares + self.defect_branch.standardized_logits(maps).clamp(min=0).square()
        return pseudo_huber(squares.sqrt())

    def distance(self, levels: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the levels' features, each (N, C, h, w)."""
        return self.joined([level(features) for level, features in zip(self.levels, levels, strict=True)])

    def joined(self, distances: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the levels' distances, each on a grid of its own."""
        joined = harmonic(self.to_grid(distances))
        return joined if self.weight is None else 1 + self.weight * (joined - 1)  # 1 is the usual distance
