"""Choosing the directions of the feature space that the closed form looks along.

A backbone gives some five hundred numbers a cell, most of which say little about defects, and a covariance of all of
them at every place would be a large file and slow to multiply by. A fifth of the directions, well chosen, sees as
much. Half of them are those in which small synthetic defects stand out most from the usual variation of good images
(Fisher's linear discriminant), among the finer depths. The other half are the leading principal components of the
coarser depths, where texture and large defects show.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.closed_form import RIDGE
from blemish.ranks import ALONE, Ranks
from blemish.refinement import BATCH, coverage
from blemish.training_anomalies import SyntheticKind, paint

DISCRIMINANT, PRINCIPAL = 48, 48  # directions of each kind
# Deviation of the discriminant directions, about that of the features themselves: the ridge is to weigh as little.
DEVIATION = 3.0
PAIRS = 128  # images with and without a synthetic defect
COVERED = 0.2  # of a cell: from here on a synthetic defect counts as lying in it


class PooledStatistics:
    """The covariance of feature vectors about the mean of their place, all places together.

    Args:
        ranks: the processes that gather them together, each from images of its own.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._cells = 0
        self._images = 0
        self._origin = torch.zeros(0)  # (C, 1, 1), near the mean, so that float32 keeps its digits
        self._sums = torch.zeros(0)  # (C, h, w)
        self._products = torch.zeros(0)  # (C, C)

    def update(self, features: Tensor) -> None:
        """Adds nominal features (N, C, h, w)."""
        if self._images == 0:
            self._origin = self._ranks.same(features[0].mean((1, 2))[:, None, None])
            self._sums = torch.zeros_like(features[0])
            self._products = features.new_zeros(features.shape[1], features.shape[1])
        centred = features - self._origin
        vectors = centred.transpose(0, 1).flatten(1)  # (C, N * h * w)
        self._products += vectors @ vectors.T
        self._sums += centred.sum(0)
        self._images += len(features)
        self._cells += vectors.shape[1]

    def add_up(self) -> None:
        """Makes them those of all ranks' images."""
        counts = torch.tensor([self._cells, self._images])
        self._ranks.sum(counts, self._sums, self._products)
        self._cells, self._images = counts.tolist()

    def covariance(self) -> Tensor:
        """(C, C)."""
        means = (self._sums / self._images).flatten(1)  # (C, h * w)
        if self._images == 1:  # a place does not vary then: places have to stand for it
            means = means.mean(1, keepdim=True)
        return self._products / self._cells - means @ means.T / means.shape[1]


def learn_projection(
    nominal: Iterable[Tensor],
    changes: Iterable[Tensor],
    *,
    fine: Sequence[bool],
    coarse: Sequence[bool],
    ranks: Ranks = ALONE,
) -> Tensor:
    """Directions along which to look at feature vectors of C channels.

    Args:
        nominal: batches of nominal features (N, C, h, w), of this rank's share of the images.
        changes: what synthetic defects do to the feature vectors of the cells that they cover, (M, C) a batch;
            without any, all directions are principal components of all channels.
        fine: of which channels discriminant directions are made.
        coarse: of which channels principal components are taken.
        ranks: the processes that learn it together.

    Returns:
        (K, C), where K is `DISCRIMINANT` + `PRINCIPAL`, or less where there are not as many channels.
    """
    statistics = PooledStatistics(ranks)
    for features in nominal:
        statistics.update(features)
    statistics.add_up()
    covariance = statistics.covariance()
    moments = sum((change.T @ change for change in changes), start=torch.zeros_like(covariance))
    if not moments.any():
        return _principal(covariance, torch.ones(len(fine), dtype=torch.bool), DISCRIMINANT + PRINCIPAL)
    return torch.cat(
        [
            _discriminant(covariance, moments, torch.tensor(fine), DISCRIMINANT),
            _principal(covariance, torch.tensor(coarse), PRINCIPAL),
        ]
    )


def synthetic_changes(
    images: npt.NDArray[np.uint8],
    nominal: Sequence[int],
    *,
    kind: SyntheticKind,
    extract: Callable[[npt.NDArray[np.uint8]], Tensor],
    seed: int,
) -> Iterator[Tensor]:
    """What synthetic defects do to the features (n, C, h, w) that `extract` makes of images (n, H, W, 3).

    Yields:
        (M, C), features of covered cells with the defect less without it, a batch of images at a time.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, PAIRS, BATCH):
        chosen = [nominal[number % len(nominal)] for number in range(start, start + BATCH)]
        made = [paint(images, index, kind, rng, nominal=nominal) for index in chosen]
        before, after = extract(images[chosen]), extract(np.stack([one.image for one in made]))
        masks = torch.stack([coverage(one.mask, before.shape[-2:]) for one in made])
        yield (after - before).movedim(1, -1)[(masks > COVERED).to(before.device)]


def _discriminant(covariance: Tensor, moments: Tensor, channels: Tensor, most: int) -> Tensor:
    """Where changes are largest, measured in deviations of nominal vectors; (K, C), zero outside the channels."""
    nominal, changed = (matrix[channels][:, channels].double() for matrix in (covariance, moments))
    identity = torch.eye(len(nominal), dtype=torch.float64, device=nominal.device)
    factor = torch.linalg.cholesky(nominal + RIDGE * identity)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
    _, directions = torch.linalg.eigh(whitening @ changed @ whitening.T)  # ascending
    return _spread(DEVIATION * directions[:, -most:].T @ whitening, channels)


def _principal(covariance: Tensor, channels: Tensor, most: int) -> Tensor:
    """Where nominal vectors vary most; (K, C), zero outside the channels."""
    _, directions = torch.linalg.eigh(covariance[channels][:, channels].double())
    return _spread(directions[:, -most:].T, channels)


def _spread(directions: Tensor, channels: Tensor) -> Tensor:
    """(K, chosen channels) to (K, C), float32."""
    full = torch.zeros(len(directions), len(channels), device=directions.device)
    full[:, channels] = directions.float()
    return full
