"""PatchCore: the distance to the nearest of a coreset of all nominal vectors (Roth et al. 2022).

The bank is a greedy k-center coreset: every next vector is the one farthest from all those taken (Sener and Savarese
2018), made affordable for hundreds of thousands of vectors on one core.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.methods.patch_features import PatchFeatures
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import MIN_DISTANCE, FirstImages, NominalImages, NormalModel, out_of_fold
from blemish.training.config import TrainConfig

DIMENSIONS = 64  # of the random projection
MIN_CANDIDATES = 40_000  # vectors that the coreset is chosen among, or all of fewer
CANDIDATES_PER_VECTOR = 3  # where that makes more of them
CHUNK = 2048  # vectors of the bank that are compared at once, which bounds memory


class PatchCore(NormalModel):
    """Euclidean distance to the nearest vector of the bank, exactly, wherever in the image that one lay.

    In units of the mean out-of-fold distance: that of an image to the vectors of other folds' images. PatchCore also
    weights the image's score by the neighbours of the nearest vector; here it is the maximum of the map.

    Args:
        pyramid: makes the maps.
        config: `config.memory` vectors are kept at most, `config.seed` decides the coreset.
    """

    centre: Tensor  # (C, 1, 1), the mean of the candidates
    bank: Tensor  # float16 (K, C), less the centre
    unit: Tensor  # mean out-of-fold distance of nominal images

    def __init__(self, pyramid: FeaturePyramid, config: TrainConfig) -> None:
        super().__init__(pyramid, config)
        self.config = config
        self.grid = pyramid.field.grid
        self.features = PatchFeatures(pyramid)
        channels = self.features.channels
        self.register_buffer("centre", torch.zeros(channels, 1, 1))
        self.register_buffer("bank", torch.zeros(1, channels).half())
        self.register_buffer("unit", torch.tensor(1.0))

    @torch.no_grad()  # not inference_mode: the bank is a new tensor that the graph is traced with
    def fit(self, nominal: NominalImages) -> Tensor:
        """Chooses the bank in one pass; out-of-fold distances (n, h, w) of the first images."""
        positions = self.grid[0] * self.grid[1]
        generator = np.random.default_rng(self.config.seed)
        chosen = candidates(nominal.number * positions, self.config.memory, generator)
        vectors, first = self._candidates(nominal, np.sort(chosen))
        # In the order of the draw, the first of which is taken first.
        vectors = vectors[torch.from_numpy(np.argsort(np.argsort(chosen)))]
        self.centre.copy_(vectors.mean(0)[:, None, None])
        vectors -= self.centre.flatten()
        points = projected(vectors.cpu().numpy(), generator)
        taken = farthest_first(points, min(self.config.memory, len(points)))
        bank = nominal.processes.broadcast(vectors[torch.from_numpy(taken)])
        folds = torch.from_numpy(chosen[taken] // positions) % self.config.gaussian.folds
        self.bank = bank.half()
        self.unit.fill_(1.0)
        if nominal.number < 2:
            return torch.empty(0, *self.grid)
        distances = out_of_fold(first, self.config.gaussian.folds, lambda fold: self._without(fold, folds))
        self.unit.copy_(distances.mean().clamp(min=MIN_DISTANCE))
        return (distances / self.unit).cpu()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the extractor's maps."""
        return nearest(self.features(maps) - self.centre, self.bank) / self.unit

    def _candidates(self, nominal: NominalImages, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The vectors (K, C) of these numbers, ascending, and the features of the first images in half precision.

        Vector p of image i, counted over all processes, has the number i * h * w + p.
        """
        positions = self.grid[0] * self.grid[1]
        first, position = FirstImages(self.config.gaussian.out_of_fold_images), nominal.first
        kept = []
        for maps in nominal.batches("features"):
            features: Tensor = self.features(maps)
            first.add(features, position)
            start, end = position * positions, (position + len(features)) * positions
            own = torch.from_numpy(chosen[(chosen >= start) & (chosen < end)] - start).to(features.device)
            kept.append(features.permute(0, 2, 3, 1).flatten(0, 2)[own])
            position += len(features)
        if not kept:
            raise ValueError("no features to fit to")
        return nominal.processes.all_gather(torch.cat(kept)), first.gathered(nominal.processes)

    def _without(self, fold: int, folds: Tensor) -> Callable[[Tensor], Tensor]:
        """Distances of features (N, C, h, w) to the vectors of all other folds."""
        others = self.bank[(folds != fold).to(self.bank.device)]
        # A fold that alone has vectors in the bank is measured by them.
        others = others if len(others) else self.bank
        return lambda features: nearest(features.to(self.centre) - self.centre, others)


def nearest(features: Tensor, bank: Tensor) -> Tensor:
    """Distances (N, h, w) of features (N, C, h, w) to the nearest vectors of a bank (K, C)."""
    rows, columns = map(int, features.shape[2:])
    vectors = features.flatten(2).transpose(1, 2)  # (N, P, C)

    def squares() -> Iterator[Tensor]:  # |b|^2 - 2 b v, (N, P)
        for part in bank.float().split(CHUNK):
            yield (part.square().sum(1) - 2 * (vectors @ part.T)).amin(2)

    least = reduce(torch.minimum, squares()) + vectors.square().sum(2)
    return least.clamp(min=0).sqrt().reshape(-1, rows, columns)


def candidates(total: int, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of the vectors that a coreset is chosen among, in random order."""
    return generator.permutation(total)[: max(MIN_CANDIDATES, CANDIDATES_PER_VECTOR * number)]


def projected(points: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Points (N, D) in `DIMENSIONS` random directions, which nearly keeps distances; as they are where D is no more."""
    if points.shape[1] <= DIMENSIONS:
        return points
    projection = generator.standard_normal((points.shape[1], DIMENSIONS), dtype=np.float32)
    return points @ (projection / np.float32(DIMENSIONS**0.5))


def coreset(vectors: npt.NDArray[np.float32], number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Indices (number,) of the vectors (N, C) taken, in the order in which they are.

    Exactly: of the N vectors max(40,000, 3 x number) are drawn as candidates, or all where there are no more. Their
    distances are taken after a random Gaussian projection to 64 dimensions, or as they are where C is no more. The
    first vector taken is the first candidate drawn, each next one the candidate whose smallest distance to those taken
    is the largest. The seed decides candidates and projection.
    """
    generator = np.random.default_rng(seed)
    chosen = candidates(len(vectors), number, generator)
    points = projected(vectors[chosen] - vectors.mean(0), generator)
    return chosen[farthest_first(points, min(number, len(points)))]


def farthest_first(points: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.int64]:
    """Indices (number,) of points (N, D) taken greedily, from the first point on."""
    squares = np.einsum("nd,nd->n", points, points)
    smallest = np.full(len(points), np.inf, dtype=np.float32)
    taken = np.zeros(number, dtype=np.int64)
    for step in range(number):
        new = taken[step]
        distances = points @ points[new]
        distances *= -2
        distances += squares
        distances += squares[new]
        np.minimum(smallest, distances, out=smallest)
        smallest[new] = -np.inf  # not again
        if step + 1 < number:
            taken[step + 1] = smallest.argmax()
    return taken
