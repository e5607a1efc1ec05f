"""The default method: a Gaussian a position at several depths of the backbone, joined by the harmonic mean.

For one depth this is PaDiM (Defard et al. 2021). docs/research.md says what each part is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.methods.gaussian_estimation import GaussianFit, Moments
from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import MIN_DISTANCE, NominalImages, NormalModel
from blemish.networks.receptive_field import ReceptiveField
from blemish.networks.upsampling import ToGrid
from blemish.training.config import GaussianConfig, TrainConfig


class MultiscaleGaussian(NormalModel):
    """Mahalanobis distances to a Gaussian of each position's own, at several levels.

    d = 1 / sqrt(mean over the levels of 1 / distance^2), each distance in units of its mean out-of-fold distance.

    Args:
        pyramid: makes the maps; those of the anomaly map's stride and above are compared.
        config: `config.gaussian` is used.

    Attributes:
        to_levels: maps to what is compared by itself.
        gaussians: a `PositionGaussians` for each level.
    """

    def __init__(self, pyramid: FeaturePyramid, config: TrainConfig) -> None:
        super().__init__(pyramid, config)
        self.config = config.gaussian
        self.to_levels = Levels(pyramid, config.gaussian)
        levels = self.to_levels.levels
        self.gaussians = nn.ModuleList(
            PositionGaussians(channels=level.channels, grid=level.field.grid, reach=self.config.reach)
            for level in levels
        )
        self.to_grid = ToGrid([level.field for level in levels], pyramid.field)

    @torch.inference_mode()
    def fit(self, nominal: NominalImages) -> Tensor:
        """Fits projections, then Gaussians; out-of-fold distances (n, h, w) of the first images."""
        self.to_levels.fit_projections(nominal)
        fits = [GaussianFit(gaussians, self.config, nominal.processes) for gaussians in self._levels()]
        position = nominal.first
        for maps in nominal.batches("features"):
            for fit, features in zip(fits, self.to_levels(maps), strict=True):
                fit.add(features, position)
            position += len(maps[0])
        return self.joined([fit.finish() for fit in fits]).cpu()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the extractor's maps."""
        levels = self.to_levels(maps)
        return self.joined([gaussians(features) for gaussians, features in zip(self._levels(), levels, strict=True)])

    def joined(self, distances: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the levels' distances, each on a grid of its own."""
        return harmonic(self.to_grid(distances))

    def _levels(self) -> list[PositionGaussians]:
        return [gaussians for gaussians in self.gaussians if isinstance(gaussians, PositionGaussians)]


@dataclass(frozen=True)
class Level:
    """Features that are compared by themselves.

    Attributes:
        channels: length C of their vectors.
        field: the tiles of their cells.
    """

    channels: int
    field: ReceptiveField


class Levels(nn.Module):
    """What of an extractor's maps is compared by itself.

    Of the maps from the anomaly map's stride on, the first, averaged over 3 x 3 cells, is a level, and the second is
    one. Each further map is one beside the map before it, averaged to its grid. With strides 8, 16 and 32 these are a
    fine, a middle and a coarse level. Maps of many channels are projected onto their leading principal components
    first.

    Args:
        pyramid: makes the maps.
        config: how many components there are and of how many images, and how many cells are averaged.
    """

    def __init__(self, pyramid: FeaturePyramid, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        self.start = pyramid.fields.index(pyramid.field)
        fields, channels = pyramid.fields[self.start :], pyramid.channels[self.start :]
        self.projections = nn.ModuleList(
            Projection(count, config.components) if count > config.components else nn.Identity() for count in channels
        )
        kept = [min(count, config.components) for count in channels]
        self.pooling = [_cells_in(before, after) for before, after in pairwise(fields[1:])]
        self.levels = [
            Level(kept[place] + (kept[place - 1] if place > 1 else 0), field) for place, field in enumerate(fields)
        ]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The levels' features, each (N, C, h, w), of the extractor's maps."""
        with torch.autocast(maps[0].device.type, enabled=False):
            chosen = zip(self.projections, maps[self.start :], strict=True)
            fine, *others = (project(one) for project, one in chosen)
            side = self.config.fine_pooling
            levels = [F.avg_pool2d(fine, side, stride=1, padding=side // 2, count_include_pad=False), *others[:1]]
            for before, after, cells in zip(others, others[1:], self.pooling, strict=False):
                levels.append(torch.cat([before if cells == 1 else F.avg_pool2d(before, cells), after], dim=1))
            return levels

    def fit_projections(self, nominal: NominalImages) -> None:
        """Takes the principal components of the maps of nominal images, where they are projected."""
        chosen = [(place, one) for place, one in enumerate(self.projections) if isinstance(one, Projection)]
        moments: list[Moments] = []
        for maps in nominal.batches("principal components", at_most=self.config.component_images):
            vectors = [  # (1, C, n * h * w) each
                maps[self.start + place].flatten(2).permute(1, 0, 2).flatten(1)[None] for place, _ in chosen
            ]
            if not moments:
                moments = [Moments(nominal.processes.broadcast(one.mean(2, keepdim=True))) for one in vectors]
            for of_map, one in zip(moments, vectors, strict=True):
                of_map.update(one)
        for (_, projection), of_map in zip(chosen, moments, strict=True):
            of_map.all_reduce(nominal.processes)
            _, covariance = of_map.mean_and_covariance()
            projection.fit(covariance[0])


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


def harmonic(distances: Sequence[Tensor]) -> Tensor:
    """The root of the harmonic mean of squared distances, each (N, h, w).

    One level alone seldom calls noise anomalous where the others see nothing: it takes several to make the mean large.
    """
    inverse = torch.stack([distance.clamp(min=MIN_DISTANCE).pow(-2) for distance in distances]).mean(0)
    return inverse.rsqrt()


def _cells_in(fine: ReceptiveField, coarse: ReceptiveField) -> int:
    """How many cells of a fine grid fill the side of one of a coarse grid."""
    return coarse.vertical.stride // fine.vertical.stride
