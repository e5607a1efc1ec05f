"""Features to fit Gaussians to, and the distances written down literally."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import mahalanobis

from blemish.methods.gaussian import Levels, MultiscaleGaussian
from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.receptive_field import AxisField, ReceptiveField
from blemish.training.config import GaussianConfig, TrainConfig

N, GRID, CHANNELS = 23, (4, 6), (5, 3)  # images, cells, channels of two levels


def literal_distances(gaussians: PositionGaussians, features: np.ndarray, *, reach: int) -> np.ndarray:
    """The smallest of the distances to the Gaussians that there are up to `reach` rows and columns off."""
    rows, columns = gaussians.grid
    means = gaussians.mean.double().numpy().reshape(rows, columns, -1)
    whitenings = gaussians.whitening.double().numpy().reshape(rows, columns, features.shape[1], features.shape[1])
    result = np.empty((len(features), rows, columns))
    for image, row, column in np.ndindex(result.shape):
        vector = features[image, :, row, column]
        result[image, row, column] = min(
            mahalanobis(vector, means[r, c], whitenings[r, c].T @ whitenings[r, c])
            for r in range(max(0, row - reach), min(rows, row + reach + 1))
            for c in range(max(0, column - reach), min(columns, column + reach + 1))
        )
    return result / float(gaussians.unit)


def new_model(*, out_of_fold_images: int = 500) -> MultiscaleGaussian:
    """Two levels on one grid, each a map as it is."""
    field = ReceptiveField(*(AxisField(cells, stride=8, extent=8) for cells in GRID))
    pyramid: Any = SimpleNamespace(channels=CHANNELS, fields=[field, field], field=field)
    constants = GaussianConfig(fine_pooling=1, out_of_fold_images=out_of_fold_images)
    return MultiscaleGaussian(pyramid, TrainConfig(gaussian=constants)).eval()


def levels_of(images: int, *, seed: int = 0, offset: float = 40.0) -> list[torch.Tensor]:
    """Correlated features, wider to the right, that half precision holds exactly."""
    generator, made = torch.Generator().manual_seed(seed), []
    for channels in CHANNELS:
        values = torch.randn(images, channels, *GRID, generator=generator) * torch.linspace(0.3, 3, GRID[1])
        mixed = torch.einsum("dc,nchw->ndhw", torch.randn(channels, channels, generator=generator), values)
        made.append((offset + mixed).half().float())
    return made


def in_batches(levels: list[torch.Tensor], sizes: Iterable[int]) -> list[list[torch.Tensor]]:
    return [list(batch) for batch in zip(*(level.split(list(sizes)) for level in levels), strict=True)]


def maps_of(images: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])[:, None, None]
    mixing, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    values = spread * torch.randn(images, 6, 3, 4, generator=generator)
    return [torch.randn(images, 2, 6, 8, generator=generator), 70 + torch.einsum("dc,nchw->ndhw", mixing, values)]


def new_levels(components: int = 3) -> Levels:
    """Levels of the maps of `maps_of`, of which the second is projected."""
    fields = [ReceptiveField(*(AxisField(n // s, stride=8 * s, extent=8 * s) for n in (6, 8))) for s in (1, 2)]
    pyramid: Any = SimpleNamespace(channels=(2, 6), fields=fields, field=fields[0])
    return Levels(pyramid, GaussianConfig(components=components))
