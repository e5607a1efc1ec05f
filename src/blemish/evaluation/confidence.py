"""How far the figures of an evaluation would move with other test images: 95 % confidence intervals.

Areas under curves are bootstrapped over images: a thousand times, as many good and as many anomalous images as there
are, each kind drawn by itself, with replacement; the interval reaches from the 2.5th to the 97.5th percentile. An image
counts with all its pixels, which are anything but independent. Curves over pixels come from counts of each image's
pixels in bins. Rates are shares of independent images, for which there is an exact interval (Clopper and Pearson):
a bootstrap of no false alarm in forty images would never see one.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import binomtest

from blemish.evaluation.run import EvaluatedImage
from blemish.imaging.errors import ImageError
from blemish.imaging.masks import read_mask
from blemish.imaging.regions import EIGHT_CONNECTED

Interval = tuple[float, float]
DRAWS = 1000
LEVEL = 0.95
BINS = 1000  # of the values of good images, and as many of those of anomalous ones
FPR_LIMIT = 0.3  # of AUPRO


def intervals(
    images: Sequence[EvaluatedImage], *, draws: int = DRAWS, bins: int = BINS, seed: int = 0
) -> dict[str, Interval | None]:
    """Intervals by the names of the figures; None where there is no such figure.

    Args:
        images: of an evaluation.
        draws: bootstrap samples.
        bins: of pixel values.
        seed: decides the draws.
    """
    anomalous = np.array([one.sample.anomalous for one in images])
    alarms = np.array([one.scored.verdict == "anomalous" for one in images])
    weights = _draw(anomalous, draws, np.random.default_rng(seed))
    scores = np.array([one.scored.score for one in images])
    return {
        "image_auroc": _percentiles(_image_auroc(anomalous, scores, weights)),
        **_pixel_intervals(images, weights, bins),
        "detection_rate": _exact(alarms[anomalous]),
        "false_alarm_rate": _exact(alarms[~anomalous]),
    }


def _draw(anomalous: npt.NDArray[np.bool_], draws: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """How often each of N images is in each sample, (draws, N)."""
    weights = np.zeros((draws, len(anomalous)))
    for kind in (anomalous, ~anomalous):
        if number := int(kind.sum()):
            weights[:, kind] = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return weights


def _image_auroc(
    anomalous: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """AUROC in each sample, (draws,); none where a kind is missing."""
    if anomalous.all() or not anomalous.any():
        return np.empty(0)
    bad, good = scores[anomalous][:, None], scores[~anomalous][None]
    wins = (bad > good) + 0.5 * (bad == good)  # (anomalous, nominal)
    won = ((weights[:, anomalous] @ wins) * weights[:, ~anomalous]).sum(1)
    return np.asarray(won / wins.size)


def _pixel_intervals(
    images: Sequence[EvaluatedImage], weights: npt.NDArray[np.float64], bins: int
) -> dict[str, Interval | None]:
    edges = _edges(images, bins)
    nominal, anomalous, overlap = (np.zeros((len(images), len(edges) + 1)) for _ in range(3))
    for number, one in enumerate(images):
        mask = _mask(one)
        if mask is None:
            continue
        ignored = one.scored.full_ignored()
        counted = np.ones_like(mask) if ignored is None else ~ignored
        slots = np.searchsorted(edges, one.scored.full_map(), side="right")
        nominal[number] = np.bincount(slots[counted & ~mask], minlength=len(edges) + 1)
        labels, _ = ndimage.label(mask & counted, structure=EIGHT_CONNECTED)
        inside = labels > 0
        sizes = np.bincount(labels[inside])
        anomalous[number] = np.bincount(slots[inside], minlength=len(edges) + 1)
        overlap[number] = np.bincount(slots[inside], 1 / sizes[labels[inside]], minlength=len(edges) + 1)
    if not (nominal.any() and anomalous.any()):
        return {"pixel_auroc": None, "aupro": None}
    curves = [_falling(weights @ counts) for counts in (nominal, anomalous, overlap)]
    return {
        "pixel_auroc": _percentiles(_areas(curves[0], curves[1], 1.0)),
        "aupro": _percentiles(_areas(curves[0], curves[2], FPR_LIMIT)),
    }


def _edges(images: Sequence[EvaluatedImage], bins: int) -> npt.NDArray[np.float32]:
    """Edges between bins: as many among the values of good images as among those of anomalous ones."""
    some = {side: [one.scored.anomaly_map for one in images if one.sample.anomalous is side] for side in (False, True)}
    groups = [np.concatenate([one.ravel()[::7] for one in maps]) for maps in some.values() if maps]
    # The tail, where the curves of a good detector rise, gets as many bins as all the rest.
    shares = np.union1d(np.linspace(0, 1, bins // 2), 1 - np.geomspace(1e-6, 1, bins // 2))
    return np.unique(np.concatenate([np.quantile(values, shares) for values in groups]).astype(np.float32))


def _mask(one: EvaluatedImage) -> npt.NDArray[np.bool_] | None:
    """The mask at the image's own size; None where an anomalous image has none that can be read."""
    if not one.sample.anomalous:
        return np.zeros(one.scored.size, dtype=bool)
    try:
        return None if one.sample.mask is None else read_mask(one.sample.mask, size=one.scored.size)
    except ImageError:
        return None


def _falling(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts (draws, bins) at or above each edge, from none to all, (draws, bins + 1)."""
    return np.concatenate([np.zeros((len(counts), 1)), counts[:, ::-1].cumsum(1)], axis=1)


def _areas(
    false_positives: npt.NDArray[np.float64], true_positives: npt.NDArray[np.float64], limit: float
) -> npt.NDArray[np.float64]:
    """Mean height of each sample's curve between the false-positive rates 0 and `limit`; samples of one kind go."""
    whole = (false_positives[:, -1] > 0) & (true_positives[:, -1] > 0)
    areas = []
    for x, y in zip(false_positives[whole], true_positives[whole], strict=True):
        x, y = x / x[-1], y / y[-1]
        last = int(np.searchsorted(x, limit))
        end = np.interp(limit, x[last - 1 : last + 1], y[last - 1 : last + 1])
        x, y = np.append(x[:last], limit), np.append(y[:last], end)
        areas.append(np.diff(x) @ (y[1:] + y[:-1]) / (2 * limit))
    return np.array(areas)


def _percentiles(values: npt.NDArray[np.float64]) -> Interval | None:
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _exact(happened: npt.NDArray[np.bool_]) -> Interval | None:
    if len(happened) == 0:
        return None
    found = binomtest(int(happened.sum()), len(happened)).proportion_ci(LEVEL, method="exact")
    return float(found.low), float(found.high)
