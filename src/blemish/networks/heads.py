"""Heads that turn a grid of features into the anomaly map.

The closed form: a Mahalanobis distance is FCDD with a fixed linear layer. Whitening makes the vector output
phi = L^-1 (x - mu), and the pseudo-Huber loss of its norm, sqrt(|phi|^2 + 1) - 1, is the map. So the head needs no
gradient step. Small learned networks can stand beside it: one weighs phi, another is one more element of it.
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
        return self.from_blocks(self.whiten_blocks(features)) / self.scale

    def forward(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distances |phi|^2 (N, h, w) of features (N, C, h, w)."""
        phi = self.whiten_blocks(features)
        squares = self.from_blocks((phi * phi).sum(-1, keepdim=True))
        return squares[:, 0] / (self.scale * self.scale)

    def whiten_blocks(self, features: Tensor) -> Tensor:
        """phi times the scale, block by block: features (N, C, h, w) to (blocks, N * 4, C)."""
        return to_blocks(features - self.mean) @ self.whitening

    def from_blocks(self, blocks: Tensor) -> Tensor:
        """(blocks, N * 4, C) to (N, C, h, w)."""
        rows, columns = self.scale.shape
        return from_blocks(blocks, n=blocks.shape[1] // BLOCK**2, grid=(rows, columns))


class CellNetwork(nn.Module):
    """A small network on a grid of features, trained with the FCDD objective: a logit a cell, high where anomalous.

    Args:
        channels: length C of the feature vectors.
        hidden: channels between its layers.
        dilations: of its two 3 x 3 layers; a cell sees as far as their sum.
    """

    mean: Tensor  # (C, 1, 1) of the nominal inputs
    deviation: Tensor  # (C, 1, 1)
    centre: Tensor  # a usual logit of nominal cells
    spread: Tensor  # the unit in which logits are read

    def __init__(self, *, channels: int, hidden: int = 32, dilations: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        near, far = dilations
        self.first = nn.Conv2d(channels, hidden, 1)
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, 3, padding=near, dilation=near),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, 3, padding=far, dilation=far),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, 1, 1),
        )
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        self.register_buffer("centre", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))

    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation of the inputs from nominal features (N, C, h, w)."""
        # In float64 and channel by channel: sums over millions of float16 values need the digits, not the memory.
        for channel in range(nominal.shape[1]):
            values = nominal[:, channel].double()
            self.mean[channel] = values.mean()
            self.deviation[channel] = values.std().clamp(min=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) of features (N, C, h, w)."""
        return self.layers(self.first((features - self.mean) / self.deviation))[:, 0]

    def standing(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) above the usual, in units of the spread."""
        return (self(features) - self.centre) / self.spread

    def standing_of_blocks(self, phi: Tensor, norm: Tensor, gaussian: GaussianHead) -> Tensor:
        """`standing` of phi and its norm as the closed form leaves them, before they are brought to the grid.

        The first layer looks at every cell by itself, so it can come first, and fewer channels are left to reorder.

        Args:
            phi: (blocks, N * 4, C) of `GaussianHead.whiten_blocks`.
            norm: (blocks, N * 4, 1), the norm of each vector.
            gaussian: the closed form that they come from.
        """
        weight = self.first.weight[:, :, 0, 0] / self.deviation[:, 0, 0]  # (hidden, C + 1)
        assert self.first.bias is not None
        bias = self.first.bias - weight @ self.mean[:, 0, 0]
        blocks = phi @ weight[:, :-1].T + norm * weight[:, -1]  # (blocks, N * 4, hidden)
        hidden = gaussian.from_blocks(blocks) / gaussian.scale + bias[:, None, None]
        return (self.layers(hidden)[:, 0] - self.centre) / self.spread


class Head(nn.Module):
    """The anomaly map of the closed form, weighed by a gate and joined by learned evidence where there are any.

    A = sqrt(gate^2 |phi|^2 + evidence^2 + 1) - 1: still the pseudo-Huber loss of the norm of one output vector. The
    gate, between 0 and 1, quietens cells whose deviation looks like the ordinary variation of good images. The
    evidence is never negative, so that what was learned from some defects takes nothing away from any others.

    Args:
        gaussian: the closed form.
        gate: a network on phi and its norm (C + 1 channels), trained on synthetic anomalies.
        evidence: a network on the features themselves (C channels), trained on labelled defects.
    """

    def __init__(
        self, gaussian: GaussianHead, *, gate: CellNetwork | None = None, evidence: CellNetwork | None = None
    ) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.gate = gate
        self.evidence = evidence

    def forward(self, features: Tensor) -> Tensor:
        """Anomaly map A >= 0 (N, h, w) of features (N, C, h, w)."""
        return pseudo_huber(self.squares(features).sqrt())

    def squares(self, features: Tensor) -> Tensor:
        """|phi|^2 with gate and evidence, (N, h, w), of features (N, C, h, w)."""
        if self.gate is None:
            squares = self.gaussian(features)
        else:
            phi = self.gaussian.whiten_blocks(features)
            norm = phi.square().sum(-1, keepdim=True).sqrt()
            distance = self.gaussian.from_blocks(norm)[:, 0] / self.gaussian.scale
            squares = (distance * torch.sigmoid(self.gate.standing_of_blocks(phi, norm, self.gaussian))).square()
        if self.evidence is not None:
            squares = squares + self.evidence.standing(features).clamp(min=0).square()
        return squares


def with_norm(phi: Tensor) -> Tensor:
    """Appends the norm as one more channel: (N, C, h, w) to (N, C + 1, h, w)."""
    return torch.cat([phi, phi.square().sum(1, keepdim=True).sqrt()], dim=1)


def to_blocks(features: Tensor) -> Tensor:
    """Gathers the vectors of each block: (N, C, h, w) to (h/2 * w/2, N * 4, C)."""
    n, channels, rows, columns = features.shape
    # First to whole vectors, then those to their blocks: at once, every number would be moved by itself.
    cells = features.permute(0, 2, 3, 1).reshape(n, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK, channels)
    gathered = cells.permute(1, 3, 0, 2, 4, 5)  # (h/2, w/2, N, 2, 2, C)
    return gathered.reshape(rows * columns // BLOCK**2, n * BLOCK**2, channels)


def from_blocks(blocks: Tensor, *, n: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `to_blocks`: (h/2 * w/2, N * 4, C) to (N, C, h, w)."""
    rows, columns = grid
    channels = blocks.shape[-1]
    split = blocks.reshape(rows // BLOCK, columns // BLOCK, n, BLOCK, BLOCK, channels)
    cells = split.permute(2, 0, 3, 1, 4, 5).reshape(n, rows, columns, channels)
    return cells.permute(0, 3, 1, 2)
