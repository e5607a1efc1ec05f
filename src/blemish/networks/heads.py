"""Heads that turn a grid of features into the anomaly map.

The closed form: a Mahalanobis distance is FCDD with a fixed linear layer. Whitening makes the vector output
phi = L^-1 (x - mu), and the pseudo-Huber loss of its norm, sqrt(|phi|^2 + 1) - 1, is the map. So the head needs no
gradient step, and a learned output can stand beside it as one more element of phi.
"""

import torch
from torch import Tensor, nn

from blemish.objectives import pseudo_huber

BLOCK = 2  # cells along the side of a block that shares one covariance


class GaussianHead(nn.Module):
    """One Gaussian a place: every cell has its own mean, every block of 2 x 2 cells its own whitening.

    A covariance of its own for every cell would be four times the file and be estimated from a quarter of the vectors.
    Distances are divided by `scale`, how far nominal images that were not fitted to reach at each place relative to
    the others: where good parts vary, it takes more to stand out.

    Args:
        channels: length C of the feature vectors.
        grid: (h, w) cells, both even.
    """

    mean: Tensor  # (C, h, w)
    whitening: Tensor  # (blocks, C, C)
    scale: Tensor  # (h, w), mean 1

    def __init__(self, *, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = grid
        if rows % BLOCK or columns % BLOCK:
            raise ValueError(f"the grid must be even on both sides, not {rows} x {columns}")
        self.register_buffer("mean", torch.zeros(channels, rows, columns))
        self.register_buffer("whitening", torch.zeros(rows * columns // BLOCK**2, channels, channels))
        self.register_buffer("scale", torch.ones(rows, columns))

    def whiten(self, features: Tensor) -> Tensor:
        """phi: features (N, C, h, w) to whitened vectors (N, C, h, w), of covariance one over scale squared."""
        n, _, rows, columns = features.shape
        blocks = to_blocks(features - self.mean)  # (blocks, N * 4, C)
        return from_blocks(blocks @ self.whitening, n=n, grid=(rows, columns)) / self.scale

    def forward(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distances |phi|^2 (N, h, w) of features (N, C, h, w)."""
        n, _, rows, columns = features.shape
        phi = to_blocks(features - self.mean) @ self.whitening
        squares = from_blocks((phi * phi).sum(-1, keepdim=True), n=n, grid=(rows, columns))
        return squares[:, 0] / (self.scale * self.scale)


class LearnedHead(nn.Module):
    """A small network on whitened features, trained with the FCDD objective; its output is one element of phi.

    Args:
        channels: length C of the feature vectors.
        hidden: channels between its layers.
    """

    def __init__(self, *, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, 1, 1),
        )
        self.register_buffer("gain", torch.tensor(1.0))
        self.gain: Tensor

    def forward(self, whitened: Tensor) -> Tensor:
        """phi_g (N, h, w) from whitened features (N, C, h, w)."""
        return self.layers(whitened)[:, 0]


class Head(nn.Module):
    """The anomaly map of the closed form, joined by the learned output where there is one.

    A = sqrt(|phi|^2 + (gain * phi_g)^2 + 1) - 1, so that the learned output can add evidence and never take any away.
    """

    def __init__(self, gaussian: GaussianHead, learned: LearnedHead | None = None) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.learned = learned

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly map A >= 0 (N, h, w) of features (N, C, h, w)."""
        if self.learned is None:
            return pseudo_huber(self.gaussian(features).sqrt())
        phi = self.gaussian.whiten(features)
        learned = self.learned.gain * self.learned(phi)
        return pseudo_huber(((phi * phi).sum(1) + learned * learned).sqrt())


def to_blocks(features: Tensor) -> Tensor:
    """Gathers the vectors of each block: (N, C, h, w) to (h/2 * w/2, N * 4, C)."""
    n, channels, rows, columns = features.shape
    split = features.reshape(n, channels, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    gathered = split.permute(2, 4, 0, 3, 5, 1)  # (h/2, w/2, N, 2, 2, C)
    return gathered.reshape(rows * columns // BLOCK**2, n * BLOCK**2, channels)


def from_blocks(blocks: Tensor, *, n: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `to_blocks`: (h/2 * w/2, N * 4, C) to (N, C, h, w)."""
    rows, columns = grid
    channels = blocks.shape[-1]
    split = blocks.reshape(rows // BLOCK, columns // BLOCK, n, BLOCK, BLOCK, channels)
    return split.permute(2, 5, 0, 3, 1, 4).reshape(n, channels, rows, columns)
