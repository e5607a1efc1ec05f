"""The detector's unsupervised part as a rule with every choice open, for the ablation.

A rule compares levels of frozen features with a Gaussian a position each and joins their distances. `DEFAULT` does
what the detector does; the variants change one thing each. All good training images are fitted to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from panel.cache import Cached
from panel.features import SIGMA, averaged, enlarged, one_grid

FOLDS = 4
COMPONENTS = 64
GRID = 32  # cells a side of the joined map
LEAST = 1e-6
BATCH = 64

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rule:
    """What the detector is made of.

    Attributes:
        levels: features that are compared by themselves, see `LEVELS`.
        power: of the power mean that joins distances; -2 is the harmonic mean of squares, 0 the geometric mean.
        reach: cells off that a neighbour's Gaussian may lie.
        unit: what a level's distances are divided by: "mean", "median" or "largest" of left-out images, or "one".
        covariance: of each position ("full", "diagonal"), or with what share the mean of all positions' joins it.
        ridge: added variance.
        place_scale: power to which distances are divided by how far left-out images reach at a place.
        trim: images whose left-out map reaches more than so many times the median are left out; None for none.
        top: share of the map's pixels whose mean is the score; 0 for the maximum.
        sigma: pixels, of the upsampling.
    """

    levels: tuple[str, ...] = ("fine", "middle", "coarse")
    power: float = -2
    reach: int = 1
    unit: str = "mean"
    covariance: str | float = "full"
    ridge: float = 0.1
    place_scale: float = 0
    trim: float | None = None
    top: float = 0
    sigma: float = SIGMA

    def __call__(self, found: Cached, seed: int) -> tuple[Maps, npt.NDArray[np.float32]]:
        """Maps (M, 256, 256) and scores (M,) of a set's test images."""
        joined = self._joined(found, tuple(range(len(found.train(32)))))
        if self.trim is not None:
            largest = joined[0].amax((1, 2))
            kept = torch.nonzero(largest <= self.trim * largest.median())[:, 0]
            joined = self._joined(found, tuple(kept.tolist()))
        maps = enlarged(joined[1].numpy(), sigma=self.sigma)
        if not self.top:
            return maps, maps.max((1, 2))
        number = int(self.top * maps[0].size)
        return maps, np.sort(maps.reshape(len(maps), -1), 1)[:, -number:].mean(1)

    def _joined(self, found: Cached, chosen: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Maps (n, h, w) of the images fitted to, out of fold, and of the test images."""
        pairs = [self._level(found, name, chosen) for name in self.levels]
        return self._mean([pair[0] for pair in pairs]), self._mean([pair[1] for pair in pairs])

    def _mean(self, distances: list[Tensor]) -> Tensor:
        stack = torch.stack([_on_grid(one) for one in distances]).clamp(min=LEAST)
        if self.power == float("inf"):
            return stack.amax(0)
        if self.power == -float("inf"):
            return stack.amin(0)
        return stack.log().mean(0).exp() if self.power == 0 else stack.pow(self.power).mean(0).pow(1 / self.power)

    def _level(self, found: Cached, name: str, chosen: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        left_out, test = distances(found, name, chosen, self.reach, self.covariance, self.ridge)
        if self.place_scale:
            scale = averaged(averaged(left_out.amax(0)[None, None]))[0, 0]
            scale = (scale / scale.mean()).pow(self.place_scale)
            left_out, test = left_out / scale, test / scale
        units = {
            "one": 1.0,
            "mean": left_out.mean(),
            "median": left_out.median(),
            "largest": left_out.amax((1, 2)).median(),
        }
        return left_out / units[self.unit], test / units[self.unit]


def fine(maps: Callable[[int], Tensor]) -> Tensor:
    """Stride 8, averaged over 3 x 3 cells."""
    return averaged(maps(8))


def coarse(maps: Callable[[int], Tensor], axes: dict[int, Tensor]) -> Tensor:
    """Principal components of stride 16, averaged over 2 x 2 cells, and of stride 32."""
    return torch.cat([F.avg_pool2d(_projected(maps(16), axes[16]), 2), _projected(maps(32), axes[32])], 1)


LEVELS: dict[str, Callable[[Callable[[int], Tensor], dict[int, Tensor]], Tensor]] = {
    "finest": lambda maps, axes: F.avg_pool2d(maps(4), 2),
    "fine": lambda maps, axes: fine(maps),
    "fine as it is": lambda maps, axes: maps(8),
    "fine with stride 4": lambda maps, axes: averaged(torch.cat([F.avg_pool2d(maps(4), 2), maps(8)], 1)),
    "middle": lambda maps, axes: _projected(maps(16), axes[16]),
    "middle averaged": lambda maps, axes: averaged(_projected(maps(16), axes[16])),
    "middle with strides 4, 8": lambda maps, axes: torch.cat(
        [F.avg_pool2d(maps(4), 4), F.avg_pool2d(maps(8), 2), _projected(maps(16), axes[16])], 1
    ),
    "coarse": coarse,
    "coarse of stride 32 alone": lambda maps, axes: _projected(maps(32), axes[32]),
    "middle of all components": lambda maps, axes: maps(16),
    "coarse of all components of stride 16": lambda maps, axes: torch.cat(
        [F.avg_pool2d(maps(16), 2), _projected(maps(32), axes[32])], 1
    ),
    "all in one": lambda maps, axes: one_grid([maps(stride) for stride in (4, 8, 16)]),
}


@lru_cache(maxsize=96)
def distances(
    found: Cached, name: str, chosen: tuple[int, ...], reach: int, covariance: str | float, ridge: float
) -> tuple[Tensor, Tensor]:
    """Mahalanobis distances (n, h, w) of the chosen training images, out of fold, and of all test images (M, h, w)."""
    axes = principal_axes(found)
    train, test = LEVELS[name](found.train, axes)[list(chosen)], LEVELS[name](found.test, axes)
    left_out = train.new_zeros(len(train), *train.shape[2:])
    for fold in range(FOLDS):
        others = [index for index in range(len(train)) if index % FOLDS != fold]
        left_out[fold::FOLDS] = _score(_fit(train[others], covariance, ridge), train[fold::FOLDS], reach)
    return left_out, _score(_fit(train, covariance, ridge), test, reach)


@lru_cache(maxsize=1)
def principal_axes(found: Cached) -> dict[int, Tensor]:
    """(K, C) of the maps of strides 16 and 32."""
    axes = {}
    for stride in (16, 32):
        vectors = found.train(stride).permute(0, 2, 3, 1).flatten(0, 2)
        axes[stride] = torch.linalg.eigh(torch.cov(vectors.T).double())[1][:, -COMPONENTS:].T.float()
    return axes


def _projected(maps: Tensor, axes: Tensor) -> Tensor:
    return F.conv2d(maps, axes[:, :, None, None])


def _on_grid(maps: Tensor) -> Tensor:
    if maps.shape[-1] == GRID:
        return maps
    return F.interpolate(maps[:, None], size=(GRID, GRID), mode="bilinear")[:, 0]


def _fit(features: Tensor, covariance: str | float, ridge: float) -> tuple[Tensor, Tensor]:
    """Means (P, C, 1) and whitenings (P, C, C)."""
    vectors = features.flatten(2).permute(2, 1, 0)  # (P, C, N)
    mean = vectors.mean(2, keepdim=True)
    centred = vectors - mean
    found = centred @ centred.mT / vectors.shape[2]
    if covariance == "diagonal":
        found = torch.diag_embed(found.diagonal(dim1=1, dim2=2))
    elif not isinstance(covariance, str):
        found = (1 - covariance) * found + covariance * found.mean(0, keepdim=True)
    identity = torch.eye(found.shape[-1])
    factor = torch.linalg.cholesky(found + ridge * identity)
    return mean, torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)


def _score(model: tuple[Tensor, Tensor], features: Tensor, reach: int) -> Tensor:
    """The smallest distance (N, h, w) to the Gaussians up to `reach` cells off."""
    return torch.cat([_score_some(*model, some, reach) for some in features.split(BATCH)])


def _score_some(mean: Tensor, whitening: Tensor, features: Tensor, reach: int) -> Tensor:
    images, _, rows, columns = features.shape
    padded = F.pad(features, (reach,) * 4)
    least = features.new_full((images, rows + 2 * reach, columns + 2 * reach), torch.inf)
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            # What each Gaussian sees so many cells off, and there its distance counts.
            seen = padded[:, :, down : down + rows, right : right + columns]
            vectors = seen.flatten(2).permute(2, 1, 0)
            squares = (whitening @ (vectors - mean)).square().sum(1)  # (P, N)
            place = least[:, down : down + rows, right : right + columns]
            torch.minimum(place, squares.T.reshape(images, rows, columns), out=place)
    return least[:, reach : reach + rows, reach : reach + columns].sqrt()
