"""How well anomaly scores and maps separate nominal from anomalous: exact, ties included.

Higher scores mean more anomalous. Scores are ranked as they are, in any range: nothing is clamped, squashed,
rescaled or binned. Counts are int64, because float32 counts exactly only up to 2^24.
"""

import io
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import ndimage

from blemish.errors import BlemishError
from blemish.imaging.regions import EIGHT_CONNECTED

FPR_LIMIT = 0.3  # false positive rate up to which AUPRO is integrated
_MIN_CHUNK = 1 << 20


class MetricError(BlemishError):
    """Scores or labels that no metric can be computed from."""


@dataclass(frozen=True)
class F1Max:
    """The best F1, in [0, 1], and the highest threshold that reaches it with `score >= threshold`."""

    f1: float
    threshold: float


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The ROC curve's K + 1 corners, each float64 (K + 1,), from (0, 0) at threshold +inf to (1, 1)."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class PixelResult:
    """Pixel-level AUROC and AUPRO, both in [0, 1], and what they were counted over."""

    auroc: float
    aupro: float
    nominal_pixels: int
    anomalous_pixels: int
    regions: int


def auroc(anomalous: ArrayLike, scores: ArrayLike) -> float:
    """Probability that an anomalous sample outscores a nominal one, a tie counting one half.

    `anomalous` is bool (N,), `scores` float (N,). Raises MetricError for NaN, infinity or a missing class.
    """
    _, false_positives, true_positives = _corners(anomalous, scores)
    return _area_under_roc(false_positives, true_positives)


def average_precision(anomalous: ArrayLike, scores: ArrayLike) -> float:
    """Precision averaged over the recall that each threshold adds: AP = Σ (Rₖ − Rₖ₋₁) Pₖ, no interpolation.

    `anomalous` is bool (N,), `scores` float (N,). Raises MetricError for NaN, infinity or a missing class.
    """
    _, false_positives, true_positives = _corners(anomalous, scores)
    precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
    return float(np.diff(true_positives) @ precision / true_positives[-1])


def f1_max(anomalous: ArrayLike, scores: ArrayLike) -> F1Max:
    """Best F1 = 2 TP / (2 TP + FP + FN) over the decisions `score >= threshold`.

    `anomalous` is bool (N,), `scores` float (N,). Raises MetricError for NaN, infinity or a missing class.
    """
    thresholds, false_positives, true_positives = _corners(anomalous, scores)
    # TP + FN is the number of anomalous samples at every threshold.
    f1 = 2 * true_positives / (true_positives + false_positives + true_positives[-1])
    best = int(np.argmax(f1))
    return F1Max(f1=float(f1[best]), threshold=float(thresholds[best]))


def roc_curve(anomalous: ArrayLike, scores: ArrayLike) -> RocCurve:
    """True against false positive rate of the decision `score >= threshold`, one corner a distinct score.

    `anomalous` is bool (N,), `scores` float (N,). Raises MetricError for NaN, infinity or a missing class.
    """
    thresholds, false_positives, true_positives = _corners(anomalous, scores)
    return RocCurve(
        false_positive_rate=false_positives / false_positives[-1],
        true_positive_rate=true_positives / true_positives[-1],
        thresholds=thresholds,
    )


def area_under(x: NDArray[np.float64], y: NDArray[np.float64], *, end: float, height: float = 1.0) -> float:
    """Mean height of a curve between 0 and `end`, by the trapezoidal rule, in units of `height`.

    The one area of all figures: ROC, AUPRO, their intervals, deletion and insertion.

    Args:
        x: (K + 1,), ascending from 0 to at least `end`.
        y: (K + 1,), the curve's heights there; between corners it is straight.
        end: above 0. Where the curve rises straight up there, the rise is outside.
        height: what counts as 1.
    """
    last = int(np.searchsorted(x, end, "left"))  # the first corner at the end or beyond
    run, rise = x[last] - x[last - 1], y[last] - y[last - 1]
    y = np.append(y[:last], y[last - 1] + rise * (end - x[last - 1]) / run)
    x = np.append(x[:last], end)
    twice_area = np.diff(x) @ (y[1:] + y[:-1])
    return float(twice_area / (2 * end * height))


class PixelMetrics:
    """Pixel-level AUROC and AUPRO over images of any sizes, fed one at a time, exact in float32.

    AUPRO: the mean over regions (8-connected components of the masks) of the fraction found, against the
    false positive rate over all nominal pixels, integrated up to `fpr_limit` and divided by it (Bergmann et
    al. 2021, "The MVTec Anomaly Detection Dataset", IJCV). Ties are diagonal segments.

    With A anomalous and N nominal pixels: memory O(A + one image), time O((N + A) log A), and 4 N bytes in
    the temporary folder (set TMPDIR if yours is held in memory), given back by `close`, by leaving the `with`
    block or when the object goes. Where a machine has no temporary folder, such as a read-only container, these bytes
    are held in memory.
    """

    def __init__(self, *, fpr_limit: float = FPR_LIMIT) -> None:
        """Start with no images; AUPRO is integrated up to the false positive rate `fpr_limit`, in (0, 1]."""
        if not 0 < fpr_limit <= 1:
            raise MetricError(f"fpr_limit is {fpr_limit}: choose a false positive rate above 0 and up to 1.")
        self._fpr_limit = fpr_limit
        self._scores: list[NDArray[np.float32]] = []  # of the anomalous pixels, one array an image
        self._weights: list[NDArray[np.float64]] = []  # likewise: 1 / size of the pixel's region
        self._nominal_pixels = 0
        self._regions = 0
        with _spooling():
            # Unbuffered, so that a full disk shows in `update` and not in `close`.
            self._spool = _open_spool()
        self._finalizer = weakref.finalize(self, self._spool.close)

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike, *, ignored: ArrayLike | None = None) -> None:
        """Count one image: float32 (or float16) map (H, W) and bool mask (H, W), all False if nominal.

        Pixels of the bool mask `ignored` (H, W) do not count; what is left of a region is a region.

        Raises MetricError, leaving the counts as they were, for another dtype or shape, for NaN or infinity,
        and when the temporary folder is full.
        """
        scores, anomalous = _checked(anomaly_map, mask, names=("anomaly map", "mask"), widest=np.float32, ndim=2)
        counted = np.ones_like(anomalous) if ignored is None else ~np.asarray(ignored, dtype=bool)
        anomalous = anomalous & counted
        labels, regions = ndimage.label(anomalous, structure=EIGHT_CONNECTED)
        region = labels[anomalous]  # (anomalous pixels,)
        self._append_to_spool(scores[counted & ~anomalous].astype(np.float32))
        self._scores.append(scores[anomalous].astype(np.float32))
        self._weights.append(1 / np.bincount(region)[region])
        self._regions += regions

    def compute(self) -> PixelResult:
        """Metrics of all images so far; more may follow. Raises MetricError if a class has no pixels."""
        scores = np.concatenate([np.empty(0, np.float32), *self._scores])  # (A,)
        _refuse_one_class(self._nominal_pixels, scores.size, "pixel")
        thresholds, rank = np.unique(scores, return_inverse=True)  # (K,), (A,)
        # Nominal pixels between two neighbouring thresholds move the curve sideways whatever their order, so
        # counting them loses nothing.
        false_positives = _descending_sums(self._count_nominal(thresholds))
        pixels = np.bincount(rank)
        overlap = np.bincount(rank, weights=np.concatenate(self._weights))
        return PixelResult(
            auroc=_area_under_roc(false_positives, _descending_sums(_between_gaps(pixels))),
            aupro=_area_under_roc(false_positives, _descending_sums(_between_gaps(overlap)), self._fpr_limit),
            nominal_pixels=self._nominal_pixels,
            anomalous_pixels=scores.size,
            regions=self._regions,
        )

    def close(self) -> None:
        """Give the temporary file back."""
        self._finalizer()

    def __enter__(self) -> Self:
        """Nothing to open: the temporary file is there already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _append_to_spool(self, scores: NDArray[np.float32]) -> None:
        with _spooling():
            # Not "to the end": a write that failed halfway may have left bytes there.
            self._spool.seek(self._nominal_pixels * scores.itemsize)
            pending = memoryview(scores.tobytes())
            while pending:
                pending = pending[self._spool.write(pending) :]
        self._nominal_pixels += scores.size

    def _read_spool(self, count: int) -> NDArray[np.float32]:
        scores = np.empty(count, dtype=np.float32)
        pending = memoryview(scores.data).cast("B")
        while pending:
            pending = pending[self._spool.readinto(pending) :]
        return scores

    def _count_nominal(self, thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
        """Nominal pixels in the gaps between ascending thresholds (even slots) and equal to them (odd)."""
        counts = np.zeros(2 * thresholds.size + 1, dtype=np.int64)
        # Each chunk costs a pass over `counts`; chunks of that order keep the passes from dominating.
        chunk_size = max(_MIN_CHUNK, thresholds.size)
        self._spool.seek(0)
        for start in range(0, self._nominal_pixels, chunk_size):
            count = min(chunk_size, self._nominal_pixels - start)
            chunk = np.sort(self._read_spool(count))  # sorted: cache hits
            # A score t[i-1] < s < t[i] gives i + i, a score s = t[i] gives i + (i + 1).
            slots = np.searchsorted(thresholds, chunk, "left")
            slots += np.searchsorted(thresholds, chunk, "right")
            counts += np.bincount(slots, minlength=counts.size)
        return counts


def _corners(
    anomalous: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Descending thresholds from +inf, with the false and true positives at each: (K + 1,) for K scores."""
    ranked, truth = _checked(scores, anomalous, names=("scores", "anomalous"), widest=np.float64, ndim=1)
    anomalies = int(np.count_nonzero(truth))
    _refuse_one_class(truth.size - anomalies, anomalies, "sample")
    values, rank = np.unique(ranked, return_inverse=True)  # ascending
    thresholds = np.concatenate([[np.inf], values[::-1]])
    false_positives = _descending_sums(np.bincount(rank[~truth], minlength=values.size))
    true_positives = _descending_sums(np.bincount(rank[truth], minlength=values.size))
    return thresholds, false_positives, true_positives


def _descending_sums(steps: NDArray[Any]) -> NDArray[Any]:
    """Sums of the last 0, 1, …, K of K ascending steps: (K,) -> (K + 1,)."""
    return np.concatenate([[steps.dtype.type(0)], np.cumsum(steps[::-1])])


def _between_gaps(steps: NDArray[Any]) -> NDArray[Any]:
    """Put the K steps into the odd slots of 2 K + 1: nothing anomalous lies in the gaps."""
    slots = np.zeros(2 * steps.size + 1, dtype=steps.dtype)
    slots[1::2] = steps
    return slots


def _area_under_roc(false_positives: NDArray[np.int64], true_positives: NDArray[Any], limit: float = 1.0) -> float:
    """Mean height, in [0, 1], of the ROC with K + 1 corners from (0, 0), between the rates 0 and `limit`."""
    x = false_positives.astype(np.float64)  # exact up to 2^53, and products cannot overflow as int64 can
    y = true_positives.astype(np.float64)
    return area_under(x, y, end=limit * x[-1], height=y[-1])


def _checked(
    scores: ArrayLike, anomalous: ArrayLike, *, names: tuple[str, str], widest: DTypeLike, ndim: int
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Both as arrays of one shape, or MetricError; `widest` is the dtype beyond which scores would round."""
    values, truth = np.asarray(scores), np.asarray(anomalous)
    score_name, truth_name = names
    widest = np.dtype(widest)
    if values.dtype.kind != "f" or not np.can_cast(values.dtype, widest):
        raise MetricError(
            f"{score_name}: dtype is {values.dtype}, pass floats no wider than {widest}, "
            "so that rounding makes no ties."
        )
    if truth.dtype != np.bool_:
        raise MetricError(f"{truth_name}: dtype is {truth.dtype}, pass bool, True where anomalous.")
    if values.ndim != ndim or not values.size:
        raise MetricError(f"{score_name}: shape is {values.shape}, pass a non-empty {ndim}-D array.")
    if values.shape != truth.shape:
        raise MetricError(
            f"{truth_name}: shape {truth.shape} differs from {score_name} {values.shape}, bring both to the same shape."
        )
    if unranked := values.size - int(np.count_nonzero(np.isfinite(values))):
        raise MetricError(
            f"{score_name}: {unranked} of {values.size} values are NaN or infinite and have no rank, "
            "mend what computed them."
        )
    return values, truth


def _refuse_one_class(nominal: int, anomalous: int, unit: str) -> None:
    if not (nominal and anomalous):
        raise MetricError(
            f"{nominal} nominal and {anomalous} anomalous {unit}s cannot be ranked against each other: "
            f"add at least one {unit} of the missing kind."
        )


def _open_spool() -> io.RawIOBase | io.BytesIO:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return io.BytesIO()
    return tempfile.TemporaryFile(buffering=0)


@contextmanager
def _spooling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "any temporary folder"
        raise MetricError(
            f"cannot keep the nominal pixels' scores in {folder} ({error.strerror}): "
            "free some space or point TMPDIR at a larger disk."
        ) from error
