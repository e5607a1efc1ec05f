"""Estimating the Gaussians of a head from nominal images, batch by batch: memory hardly grows with their number."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from blemish.networks.feature_pyramid import FeaturePyramid, Projection
from blemish.networks.gaussian import MIN_DISTANCE, PositionGaussians
from blemish.networks.head import Head
from blemish.training.distributed import SINGLE_PROCESS, ProcessGroup
from blemish.training.parallel import each_on_one_core

RIDGE = 0.1  # added variance, in squared feature units: small against the features' own, whose mean is near 7
FOLDS = 4
MAX_LEFT_OUT = 500  # images whose left-out distances are looked at; up to 170 KB each while fitting at 256 px
PIECES = 8  # of the positions of a level, each decomposed on one core


@torch.inference_mode()
def fit_head(
    head: Head, batches: Iterable[Sequence[Tensor]], *, processes: ProcessGroup = SINGLE_PROCESS, first: int = 0
) -> Tensor:
    """Fits all levels of a head, in place, to nominal images, and looks at images that a fit has not seen.

    The units of the levels' distances are the means over images of distances to Gaussians that were not fitted to
    them, fold by fold: image i is of fold i modulo `FOLDS`.

    Args:
        head: on its device.
        batches: this process's images in turn: the levels' features, each (n, C, h, w).
        processes: the processes that fit it together.
        first: position of this process's first image among the images of all processes.

    Returns:
        Distances d (n, h, w) of the first `MAX_LEFT_OUT` images of all processes, out of fold; empty for one image.

    Raises:
        ValueError: there is no image.
    """
    fits: list[_LevelFit] = []
    done = first
    for levels in batches:
        fits = fits or [
            _LevelFit(gaussians, features, processes)
            for gaussians, features in zip(_gaussians(head), levels, strict=True)
        ]
        for fit, features in zip(fits, levels, strict=True):
            fit.add(features, done)
        done += len(levels[0])
    if not fits:
        raise ValueError("no features to fit to")
    distances = [fit.finish() for fit in fits]
    return head.joined(distances).cpu()


@torch.inference_mode()
def fit_projections(
    features: FeaturePyramid, batches: Iterable[Sequence[Tensor]], *, processes: ProcessGroup = SINGLE_PROCESS
) -> None:
    """Takes the principal components of the backbone's maps (n, C, h, w) of nominal images, where they are projected.

    Args:
        features: whose projections are fitted, in place.
        batches: this process's images in turn.
        processes: the processes that fit together.
    """
    chosen = [(number, one) for number, one in enumerate(features.projections) if isinstance(one, Projection)]
    moments: list[_Moments] = []
    for maps in batches:
        vectors = [
            maps[number].flatten(2).permute(1, 0, 2).flatten(1)[None] for number, _ in chosen
        ]  # (1, C, n * h * w)
        moments = moments or [_Moments(processes.broadcast(some.mean(2, keepdim=True))) for some in vectors]
        for of_map, some in zip(moments, vectors, strict=True):
            of_map.update(some)
    for (_, projection), of_map in zip(chosen, moments, strict=True):
        of_map.add_up(processes)
        _, covariance = of_map.mean_and_covariance()
        projection.fit(covariance[0])


def _gaussians(head: Head) -> list[PositionGaussians]:
    return [level for level in head.levels if isinstance(level, PositionGaussians)]


class _Moments:
    """Sums from which means and covariances follow, position by position.

    Args:
        origin: (P, C, 1), about which the sums are taken, near the mean, so that float32 keeps its digits.
    """

    def __init__(self, origin: Tensor) -> None:
        positions, channels, _ = origin.shape
        self.count = 0
        self.origin = origin
        self.sums = torch.zeros_like(origin)
        self.products = origin.new_zeros(positions, channels, channels)

    def update(self, vectors: Tensor) -> None:
        """Adds vectors (P, C, n)."""
        centred = vectors - self.origin
        self.sums += centred.sum(2, keepdim=True)
        self.products.baddbmm_(centred, centred.mT)
        self.count += vectors.shape[2]

    def add_up(self, processes: ProcessGroup) -> None:
        """Makes them those of all ranks' vectors; the origin has to be the same for all."""
        count = torch.tensor(self.count)
        processes.all_reduce(count, self.sums, self.products)
        self.count = int(count)

    def plus(self, others: Sequence["_Moments"]) -> "_Moments":
        """The moments of these vectors and those of others about the same origin."""
        total = _Moments(self.origin)
        for one in (self, *others):
            total.count += one.count
            total.sums += one.sums
            total.products += one.products
        return total

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """(P, C, 1) and (P, C, C)."""
        offset = self.sums / self.count
        return self.origin + offset, self.products / self.count - offset @ offset.mT


class _LevelFit:
    """What is gathered of one level: moments in folds, and the features of the first images.

    Args:
        gaussians: fitted in place.
        features: (n, C, h, w) of the first batch.
        processes: the processes that fit together.
    """

    def __init__(self, gaussians: PositionGaussians, features: Tensor, processes: ProcessGroup) -> None:
        self._gaussians, self._processes = gaussians, processes
        origin = processes.broadcast(_vectors(features)[..., :1].clone())
        self._folds = [_Moments(origin) for _ in range(FOLDS)]
        self._kept: list[Tensor] = []

    def add(self, features: Tensor, first: int) -> None:
        """Adds images (n, C, h, w), of which the first is at a position among those of all processes."""
        vectors = _vectors(features)
        for fold, moments in enumerate(self._folds):
            # Image i belongs to fold i mod FOLDS, whatever the batches.
            moments.update(vectors[..., (fold - first) % FOLDS :: FOLDS])
        self._kept.append(features[: max(0, MAX_LEFT_OUT - first)].half().cpu())

    def finish(self) -> Tensor:
        """Fits the Gaussians and their unit; left-out distances (n, h, w) of the images kept."""
        for moments in self._folds:
            moments.add_up(self._processes)
        folds = [moments for moments in self._folds if moments.count]
        kept = self._processes.all_gather(torch.cat(self._kept))
        gaussians = self._gaussians
        distances = gaussians.mean.new_zeros(len(kept) if len(folds) > 1 else 0, *gaussians.grid)
        gaussians.unit.fill_(1.0)
        for number in range(len(folds) if len(distances) else 0):
            some, *rest = folds[:number] + folds[number + 1 :]
            _fit(gaussians, some.plus(rest))
            for out, batch in zip(distances[number::FOLDS].split(16), kept[number::FOLDS].split(16), strict=True):
                out.copy_(gaussians(batch.to(gaussians.mean)))
        some, *rest = folds
        _fit(gaussians, some.plus(rest))
        if len(distances):
            # The mean: where a constant background fills most of the images, their median is next to nothing.
            gaussians.unit.copy_(distances.mean().clamp(min=MIN_DISTANCE))
        return distances / gaussians.unit


def _vectors(features: Tensor) -> Tensor:
    """(P, C, n) of features (n, C, h, w)."""
    return features.flatten(2).permute(2, 1, 0).contiguous()


def _fit(gaussians: PositionGaussians, moments: _Moments) -> None:
    """Sets means and whitenings."""
    mean, covariance = moments.mean_and_covariance()
    gaussians.mean.copy_(mean)
    pieces = covariance.chunk(PIECES) if covariance.device.type == "cpu" else (covariance,)
    gaussians.whitening.copy_(torch.cat(each_on_one_core(_whitening, pieces)))


def _whitening(covariance: Tensor) -> Tensor:
    """W (P, C, C) with W^T W the inverse of the covariance (P, C, C) and its ridge."""
    with torch.inference_mode():  # which does not reach other threads
        identity = torch.eye(covariance.shape[-1], device=covariance.device)
        factor = torch.linalg.cholesky(covariance + RIDGE * identity)
        return torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
