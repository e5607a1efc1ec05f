"""The peers: a Gaussian a position (PaDiM), and nearest neighbours in a coreset of all patches (PatchCore)."""

from typing import Protocol

import torch
from torch import Tensor

from blemish.methods.patchcore import coreset

RIDGE = 0.1  # added variance, in squared feature units
CHUNK = 256  # cells compared with the bank at once: 42 MB of distances for 41,000 vectors


class Peer(Protocol):
    """Learns from nominal features and scores others, cell by cell."""

    def fit(self, features: Tensor) -> None:
        """Learns from nominal features (N, C, h, w)."""

    def score(self, features: Tensor) -> Tensor:
        """Distances (N, h, w) of features (N, C, h, w)."""
        ...

    @property
    def stored(self) -> int:
        """Bytes that scoring needs."""
        ...


class PositionGaussians:
    """Mahalanobis distance to a Gaussian of each cell's own, mean and full covariance: PaDiM (Defard et al. 2021).

    All channels count, where PaDiM draws some of them by chance: nothing is left to a seed.

    Args:
        ridge: added variance, in squared feature units.
    """

    mean: Tensor  # (h * w, 1, C)
    whitening: Tensor  # (h * w, C, C), W with W W^T the inverse of the covariance

    def __init__(self, *, ridge: float = RIDGE) -> None:
        self.ridge = ridge

    def fit(self, features: Tensor) -> None:
        """Takes mean and covariance of nominal features (N, C, h, w) over the N images."""
        _, channels, rows, columns = features.shape
        self.mean = torch.empty(rows * columns, 1, channels)
        self.whitening = torch.empty(rows * columns, channels, channels)
        for cell in range(rows * columns):  # one at a time: all at once would copy the features
            vectors = features[:, :, cell // columns, cell % columns]
            self.mean[cell] = vectors.mean(0)
            self.whitening[cell] = whitening(vectors - self.mean[cell], ridge=self.ridge)

    def score(self, features: Tensor) -> Tensor:
        """Mahalanobis distances (N, h, w) of features (N, C, h, w)."""
        images, _, rows, columns = features.shape
        vectors = features.permute(2, 3, 0, 1).flatten(0, 1)  # (h * w, N, C)
        distances = torch.linalg.vector_norm((vectors - self.mean) @ self.whitening, dim=-1)  # (h * w, N)
        return distances.mT.reshape(images, rows, columns)

    @property
    def stored(self) -> int:
        """Bytes that scoring needs."""
        return self.mean.nbytes + self.whitening.nbytes


class MemoryBank:
    """Euclidean distance to the nearest of a greedy coreset of all nominal vectors, exactly: PatchCore.

    Neither is the image's score weighted by the neighbours' neighbours, as PatchCore does: it is the map's maximum.

    Args:
        share: of all vectors, wherever they lie, that the bank keeps.
        seed: of the coreset.
        whitened: distances after all vectors are whitened by their one covariance.
    """

    bank: Tensor  # (K, C)
    centre: Tensor  # (C,)
    whitening: Tensor | None = None  # (C, C)

    def __init__(self, *, share: float, seed: int, whitened: bool = False) -> None:
        self.share = share
        self.seed = seed
        self.whitened = whitened

    def fit(self, features: Tensor) -> None:
        """Takes the coreset of nominal features (N, C, h, w)."""
        vectors = _rows(features)
        self.centre = vectors.mean(0)
        vectors -= self.centre  # squares of small numbers lose fewer digits
        if self.whitened:
            self.whitening = whitening(vectors, ridge=RIDGE)
            vectors = vectors @ self.whitening
        taken = coreset(vectors.numpy(), max(1, round(self.share * len(vectors))), seed=self.seed)
        self.bank = vectors[torch.from_numpy(taken)]

    def score(self, features: Tensor) -> Tensor:
        """Distances (N, h, w) to the nearest vector of the bank, of features (N, C, h, w)."""
        images, _, rows, columns = features.shape
        vectors = _rows(features) - self.centre
        if self.whitening is not None:
            vectors = vectors @ self.whitening
        squares = self.bank.square().sum(1)
        nearest = [torch.addmm(squares, some, self.bank.T, alpha=-2).amin(1) for some in vectors.split(CHUNK)]
        distances = (torch.cat(nearest) + vectors.square().sum(1)).clamp(min=0).sqrt()
        return distances.view(images, rows, columns)

    @property
    def stored(self) -> int:
        """Bytes that scoring needs."""
        return self.bank.nbytes + self.centre.nbytes + (0 if self.whitening is None else self.whitening.nbytes)


def whitening(centred: Tensor, *, ridge: float) -> Tensor:
    """W (C, C) with W W^T the inverse of the covariance of centred vectors (N, C) plus a ridge."""
    identity = torch.eye(centred.shape[1])
    factor = torch.linalg.cholesky(centred.T @ centred / len(centred) + ridge * identity)
    return torch.linalg.solve_triangular(factor, identity, upper=False).T.contiguous()


def _rows(features: Tensor) -> Tensor:
    """Features (N, C, h, w) as vectors (N * h * w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2).clone()
