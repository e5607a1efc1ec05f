"""Fitting `GaussianHead` without a gradient step, batch by batch: memory does not grow with the number of images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.networks.gaussian import BLOCK, GaussianHead, SecondOpinion, Variances, View, ViewVariances, to_blocks
from blemish.parallel import eigh
from blemish.ranks import ALONE, Ranks

RIDGE = 0.1  # added variance, in squared feature units: small against the features' own, whose mean is near 7
FOLDS = 4
MOST_HELD_OUT = 500  # images whose left-out distances set the scale; 360 KB each while fitting at 256 px
SMOOTHING = 5  # cells over which the scale is averaged
STEADY = 125  # images from which on the scale is taken as it is
LEAST_DISTANCE = 1e-6
LEAST_VARIANCE = 1e-5  # in units of all places' variance: below it rounding decides
LITTERED = 0.98  # the quantile of good images, by what lies in their background, that may not stand out
FREAK = 1.3  # a left-out image counts for no more than this many times the usual image's maximum


class GaussianStatistics:
    """Sums from which means of cells and covariances of blocks follow; statistics of one origin can be added.

    Args:
        origin: features (C, h, w) about which the sums are taken, near the mean, so that float32 keeps its digits.
    """

    def __init__(self, origin: Tensor) -> None:
        channels, rows, columns = origin.shape
        self.images = 0
        self.origin = origin
        self.sums = torch.zeros_like(origin)
        self.products = origin.new_zeros(rows * columns // BLOCK**2, channels, channels)

    def update(self, features: Tensor) -> None:
        """Adds nominal features (N, C, h, w)."""
        centred = features - self.origin
        vectors = to_blocks(centred)  # (blocks, N * 4, C)
        self.sums += centred.sum(0)
        self.products += vectors.mT @ vectors
        self.images += len(features)

    def add_up(self, ranks: Ranks) -> None:
        """Makes them those of all ranks' images; the origin has to be the same for all."""
        images = torch.tensor(self.images)
        ranks.sum(images, self.sums, self.products)
        self.images = int(images)

    def __add__(self, other: "GaussianStatistics") -> "GaussianStatistics":
        total = GaussianStatistics(self.origin)
        total.images = self.images + other.images
        total.sums = self.sums + other.sums
        total.products = self.products + other.products
        return total

    def fit(self, head: GaussianHead, *, ridge: float = RIDGE) -> None:
        """Sets all of the head but its scale, which stays."""
        mean, covariance = self._moments(ridge)
        channels = [view.channels for view in head.views]
        shared = covariance.mean(0)
        blocks = [
            _whitening(view, block) for view, block in zip(head.views, _diagonal_blocks(shared, channels), strict=True)
        ]
        head.mean.copy_(mean)
        head.whitening.copy_(torch.block_diag(*blocks))
        _set_variances(head.variances, head.whitening @ covariance @ head.whitening.T)

    def fit_second(self, second: SecondOpinion, first: GaussianHead, *, ridge: float = RIDGE) -> None:
        """Sets a second opinion, in the coordinates of the first."""
        mean, covariance = self._moments(ridge)
        second.shift.copy_((to_blocks((mean - first.mean)[None]) @ first.whitening.T)[:, None])
        _set_variances(second.variances, first.whitening @ covariance @ first.whitening.T)

    def _moments(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Means of cells (C, h, w) and covariances of blocks (blocks, C, C)."""
        offset = self.sums / self.images  # (C, h, w)
        offsets = to_blocks(offset[None])  # (blocks, 4, C)
        covariance = self.products / (self.images * BLOCK**2) - offsets.mT @ offsets / BLOCK**2
        return self.origin + offset, covariance + ridge * torch.eye(covariance.shape[-1], device=covariance.device)


def _whitening(view: View, covariance: Tensor) -> Tensor:
    """(K, C) for a covariance (C, C): the leading directions only, where there are fewer of them."""
    variances, axes = torch.linalg.eigh(covariance)
    if view.directions < view.channels:
        return (axes * variances.rsqrt())[:, -view.directions :].T
    # The symmetric root turns vectors as little as whitening can: v's elements stay close to the features'.
    return (axes * variances.rsqrt()) @ axes.T


def _diagonal_blocks(matrices: Tensor, sides: Sequence[int]) -> Iterator[Tensor]:
    """Square blocks (..., s, s) along the diagonal of matrices (..., S, S), of sides s that add up to S."""
    for end, side in zip(accumulate(sides), sides, strict=True):
        yield matrices[..., end - side : end, end - side : end]


def _set_variances(views: ViewVariances, covariance: Tensor) -> None:
    """Of all views, from covariances (blocks, K, K) in whitened coordinates."""
    for variances, block in zip(views, _diagonal_blocks(covariance, views.directions), strict=True):
        assert isinstance(variances, Variances)
        _set_view_variances(variances, block)


def _set_view_variances(variances: Variances, covariance: Tensor) -> None:
    """Of one view, from covariances (blocks, C, C) in whitened coordinates."""
    if len(variances.alike):
        covariance = torch.cat([covariance[variances.own], covariance[variances.alike].mean(0, keepdim=True)])
    values, axes = eigh(covariance)  # (blocks, C), (blocks, C, C)
    logs = values.clamp(min=LEAST_VARIANCE).log()
    order = (logs - logs.median(1, keepdim=True).values).abs().argsort(1, descending=True)
    own, others = order.split([variances.gains.shape[1], order.shape[1] - variances.gains.shape[1]], dim=1)
    # The geometric mean: large variances are many times the others, and small ones count as much.
    rest = logs.gather(1, others).mean(1).exp() if others.shape[1] else torch.ones_like(logs[:, 0])
    variances.directions.copy_(axes.gather(2, own[:, None].expand(-1, axes.shape[1], -1)))
    variances.gains.copy_((-logs.gather(1, own)).exp() - 1 / rest[:, None])
    variances.rest.copy_(1 / rest)


@torch.inference_mode()
def fit_in_one(
    head: GaussianHead,
    batches: Iterable[Tensor],
    *,
    copies: Iterable[Iterable[Tensor]] = (),
    ranks: Ranks = ALONE,
) -> None:
    """Fits a head, in place, to nominal features (N, C, h, w) with all their copies, without folds or a scale."""
    statistics: GaussianStatistics | None = None
    for some in chain([batches], copies):
        for features in some:
            if statistics is None:
                statistics = GaussianStatistics(ranks.same(features[0].clone()))
            statistics.update(features)
    if statistics is None:
        raise ValueError("no features to fit to")
    statistics.add_up(ranks)
    statistics.fit(head)


class CrossFit:
    """The statistics of nominal images in folds, and what a head fitted to all other folds makes of each.

    A fitted head knows the images it was fitted to too well. Whatever is to hold for new images, such as the scale of
    places or what a network learns from whitened features, is taken from images that their head has not seen.

    Args:
        head: the head that is fitted; it is changed in place.
        ranks: the processes that fit it together, each to images of its own.

    Attributes:
        images: how many were fitted to.
        farthest: (n,), for each of the first `MOST_HELD_OUT` images the largest distance, over the scale, to a head
            that was not fitted to it; empty where there is a single image.
    """

    def __init__(self, head: GaussianHead, *, ranks: Ranks = ALONE) -> None:
        self.head = head
        self._ranks = ranks
        self.images = 0
        self._folds: list[GaussianStatistics] = []
        self.farthest = torch.zeros(0)
        self._fits: dict[int | None, dict[str, Tensor]] = {}  # the head's tensors by the fold left out
        self._kept = torch.zeros(0)  # features in float16, on the CPU

    @torch.inference_mode()
    def fit(self, batches: Iterable[Tensor], *, copies: Iterable[Iterable[Tensor]] = (), first: int = 0) -> None:
        """Fits means, whitenings and scale to batches of nominal features (N, C, h, w).

        The scale comes from distances of images to a head that was not fitted to them, fold by fold; with a single
        image there is none, and it stays 1.

        Args:
            batches: all images of this rank in turn, in batches of any size.
            copies: altered copies of all images in the same order, any number of times; they count for means and
                whitenings, in the fold of their original, and not for the scale.
            first: position of this rank's first image among the images of all ranks.

        Raises:
            ValueError: there is no image.
        """
        kept: list[Tensor] = []
        done = first
        for features in batches:
            self._add(features, done)
            kept.append(features[: max(0, MOST_HELD_OUT - done)].half().cpu())
            done += len(features)
        if done == first:
            raise ValueError("no features to fit to")
        for copy in copies:
            done = first
            for features in copy:
                self._add(features, done)
                done += len(features)
        self._kept = self._ranks.join(torch.cat(kept))
        for statistics in self._folds:
            statistics.add_up(self._ranks)
        images = torch.tensor(done - first)
        self._ranks.sum(images)
        self.images = int(images)
        if self.images > 1:
            distances = self._left_out_distances()
            scale = self._scale(distances)
            self.head.scale.copy_(scale)
            self.farthest = (distances / scale).amax((1, 2)).cpu()
        self.fit_all()

    @torch.inference_mode()
    def leave_out(self, fold: int) -> Tensor:
        """Fits the head to all images but one fold's, 0 <= fold < FOLDS, and gives that fold's features.

        Returns:
            Features (n, C, h, w), float16, of the fold's images among the first `MOST_HELD_OUT`: image i is of fold i
            modulo FOLDS. `fit_all` takes the head back to all images.
        """
        self._fit(fold)
        return self._kept[fold::FOLDS]

    @torch.inference_mode()
    def fit_all(self) -> None:
        """Fits the head to all images again."""
        self._fit(None)

    @torch.inference_mode()
    def second_opinion(
        self, batches: Iterable[Tensor], *, copies: Iterable[Iterable[Tensor]] = (), farthest: float = math.inf
    ) -> SecondOpinion:
        """A closed form of the images fitted to and of further nominal ones.

        Args:
            batches: features (N, C, h, w) of this rank's further images.
            copies: of those, as in `fit`.
            farthest: the head's largest distance beyond which an image does not count.
        """
        further = GaussianStatistics(self._folds[0].origin)
        for some in chain([batches], copies):
            for features in some:
                further.update(features[self.head(features).amax((1, 2)) <= farthest])
        further.add_up(self._ranks)
        second = SecondOpinion(self.head).to(self.head.mean.device)
        _total([*self._folds, further]).fit_second(second, self.head)
        return second

    def _fit(self, left_out: int | None) -> None:
        """Fits the head to all folds but one; the second time it is remembered."""
        tensors = {name: value for name, value in self.head.named_buffers() if name != "scale"}
        if left_out in self._fits:
            for name, value in tensors.items():
                value.copy_(self._fits[left_out][name])
            return
        _total([fold for number, fold in enumerate(self._folds) if number != left_out]).fit(self.head)
        self._fits[left_out] = {name: value.clone() for name, value in tensors.items()}

    def _add(self, features: Tensor, first: int) -> None:
        if not self._folds:
            origin = self._ranks.same(features[0].clone())
            self._folds = [GaussianStatistics(origin) for _ in range(FOLDS)]
        for fold, statistics in enumerate(self._folds):
            # Image i belongs to fold i mod FOLDS, whatever the batches.
            statistics.update(features[(fold - first) % FOLDS :: FOLDS])

    def _left_out_distances(self) -> Tensor:
        """Of every kept image to a head that was not fitted to it: (n, h, w)."""
        distances = torch.zeros(len(self._kept), *self.head.scale.shape, device=self.head.scale.device)
        for fold in range(min(FOLDS, self.images)):
            left_out = self.leave_out(fold)
            distances[fold::FOLDS] = torch.cat([self.head(some.to(self.head.mean)) for some in left_out.split(16)])
        return distances

    def _scale(self, distances: Tensor) -> Tensor:
        """Largest of left-out distances (n, h, w) at each place, smoothed, relative to its mean over places: (h, w).

        Maps of unusual images are scaled down first: one freak image should not decide where all others may vary.
        Places in the background are taken together: what lies there lies anywhere.
        """
        part = self.head.part
        on_part = distances * part
        # Images without any variation have no distances; the scale is then the same everywhere.
        maxima = on_part.amax((1, 2), keepdim=True).clamp(min=LEAST_DISTANCE)
        largest = (on_part * (FREAK * maxima.median() / maxima).clamp(max=1)).amax(0)
        smooth = (_around(largest) / _around(part.float()).clamp(min=LEAST_DISTANCE)).clamp(min=LEAST_DISTANCE)
        # A few images tell little of how far good ones reach at a place: the scale then stays nearer to 1.
        scale = (smooth / smooth[part].mean()) ** min(1.0, self.images / STEADY)
        if part.all():
            return scale
        # What nearly no good image's background exceeds is worth no more than what the usual part shows.
        usual = (on_part / scale).amax((1, 2)).median().clamp(min=LEAST_DISTANCE)
        littered = (distances * ~part).amax((1, 2)).quantile(LITTERED)
        return torch.where(part, scale, (littered / usual).clamp(min=1))


def _around(places: Tensor) -> Tensor:
    """Sums of a map (h, w) over the cells around each, up to a factor."""
    return F.avg_pool2d(places[None], SMOOTHING, stride=1, padding=SMOOTHING // 2)[0]


def _total(statistics: list[GaussianStatistics]) -> GaussianStatistics:
    total = statistics[0]
    for other in statistics[1:]:
        total = total + other
    return total
