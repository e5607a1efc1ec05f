"""Estimating a Gaussian of each position from nominal images, batch by batch: memory hardly grows with their number."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.normal_model import MIN_DISTANCE, FirstImages, Processes, out_of_fold
from blemish.training.config import GaussianConfig
from blemish.training.parallel import each_on_one_core

PIECES = 8  # of the positions, each decomposed on one core


class Moments:
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

    def all_reduce(self, processes: Processes) -> None:
        """Makes them those of all processes' vectors; the origin has to be the same for all."""
        count = torch.tensor(self.count)
        processes.all_reduce(count, self.sums, self.products)
        self.count = int(count)

    def plus(self, others: Sequence["Moments"]) -> "Moments":
        """The moments of these vectors and those of others about the same origin."""
        total = Moments(self.origin)
        for one in (self, *others):
            total.count += one.count
            total.sums += one.sums
            total.products += one.products
        return total

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """(P, C, 1) and (P, C, C)."""
        offset = self.sums / self.count
        return self.origin + offset, self.products / self.count - offset @ offset.mT


class GaussianFit:
    """Fits Gaussians to images that come in batches, and measures each of the first ones out of fold.

    Args:
        gaussians: fitted in place, on their device.
        config: ridge, folds and the number of images that are measured.
        processes: those that fit together.
    """

    def __init__(self, gaussians: PositionGaussians, config: GaussianConfig, processes: Processes) -> None:
        self._gaussians, self._config, self._processes = gaussians, config, processes
        self._folds: list[Moments] = []
        self._first = FirstImages(config.out_of_fold_images)

    def add(self, features: Tensor, position: int) -> None:
        """Adds images (n, C, h, w), of which the first is at a position among those of all processes."""
        vectors, folds = vectors_of(features), self._config.folds
        if not self._folds:
            origin = self._processes.broadcast(vectors[..., :1].clone())
            self._folds = [Moments(origin) for _ in range(folds)]
        for fold, moments in enumerate(self._folds):
            # Image i belongs to fold i mod `folds`, whatever the batches.
            moments.update(vectors[..., (fold - position) % folds :: folds])
        self._first.add(features, position)

    def finish(self) -> Tensor:
        """Fits the Gaussians and their unit; out-of-fold distances (n, h, w) of the first images, in that unit."""
        if not self._folds:
            raise ValueError("no features to fit to")
        for moments in self._folds:
            moments.all_reduce(self._processes)
        folds = [moments for moments in self._folds if moments.count]
        first, gaussians = self._first.gathered(self._processes), self._gaussians
        distances = gaussians.mean.new_zeros(0, *gaussians.grid)
        gaussians.unit.fill_(1.0)

        def without(fold: int) -> Callable[[Tensor], Tensor]:
            start, *others = folds[:fold] + folds[fold + 1 :]
            self._fit(start.plus(others))
            return lambda features: gaussians(features.to(gaussians.mean))

        if len(folds) > 1:
            distances = out_of_fold(first, self._config.folds, without)
        start, *others = folds
        self._fit(start.plus(others))
        if len(distances):
            # The mean: where a constant background fills most of the images, their median is next to nothing.
            gaussians.unit.copy_(distances.mean().clamp(min=MIN_DISTANCE))
        return distances / gaussians.unit

    def _fit(self, moments: Moments) -> None:
        """Sets means and whitenings."""
        mean, covariance = moments.mean_and_covariance()
        covariance += self._config.ridge * torch.eye(covariance.shape[-1], device=covariance.device)
        pieces = covariance.chunk(PIECES) if covariance.device.type == "cpu" else (covariance,)
        self._gaussians.mean.copy_(mean)
        self._gaussians.whitening.copy_(torch.cat(each_on_one_core(whitening, pieces)))


def vectors_of(features: Tensor) -> Tensor:
    """(P, C, n) of features (n, C, h, w)."""
    return features.flatten(2).permute(2, 1, 0).contiguous()


def whitening(covariance: Tensor) -> Tensor:
    """W (P, C, C) with W^T W the inverse of the covariance (P, C, C)."""
    with torch.inference_mode():  # which does not reach other threads
        identity = torch.eye(covariance.shape[-1], device=covariance.device)
        factor = torch.linalg.cholesky(covariance)
        return torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
