"""A Gaussian for each position (PaDiM, Defard et al. 2021), with the smallest distance over its neighbours.

A Mahalanobis distance is FCDD with a fixed linear layer: whitening makes a vector phi of covariance one, and the
distance is its norm.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class PositionGaussians(nn.Module):
    """Mahalanobis distances of features to Gaussians with a mean and a full covariance of each position's own.

    A position's distance is the smallest of those to its own Gaussian and to its neighbours' up to `reach` cells off:
    parts lie a little differently from image to image. It is in units of the mean out-of-fold distance.

    Args:
        channels: length C of the feature vectors.
        grid: (h, w) positions, P in all.
        reach: how many cells off a neighbour may be; 0 for none.
    """

    mean: Tensor  # (P, C, 1)
    whitening: Tensor  # float16 (P, C, C), W with W^T W the inverse of the covariance
    unit: Tensor  # mean out-of-fold distance of nominal images
    seen: Tensor  # (J * P,), for each of J neighbours the position that each Gaussian sees
    pairs: Tensor  # (P * J,), for each position its pairs of Gaussian and neighbour

    def __init__(self, *, channels: int, grid: tuple[int, int], reach: int) -> None:
        super().__init__()
        rows, columns = grid
        self.grid = grid
        positions = rows * columns
        self.register_buffer("mean", torch.zeros(positions, channels, 1))
        # Half precision halves the model file and changes distances by less than a thousandth.
        self.register_buffer("whitening", torch.eye(channels).half().repeat(positions, 1, 1))
        self.register_buffer("unit", torch.tensor(1.0))
        seen, pairs = _neighbours(grid, reach)
        self.neighbours = len(seen)
        self.register_buffer("seen", seen.flatten(), persistent=False)
        self.register_buffer("pairs", pairs.flatten(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Distances (N, h, w), in `unit`s, of features (N, C, h, w)."""
        rows, columns = self.grid
        neighbours, positions = self.neighbours, rows * columns
        vectors = features.flatten(2).permute(2, 1, 0)  # (P, C, N)
        seen = vectors[self.seen].unflatten(0, (neighbours, positions))  # (J, P, C, N)
        seen = seen.permute(1, 2, 0, 3).flatten(2)  # (P, C, J * N)
        # The whitening on the left: runtimes then read it where it lies.
        squares = (self.whitening.float() @ (seen - self.mean)).square().sum(1)  # (P, J * N)
        squares = squares.reshape(positions * neighbours, -1)[self.pairs]
        least = squares.reshape(positions, neighbours, -1).amin(1)  # (P, N)
        return least.permute(1, 0).reshape(-1, rows, columns).sqrt() / self.unit


def _neighbours(grid: tuple[int, int], reach: int) -> tuple[Tensor, Tensor]:
    """What `PositionGaussians` keeps as `seen` (J, P) and `pairs` (P, J)."""
    rows, columns = grid
    row, column = torch.arange(rows)[:, None], torch.arange(columns)[None]
    own = row * columns + column  # (h, w)
    offsets = list(_offsets(reach))
    seen, pairs = [], []
    for number, (down, right) in enumerate(offsets):
        # What lies beyond the border is never used.
        seen.append((row + down).clamp(0, rows - 1) * columns + (column + right).clamp(0, columns - 1))
        gaussian_row, gaussian_column = row - down, column - right
        inside = (gaussian_row >= 0) & (gaussian_row < rows) & (gaussian_column >= 0) & (gaussian_column < columns)
        pair = (gaussian_row * columns + gaussian_column) * len(offsets) + number
        pairs.append(torch.where(inside, pair, own * len(offsets)))
    return torch.stack(seen).flatten(1), torch.stack(pairs, -1).flatten(0, 1)


def _offsets(reach: int) -> Iterator[tuple[int, int]]:
    """The position itself first, then its neighbours."""
    yield 0, 0
    for down in range(-reach, reach + 1):
        yield from ((down, right) for right in range(-reach, reach + 1) if (down, right) != (0, 0))
