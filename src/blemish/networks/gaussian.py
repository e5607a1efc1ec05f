"""The closed form: a Gaussian a place, fitted without a gradient step.

A Mahalanobis distance is FCDD with a fixed linear layer. Whitening makes a vector output phi of covariance one, and the
pseudo-Huber loss of its norm, sqrt(|phi|^2 + 1) - 1, is the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 2  # cells along the side of a block that shares one covariance
FEW_NUMBERS = 4096  # that a block's directions consist of: they are copied in no time
OWN = 48  # directions in which a block has a variance of its own


@dataclass(frozen=True)
class View:
    """Features that are compared by themselves, along how many directions, and how closely.

    Attributes:
        channels: length of their vectors.
        directions: those along which nominal images vary most count; fewer than channels leave the others out.
        own: the most of them along which a block of cells has a variance of its own, see `Variances`.
    """

    channels: int
    directions: int
    own: int = OWN

    @classmethod
    def whole(cls, channels: int, *, own: int = OWN) -> "View":
        """Along all directions."""
        return cls(channels, channels, own)


class Variances(nn.Module):
    """What each block of 2 x 2 cells has of its own, in coordinates that are whitened alike everywhere.

    A block has a variance of its own along a few directions u_k, those in which it differs most from the other
    blocks, and one more for all the rest: |phi|^2 = |v|^2 / rest + sum_k (1 / variance_k - 1 / rest) (u_k . v)^2. That
    is a full covariance a block for a quarter of its numbers.

    Blocks of the background have one set of numbers together, which is the last one.

    Args:
        channels: length C of the vectors v.
        own: number K of directions, at most C.
        background: bool (blocks,), those that show no part.
    """

    directions: Tensor  # (sets, C, K), columns of length one
    gains: Tensor  # (sets, K), 1 / variance - 1 / rest
    rest: Tensor  # (sets,), 1 / rest
    own: Tensor  # blocks with a set each
    alike: Tensor  # blocks with the last set together
    order: Tensor  # where each block is among both of these

    def __init__(self, *, channels: int, own: int, background: Tensor) -> None:
        super().__init__()
        apart, alike = (~background).nonzero()[:, 0], background.nonzero()[:, 0]
        sets, directions = len(apart) + bool(len(alike)), min(own, channels)
        self.register_buffer("directions", torch.zeros(sets, channels, directions))
        self.register_buffer("gains", torch.zeros(sets, directions))
        self.register_buffer("rest", torch.ones(sets))
        self.register_buffer("own", apart)
        self.register_buffer("alike", alike)
        self.register_buffer("order", torch.cat([apart, alike]).argsort())

    def forward(self, vectors: Tensor) -> Tensor:
        """|phi|^2 (blocks, n) of each block's vectors v (blocks, n, C)."""
        if not len(self.alike):
            return self._squares(vectors, slice(None))
        own = self._squares(vectors[self.own], slice(len(self.own)))
        background = vectors[self.alike].reshape(1, -1, vectors.shape[2])
        alike = self._squares(background, slice(len(self.own), None)).reshape(len(self.alike), -1)
        return torch.cat([own, alike])[self.order]

    def _squares(self, vectors: Tensor, sets: slice) -> Tensor:
        """|phi|^2 (b, n) of vectors (b, n, C), by as many sets."""
        along = _along(vectors, self.directions[sets])  # (b, n, K)
        squares = (along.square() @ self.gains[sets, :, None]).squeeze(-1)  # (b, n)
        squares = squares + vectors.square().sum(-1) * self.rest[sets, None]
        return squares.clamp(min=0)


class ViewVariances(nn.ModuleList):
    """Those of every view: |phi|^2 is the mean over the views, each of which counts as if it had all directions.

    Of many directions the noise of most drowns a deviation along a few; by itself, a view of few shows it.

    Args:
        views: in the order of their elements in v.
        background: see `Variances`.
    """

    def __init__(self, views: Sequence[View], *, background: Tensor) -> None:
        super().__init__(Variances(channels=view.directions, own=view.own, background=background) for view in views)
        self.directions = [view.directions for view in views]

    def forward(self, vectors: Tensor) -> Tensor:
        """|phi| (blocks, n) of each block's vectors v (blocks, n, C), all views side by side."""
        # A graph that splits something into one part is one that readers of graphs stumble over.
        parts = vectors.split(self.directions, dim=2) if len(self) > 1 else (vectors,)
        all_as_one = sum(self.directions) / len(parts)
        squares = [
            variances(part) * (all_as_one / directions)
            for variances, part, directions in zip(self, parts, self.directions, strict=True)
        ]
        return reduce(torch.add, squares).sqrt()


class GaussianHead(nn.Module):
    """One Gaussian a place, as what all places have in common and what each has of its own.

    Every cell has its own mean. One whitening for all places turns deviations from it into v, and `Variances` say how
    far v may reach in each block of cells. Several views of an image are taken to be independent of each other.

    Distances are divided by `scale`, how far nominal images that were not fitted to reach at each place relative to
    the others: where good parts vary, it takes more to stand out.

    Args:
        views: what the feature vectors consist of; C channels, K directions in all.
        grid: (h, w) cells, both even.
        part: bool (h, w), the cells that show the part, where all images show it in the same place; the others are
            background.
    """

    mean: Tensor  # (C, h, w)
    whitening: Tensor  # (K, C), a block a view
    scale: Tensor  # (h, w), mean 1
    part: Tensor  # (h, w)

    def __init__(self, views: Sequence[View], *, grid: tuple[int, int], part: Tensor | None = None) -> None:
        super().__init__()
        rows, columns = grid
        if rows % BLOCK or columns % BLOCK:
            raise ValueError(f"the grid must be even on both sides, not {rows} x {columns}")
        self.views = tuple(views)
        self.channels, self.directions = (
            sum(sides) for sides in zip(*((view.channels, view.directions) for view in views), strict=True)
        )
        self.register_buffer("mean", torch.zeros(self.channels, rows, columns))
        self.register_buffer("whitening", torch.eye(self.directions, self.channels))
        self.register_buffer("scale", torch.ones(rows, columns))
        self.register_buffer("part", torch.ones(rows, columns, dtype=torch.bool) if part is None else part)
        self.variances = ViewVariances(views, background=_background(self.part))

    def whiten(self, features: Tensor) -> Tensor:
        """v: features (N, C, h, w) to deviations from their place's mean (N, K, h, w), whitened alike everywhere."""
        whitening = self.whitening[:, :, None, None]
        # The mean is whitened by itself, once and for all, and taken off whole vectors, the order that blocks want: a
        # graph then need not bring the features to another one for it.
        vectors, mean = (F.conv2d(of, whitening).permute(0, 2, 3, 1) for of in (features, self.mean[None]))
        return (vectors - mean).permute(0, 3, 1, 2)

    def distance(self, whitened: Tensor) -> Tensor:
        """Mahalanobis distances |phi| (N, h, w), over the scale, of `whiten`'s v (N, K, h, w)."""
        return to_cells(self.variances(to_blocks(whitened)), self.scale.shape) / self.scale

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances |phi| (N, h, w), over the scale, of features (N, C, h, w)."""
        return self.distance(self.whiten(features))


class SecondOpinion(nn.Module):
    """Another closed form, in the coordinates of the first, that knows further good images.

    Of the two distances the smaller one counts. So whatever it has learned from can only make the map smaller, and the
    images that calibrate the first may be among it: what is proven of the first one's false alarms holds for both.

    Args:
        first: the first one, fitted or not.
    """

    shift: Tensor  # (blocks, 1, 4, K), from the first one's mean to its own, whitened

    def __init__(self, first: GaussianHead) -> None:
        super().__init__()
        rows, columns = first.scale.shape
        self.register_buffer("shift", torch.zeros(rows * columns // BLOCK**2, 1, BLOCK**2, first.directions))
        self.variances = ViewVariances(first.views, background=_background(first.part))

    def distance(self, whitened: Tensor, scale: Tensor) -> Tensor:
        """Mahalanobis distances (N, h, w) over the first one's scale (h, w), of its v (N, K, h, w)."""
        blocks, _, cells, directions = self.shift.shape
        vectors = to_blocks(whitened).reshape(blocks, -1, cells, directions) - self.shift
        return to_cells(self.variances(vectors.reshape(blocks, -1, directions)), scale.shape) / scale


def _background(part: Tensor) -> Tensor:
    """Which blocks show no part, bool (blocks,), of the cells that do (h, w)."""
    return ~(to_blocks(part[None, None].float()) > 0).any(1)[:, 0]


def _along(vectors: Tensor, directions: Tensor) -> Tensor:
    """Products (b, n, K) of vectors (b, n, C) with directions (b, C, K)."""
    if torch.onnx.is_in_onnx_export() and len(directions) > 1 and directions[0].numel() > FEW_NUMBERS:
        # The same product, one vector at a time: ONNX Runtime then reads the directions where they lie. For several
        # it copies them to another order first, which takes longer than the four products of a single image.
        return (vectors[:, :, None] @ directions[:, None]).squeeze(2)
    return vectors @ directions


def to_blocks(features: Tensor) -> Tensor:
    """Gathers the vectors of each block: (N, C, h, w) to (h/2 * w/2, N * 4, C)."""
    # Plain numbers, which a graph need not work out anew for every image.
    channels, rows, columns = map(int, features.shape[1:])
    # First to whole vectors, then those to their blocks: at once, every number would be moved by itself.
    cells = features.permute(0, 2, 3, 1).reshape(-1, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK, channels)
    gathered = cells.permute(1, 3, 0, 2, 4, 5)  # (h/2, w/2, N, 2, 2, C)
    return gathered.reshape(rows * columns // BLOCK**2, -1, channels)


def to_cells(blocks: Tensor, grid: Sequence[int]) -> Tensor:
    """One number a cell, the inverse of `to_blocks`: (h/2 * w/2, N * 4) to (N, h, w)."""
    rows, columns = map(int, grid)
    split = blocks.reshape(rows // BLOCK, columns // BLOCK, -1, BLOCK, BLOCK)
    return split.permute(2, 0, 3, 1, 4).reshape(-1, rows, columns)
