"""Wider cells for the closed form: what images that differ as wholes are compared by.

Where every good image has a texture, an exposure or a subject of its own, a small cell says more about whose image it
is than about whether something is wrong. What is left to compare are deep features, averaged far.
"""

from collections.abc import Sequence
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.features import FeatureGrid, averaged
from blemish.networks.gaussian import GaussianHead, View
from blemish.networks.receptive_field import AxisField, ReceptiveField, receptive_fields
from blemish.networks.upsampling import linear_resampling

SIDE = 2  # of the grid's cells
LEADING = 28  # directions of what lies beyond the grid's features: 24 to 32 are nearly as good, all of them much worse


class WideCells(nn.Module):
    """Two views on cells of 2 x 2 of a grid's own: its features, and still deeper ones of the backbone.

    The first are averaged twice over 3 x 3 wide cells after having been averaged on the grid, the others three times.
    These come from blocks behind the backbone's last map, where there are any.

    Args:
        features: makes the grid, of its deepest features alone, see `FeatureGrid.deepest`; even on both sides.
        beyond: makes the still deeper ones out of that map, see `Backbone.beyond`; None for the first view alone.

    Attributes:
        views: what the vectors consist of.
        grid: (h / 2, w / 2) wide cells.
        back: brings maps of wide cells (N, h / 2, w / 2) to the grid (N, h, w), linearly.
    """

    def __init__(self, features: FeatureGrid, *, beyond: nn.Module | None) -> None:
        super().__init__()
        self.views = list(features.views)
        field = ReceptiveField(_wide(features.field.vertical), _wide(features.field.horizontal))
        self.grid = field.grid
        self.back = linear_resampling(field, features.field)
        self.beyond = beyond
        if beyond is not None:
            deepest = features.fields[-1]
            deeper = _behind(beyond, deepest)
            nothing = torch.zeros(
                1, features.backbone.channels[-1], *deepest.grid, device=features.backbone.mean.device
            )
            channels = beyond(nothing).shape[1]
            self.views.append(View(channels, min(LEADING, channels)))
            self.bring = linear_resampling(deeper, field)

    def forward(self, features: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """Features (N, C, h, w) of the grid and the backbone's own maps to wide cells (N, C', h / 2, w / 2)."""
        cells = self.of_the_grid(features)
        if self.beyond is None:
            return cells
        deeper = self.beyond(maps[-1]).float()
        return torch.cat([cells, averaged(self.bring(deeper), times=3)], dim=1)

    def of_the_grid(self, features: Tensor) -> Tensor:
        """The first view alone: features (N, C, h, w) of the grid to (N, C, h / 2, w / 2)."""
        return averaged(F.avg_pool2d(features, SIDE), times=2)


def lean(wide: WideCells, gaussian: GaussianHead) -> tuple[WideCells, GaussianHead]:
    """The same distances by less: only the directions of a second view that count are brought to wide cells.

    Enlarging and averaging are linear, and so is a whitening; which of them comes first makes no difference but in
    time. What is learned about v stays true, such as a second opinion.

    Args:
        wide: what the closed form sees.
        gaussian: the closed form, fitted.
    """
    if wide.beyond is None:
        return wide, gaussian
    first, second = wide.views
    few = gaussian.whitening[first.directions :, first.channels :]  # (K, C)
    along = nn.Conv2d(second.channels, second.directions, 1, bias=False).to(few.device)
    along.weight.requires_grad_(False).copy_(few[:, :, None, None])

    fewer = copy(wide)
    fewer._modules = wide._modules | {"beyond": nn.Sequential(wide.beyond, along)}
    fewer.views = [first, View.whole(second.directions, own=second.own)]

    same = GaussianHead(fewer.views, grid=wide.grid, part=gaussian.part).to(few.device)
    same.scale.copy_(gaussian.scale)
    same.variances.load_state_dict(gaussian.variances.state_dict())
    same.mean.copy_(torch.cat([gaussian.mean[: first.channels], along(gaussian.mean[first.channels :])]))
    same.whitening[:, : first.channels] = gaussian.whitening[:, : first.channels]
    return fewer, same


def _wide(axis: AxisField) -> AxisField:
    return AxisField(axis.cells // SIDE, SIDE * axis.stride, SIDE * axis.extent, axis.first)


def _behind(blocks: nn.Module, field: ReceptiveField) -> ReceptiveField:
    """The tiles of what blocks make of a map whose cells are tiles, too."""
    (made,) = receptive_fields(blocks, field.grid)
    vertical, horizontal = (
        AxisField(cells.cells, cells.stride * axis.stride, cells.stride * axis.stride)
        for cells, axis in ((made.vertical, field.vertical), (made.horizontal, field.horizontal))
    )
    return ReceptiveField(vertical, horizontal)
