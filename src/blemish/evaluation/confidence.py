"""95 % confidence intervals: how far the figures of an evaluation would move with other test images.

Areas under curves are bootstrapped over images: a thousand times, as many good and as many anomalous images as there
are, each kind drawn by itself, with replacement; the interval reaches from the 2.5th to the 97.5th percentile. An image
counts with all its pixels, which are anything but independent. Curves over pixels come from counts of each image's
pixels in bins. Rates are shares of independent images, for which there is an exact interval (Clopper and Pearson):
a bootstrap of no false alarm in forty images would never see one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import binomtest

from blemish.evaluation.figures import Interval, all_figures
from blemish.evaluation.metrics import FPR_LIMIT, area_under
from blemish.evaluation.results import EvaluatedImage, ScoredSplit
from blemish.imaging.regions import EIGHT_CONNECTED

DRAWS = 1000
LEVEL = 0.95
BINS = 1000  # of the values of good images, and as many of those of anomalous ones

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap samples of a test split, which intervals are computed from.

    Attributes:
        split: the N images.
        weights: how often each image is in each sample, (draws, N).
        bins: of pixel values.
    """

    split: ScoredSplit
    weights: Floats
    bins: int = BINS

    @cached_property
    def pixel_curves(self) -> tuple[Floats, Floats, Floats] | None:
        """Of each sample, (draws, bins + 1) each: nominal and anomalous pixels and region overlap above each edge.

        None without both nominal and anomalous pixels.
        """
        edges = _edges(self.split.images, self.bins)
        nominal, anomalous, overlap = (np.zeros((len(self.split.images), len(edges) + 1)) for _ in range(3))
        for index, (image, mask) in enumerate(self.split.with_masks()):
            if mask is None:
                continue
            ignored = image.scored.full_ignored()
            counted = np.ones_like(mask) if ignored is None else ~ignored
            slots = np.searchsorted(edges, image.scored.full_map(), side="right")
            nominal[index] = np.bincount(slots[counted & ~mask], minlength=len(edges) + 1)
            labels, _ = ndimage.label(mask & counted, structure=EIGHT_CONNECTED)
            inside = labels > 0
            sizes = np.bincount(labels[inside])
            anomalous[index] = np.bincount(slots[inside], minlength=len(edges) + 1)
            overlap[index] = np.bincount(slots[inside], 1 / sizes[labels[inside]], minlength=len(edges) + 1)
        if not (nominal.any() and anomalous.any()):
            return None
        of_nominal, of_anomalous, of_regions = (
            _descending_sums(self.weights @ counts) for counts in (nominal, anomalous, overlap)
        )
        return of_nominal, of_anomalous, of_regions


def intervals(
    images: Sequence[EvaluatedImage], *, draws: int = DRAWS, bins: int = BINS, seed: int = 0
) -> dict[str, Interval | None]:
    """95 % confidence intervals by the names of the figures that have one; None where there is no such figure.

    Args:
        images: of an evaluation.
        draws: bootstrap samples.
        bins: of pixel values.
        seed: decides the draws.

    Returns:
        The lower and the upper end of each interval.

    Example:
        >>> intervals(evaluation.images)["image_auroc"]  # doctest: +SKIP
        (0.954, 0.998)
    """
    split = ScoredSplit(images)
    resamples = Resamples(split, bootstrap_weights(split.anomalous, draws, np.random.default_rng(seed)), bins)
    return {figure.name: figure.interval(resamples) for figure in all_figures() if figure.interval is not None}


def image_auroc(resamples: Resamples) -> Interval | None:
    """Interval of the image AUROC."""
    split = resamples.split
    if not split.has_both_kinds:
        return None
    return percentile_interval(resampled_image_auroc(split.anomalous, split.scores, resamples.weights))


def resampled_image_auroc(anomalous: npt.NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """The image AUROC of each bootstrap sample, (draws,).

    Args:
        anomalous: bool (N,).
        scores: (N,).
        weights: how often each image is in each sample, (draws, N); both kinds of images are in each.
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)  # of each distinct score
    ranked, ordered = weights[:, order], anomalous[order]
    curves = [
        _descending_sums(np.add.reduceat(np.where(kind, ranked, 0), starts, axis=1)) for kind in (~ordered, ordered)
    ]
    return _areas(curves[0], curves[1], 1.0)


def pixel_auroc(resamples: Resamples) -> Interval | None:
    """Interval of the pixel AUROC, from counts in bins."""
    curves = resamples.pixel_curves
    return None if curves is None else percentile_interval(_areas(curves[0], curves[1], 1.0))


def aupro(resamples: Resamples) -> Interval | None:
    """Interval of the AUPRO, from counts in bins."""
    curves = resamples.pixel_curves
    return None if curves is None else percentile_interval(_areas(curves[0], curves[2], FPR_LIMIT))


def detection_rate(resamples: Resamples) -> Interval | None:
    """Interval of the share of anomalous images that are alarms."""
    return exact_interval(resamples.split.alarms[resamples.split.anomalous])


def false_alarm_rate(resamples: Resamples) -> Interval | None:
    """Interval of the share of nominal images that are alarms."""
    return exact_interval(resamples.split.alarms[~resamples.split.anomalous])


def bootstrap_weights(anomalous: npt.NDArray[np.bool_], draws: int, rng: np.random.Generator) -> Floats:
    """How often each of N images is in each bootstrap sample, (draws, N): as many of each kind as there are."""
    weights = np.zeros((draws, len(anomalous)))
    for kind in (anomalous, ~anomalous):
        if number := int(kind.sum()):
            weights[:, kind] = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return weights


def percentile_interval(values: Floats) -> Interval | None:
    """From the 2.5th to the 97.5th percentile of a figure's values in bootstrap samples; None without values."""
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exact_interval(happened: npt.NDArray[np.bool_]) -> Interval | None:
    """Clopper and Pearson's interval of the probability of what happened to some of N images; None without images."""
    if len(happened) == 0:
        return None
    interval = binomtest(int(happened.sum()), len(happened)).proportion_ci(LEVEL, method="exact")
    return float(interval.low), float(interval.high)


def _edges(images: Sequence[EvaluatedImage], bins: int) -> npt.NDArray[np.float32]:
    """Edges between bins: as many among the values of good images as among those of anomalous ones."""
    maps = {
        kind: [image.scored.anomaly_map for image in images if image.sample.anomalous == kind] for kind in (False, True)
    }
    values = [np.concatenate([values.ravel()[::7] for values in group]) for group in maps.values() if group]
    # The tail, where the curves of a good detector rise, gets as many bins as all the rest.
    shares = np.union1d(np.linspace(0, 1, bins // 2), 1 - np.geomspace(1e-6, 1, bins // 2))
    return np.unique(np.concatenate([np.quantile(group, shares) for group in values]).astype(np.float32))


def _descending_sums(counts: Floats) -> Floats:
    """Counts (draws, K) of ascending values as counts at or above each, from none to all, (draws, K + 1)."""
    return np.concatenate([np.zeros((len(counts), 1)), counts[:, ::-1].cumsum(1)], axis=1)


def _areas(false_positives: Floats, true_positives: Floats, limit: float) -> Floats:
    """Mean height of each sample's curve between the false-positive rates 0 and `limit`.

    Samples without nominal or without anomalous pixels are left out.
    """
    whole = (false_positives[:, -1] > 0) & (true_positives[:, -1] > 0)
    curves = zip(false_positives[whole], true_positives[whole], strict=True)
    return np.array([area_under(x, y, end=limit * x[-1], height=y[-1]) for x, y in curves])
