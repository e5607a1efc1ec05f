"""Image-level metrics against scikit-learn, pixel-level ones against the definition written out slowly."""

import errno
import gc
import tempfile
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from sklearn import metrics as sklearn_metrics

from blemish.errors import BlemishError
from blemish.evaluation import metrics
from blemish.evaluation.metrics import MetricError, PixelMetrics, PixelResult

Image = tuple[np.ndarray, np.ndarray]  # anomaly map float32 (H, W), mask bool (H, W)

# Scale and shift of the scores: the cases in which a sigmoid or a clamp would show.
RANGES = [(1e-6, 0.0), (1.0, 0.0), (1e6, 0.0), (1.0, 20.0), (1.0, -1e3)]


@st.composite
def labelled_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Few distinct levels, so that most draws hold ties within and across the classes."""
    size = draw(st.integers(2, 40))
    levels = draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size))
    anomalous = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    anomalous[:2] = [False, True]
    return np.array(anomalous), np.array(levels) / 7


@st.composite
def images(draw: st.DrawFn) -> list[Image]:
    """One to four images of different sizes; values on a coarse grid (ties) or fine ones (hardly any)."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    density = draw(st.sampled_from([0.05, 0.3, 0.6]))
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        shape = generator.integers(1, 10), generator.integers(2, 11)
        mask = generator.random(shape) < density
        values = generator.integers(0, levels, size=shape) + mask * generator.integers(0, levels, size=shape)
        pairs.append(((values / 7).astype(np.float32), mask))
    pairs[0][1][0, :2] = [False, True]
    return pairs


def streamed(pairs: list[Image], **options: float) -> PixelResult:
    with PixelMetrics(**options) as pixels:
        for anomaly_map, mask in pairs:
            pixels.update(anomaly_map, mask)
        return pixels.compute()


def literal_aupro(pairs: list[Image], limit: Fraction) -> Fraction:
    """The definition in exact fractions: every threshold, every region, trapezoids up to the limit."""
    regions = []
    for anomaly_map, mask in pairs:
        labels = label(mask, connectivity=2)
        regions += [anomaly_map[labels == number] for number in range(1, labels.max() + 1)]
    nominal = np.concatenate([anomaly_map[~mask] for anomaly_map, mask in pairs])
    thresholds = np.unique(np.concatenate([anomaly_map.ravel() for anomaly_map, _ in pairs]))[::-1]

    area, rate, overlap = Fraction(0), Fraction(0), Fraction(0)
    for threshold in thresholds:
        next_rate = Fraction(int((nominal >= threshold).sum()), nominal.size)
        found = [Fraction(int((region >= threshold).sum()), region.size) for region in regions]
        next_overlap = sum(found, Fraction(0)) / len(regions)
        if next_rate >= limit:
            if next_rate > rate:
                part = (limit - rate) / (next_rate - rate)
                area += (limit - rate) * (overlap + overlap + part * (next_overlap - overlap)) / 2
            return area / limit
        area += (next_rate - rate) * (overlap + next_overlap) / 2
        rate, overlap = next_rate, next_overlap
    raise AssertionError("the false positive rate ends at 1")


@pytest.mark.parametrize(("scale", "shift"), RANGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(sample=labelled_scores())
@settings(max_examples=25, deadline=None)
def test_image_metrics_equal_scikit_learn(sample, scale, shift, dtype):
    anomalous, levels = sample
    scores = (levels * scale + shift).astype(dtype)

    assert metrics.auroc(anomalous, scores) == pytest.approx(
        sklearn_metrics.roc_auc_score(anomalous, scores), abs=1e-12
    )
    assert metrics.average_precision(anomalous, scores) == pytest.approx(
        sklearn_metrics.average_precision_score(anomalous, scores), abs=1e-12
    )
    best = metrics.f1_max(anomalous, scores)
    assert best.f1 == pytest.approx(sklearn_metrics.f1_score(anomalous, scores >= best.threshold), abs=1e-12)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(anomalous, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    assert best.f1 == pytest.approx(f1.max(), abs=1e-12)


@given(sample=labelled_scores())
@settings(max_examples=50, deadline=None)
def test_roc_curve_equals_scikit_learn(sample):
    anomalous, scores = sample
    curve = metrics.roc_curve(anomalous, scores)
    reference = sklearn_metrics.roc_curve(anomalous, scores, drop_intermediate=False)
    for ours, theirs in zip(
        (curve.false_positive_rate, curve.true_positive_rate, curve.thresholds), reference, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@given(
    steps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=20),
    limit=st.floats(0.01, 1),
    height=st.sampled_from([1.0, 3.0]),
)
def test_the_area_under_a_curve_equals_scikit_learn(steps, limit, height):
    corners = np.cumsum([(0, 0), *steps], axis=0).astype(float)
    x, y = corners[:, 0] / corners[-1, 0], corners[:, 1]
    inside = x < limit
    reference = sklearn_metrics.auc(np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y)))
    area = metrics.area_under(x, y, end=limit, height=height)
    assert area == pytest.approx(reference / limit / height, rel=1e-9)


def test_auroc_is_not_saturated_by_a_large_offset():
    # A metric that puts scores through a sigmoid first reports 0.5 here.
    generator = np.random.default_rng(0)
    anomalous = np.repeat([False, True], 500)
    scores = generator.normal(size=1000) + 3 * anomalous
    assert metrics.auroc(anomalous, scores + 1000) == pytest.approx(
        sklearn_metrics.roc_auc_score(anomalous, scores), abs=1e-9
    )
    assert metrics.auroc(anomalous, scores + 1000) > 0.95


def test_float16_scores_count_past_the_range_of_float16():
    anomalous = np.repeat([False, True], 100_000)
    scores = (anomalous * 0.5).astype(np.float16)
    assert metrics.auroc(anomalous, scores) == 1.0
    assert metrics.auroc(anomalous, -scores) == 0.0


def test_f1_max_returns_the_highest_of_equally_good_thresholds():
    # Thresholds 4 and 1 both give F1 = 2/3: 1 hit, 1 miss; 2 hits, 2 false alarms.
    best = metrics.f1_max([True, False, False, True], [4.0, 3.0, 2.0, 1.0])
    assert (best.f1, best.threshold) == (pytest.approx(2 / 3), 4.0)


@pytest.mark.parametrize(
    ("function", "constant", "perfect"),
    [
        pytest.param(metrics.auroc, 0.5, 1.0, id="auroc"),
        pytest.param(metrics.average_precision, 0.25, 1.0, id="average precision is the prevalence"),
        pytest.param(lambda *sample: metrics.f1_max(*sample).f1, 0.4, 1.0, id="f1 when all are flagged"),
    ],
)
def test_constant_and_perfect_scores(function, constant, perfect):
    anomalous = np.array([False, True, False, False])
    assert function(anomalous, np.full(4, -7.5)) == constant
    assert function(anomalous, np.where(anomalous, -1e6, -2e6)) == perfect


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@given(pairs=images())
@settings(max_examples=40, deadline=None)
def test_pixel_metrics_equal_the_literal_definition(pairs, limit):
    result = streamed(pairs, fpr_limit=limit)

    pooled_maps = np.concatenate([anomaly_map.ravel() for anomaly_map, _ in pairs])
    pooled_masks = np.concatenate([mask.ravel() for _, mask in pairs])
    assert result.auroc == pytest.approx(sklearn_metrics.roc_auc_score(pooled_masks, pooled_maps), abs=1e-12)
    assert result.aupro == pytest.approx(float(literal_aupro(pairs, Fraction(limit))), abs=1e-12)
    assert result.anomalous_pixels == pooled_masks.sum()
    assert result.nominal_pixels == (~pooled_masks).sum()
    assert result.regions == sum(label(mask, connectivity=2).max() for _, mask in pairs)


@pytest.mark.parametrize(("scale", "shift"), RANGES)
def test_pixel_metrics_take_maps_in_any_range(scale, shift):
    generator = np.random.default_rng(1)
    pairs = []
    for height in (7, 12, 9):
        mask = generator.random((height, 11)) < 0.2
        levels = generator.integers(0, 9, size=mask.shape) + 4 * mask
        pairs.append(((levels * scale + shift).astype(np.float32), mask))
    result = streamed(pairs)
    assert result.aupro == pytest.approx(float(literal_aupro(pairs, Fraction(0.3))), abs=1e-12)
    assert result.auroc == pytest.approx(
        sklearn_metrics.roc_auc_score(
            np.concatenate([mask.ravel() for _, mask in pairs]),
            np.concatenate([anomaly_map.ravel() for anomaly_map, _ in pairs]),
        ),
        abs=1e-12,
    )


def test_neighbouring_float32_values_are_not_ties():
    mask = np.array([[False, True]])
    anomaly_map = np.array([[1e6, np.nextafter(np.float32(1e6), np.float32(2e6))]], dtype=np.float32)
    assert streamed([(anomaly_map, mask)]).auroc == 1.0
    assert streamed([(anomaly_map[:, ::-1], mask)]).auroc == 0.0


def test_aupro_weighs_regions_equally_whatever_their_size():
    # The region of one pixel is found, that of nine is not, and no nominal pixel scores in between.
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = mask[4:7, 4:7] = True
    anomaly_map = np.zeros((8, 8), dtype=np.float32)
    anomaly_map[0, 0], anomaly_map[4:7, 4:7] = 2, -1
    result = streamed([(anomaly_map, mask)])
    assert (result.aupro, result.regions) == (0.5, 2)
    assert result.auroc == pytest.approx(0.1)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(4, dtype=bool)
    assert streamed([(mask.astype(np.float32), mask)]).regions == 1


@given(pairs=images(), order=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_images_does_not_matter(pairs, order):
    shuffled = order.sample(pairs, len(pairs))
    first, second = streamed(pairs), streamed(shuffled)
    assert first.auroc == second.auroc
    assert first.aupro == pytest.approx(second.aupro, abs=1e-12)
    assert first.regions == second.regions


def test_the_chunk_size_does_not_matter(monkeypatch):
    generator = np.random.default_rng(2)
    mask = generator.random((40, 30)) < 0.01
    anomaly_map = generator.integers(0, 50, size=mask.shape).astype(np.float32)
    whole = streamed([(anomaly_map, mask)])
    monkeypatch.setattr(metrics, "_MIN_CHUNK", 7)  # does not divide the number of nominal pixels
    assert streamed([(anomaly_map, mask)]) == whole


def test_compute_may_be_followed_by_more_images():
    generator = np.random.default_rng(3)
    pairs = [(generator.random((6, 5), dtype=np.float32), generator.random((6, 5)) < 0.3) for _ in range(4)]
    with PixelMetrics() as pixels:
        for count, (anomaly_map, mask) in enumerate(pairs, start=1):
            pixels.update(anomaly_map, mask)
            assert pixels.compute() == streamed(pairs[:count])


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_constant_and_perfect_maps(limit):
    mask = np.zeros((9, 7), dtype=bool)
    mask[1, 1:4] = mask[5:8, 2] = True
    nominal = np.zeros((3, 4), dtype=bool)

    def at(pair: tuple[float, float]) -> list[Image]:
        background, defect = pair
        return [(np.where(m, defect, background).astype(np.float32), m) for m in (mask, nominal)]

    constant = streamed(at((-3, -3)), fpr_limit=limit)
    # The ROC of a constant map is the diagonal: 0.5 in full, and limit / 2 on average up to a limit.
    assert (constant.auroc, constant.aupro) == (0.5, pytest.approx(limit / 2))
    perfect = streamed(at((-1e6, -1e5)), fpr_limit=limit)
    assert (perfect.auroc, perfect.aupro) == (1.0, 1.0)


@pytest.mark.parametrize("function", [metrics.auroc, metrics.average_precision, metrics.f1_max, metrics.roc_curve])
@pytest.mark.parametrize(
    ("anomalous", "scores", "message"),
    [
        pytest.param([False, True], [0.1, np.nan], "1 of 2 values are NaN", id="NaN"),
        pytest.param([False, True], [-np.inf, 1.0], "1 of 2 values are NaN or infinite", id="infinity"),
        pytest.param([True, True], [0.1, 0.2], "0 nominal and 2 anomalous samples", id="no nominal"),
        pytest.param([False, False], [0.1, 0.2], "2 nominal and 0 anomalous samples", id="no anomalous"),
        pytest.param([0, 1], [0.1, 0.2], "anomalous: dtype is int64, pass bool", id="integer labels"),
        pytest.param([False, True], [1, 2], "scores: dtype is int64, pass floats", id="integer scores"),
        pytest.param([False, True], np.array([1, 2], np.longdouble), "no wider than float64", id="long double scores"),
        pytest.param([False, True, True], [0.1, 0.2], r"\(3,\) differs from scores \(2,\)", id="lengths"),
        pytest.param([[False, True]], [[0.1, 0.2]], r"\(1, 2\), pass a non-empty 1-D array", id="2-D"),
        pytest.param(np.empty(0, bool), np.empty(0), r"\(0,\), pass a non-empty 1-D array", id="empty"),
    ],
)
def test_image_metrics_refuse(function: Callable[..., object], anomalous: object, scores: object, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        function(anomalous, scores)


def map_with(value: float) -> np.ndarray:
    anomaly_map = np.zeros((4, 6), dtype=np.float32)
    anomaly_map[2, 3] = value
    return anomaly_map


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "message"),
    [
        pytest.param(map_with(np.nan), np.ones((4, 6), bool), "1 of 24 values are NaN", id="NaN"),
        pytest.param(map_with(np.inf), np.ones((4, 6), bool), "NaN or infinite", id="infinity"),
        pytest.param(map_with(1), np.ones((6, 4), bool), r"mask: shape \(6, 4\) differs", id="shapes"),
        pytest.param(map_with(1)[None], np.ones((1, 4, 6), bool), "non-empty 2-D array", id="3-D"),
        pytest.param(map_with(1)[:0], np.ones((0, 6), bool), "non-empty 2-D array", id="empty"),
        pytest.param(map_with(1), np.ones((4, 6), np.uint8), "mask: dtype is uint8, pass bool", id="mask dtype"),
        pytest.param(map_with(1).astype(np.float64), np.ones((4, 6), bool), "no wider than float32", id="float64 map"),
        pytest.param(map_with(1).astype(int), np.ones((4, 6), bool), "dtype is int64", id="integer map"),
    ],
)
def test_pixel_metrics_refuse_and_keep_their_counts(anomaly_map, mask, message):
    good = map_with(1), map_with(1) > 0
    with PixelMetrics() as pixels:
        pixels.update(*good)
        with pytest.raises(MetricError, match=message):
            pixels.update(anomaly_map, mask)
        assert pixels.compute() == streamed([good])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        pytest.param([], "0 nominal and 0 anomalous pixels", id="no images"),
        pytest.param([np.zeros((4, 6), bool)], "24 nominal and 0 anomalous pixels", id="no anomalous"),
        pytest.param([np.ones((4, 6), bool)], "0 nominal and 24 anomalous pixels", id="no nominal"),
    ],
)
def test_pixel_metrics_refuse_one_class(masks, message):
    with pytest.raises(MetricError, match=message):
        streamed([(map_with(1), mask) for mask in masks])


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.01, float("nan")])
def test_pixel_metrics_refuse_a_limit_that_is_no_rate(limit):
    with pytest.raises(MetricError, match="fpr_limit is"):
        PixelMetrics(fpr_limit=limit)


class FullDisk:
    """A temporary file whose disk takes `room` bytes more, in bites that end inside a value."""

    def __init__(self, *, room: int) -> None:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.room = room

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: min(self.room, 11)])
        self.room -= written
        return written


def test_a_full_disk_is_said_in_a_sentence_and_the_image_can_be_given_again(monkeypatch):
    disk = FullDisk(room=150)
    monkeypatch.setattr(metrics.tempfile, "TemporaryFile", lambda **_: disk)
    first, second = (map_with(1), map_with(1) > 0), (map_with(-1), map_with(1) > 0)  # 92 bytes each
    with PixelMetrics() as pixels:
        pixels.update(*first)
        with pytest.raises(BlemishError, match=r"No space left on device.*TMPDIR"):
            pixels.update(*second)
        disk.room = 1000
        pixels.update(*second)
        result = pixels.compute()
    monkeypatch.undo()
    assert result == streamed([first, second])


def test_a_missing_temporary_folder_is_said_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(MetricError, match="gone"):
        PixelMetrics()


def test_the_temporary_file_is_given_back():
    with PixelMetrics() as pixels:
        left = pixels._spool
    assert left.closed

    forgotten = PixelMetrics()
    spool = forgotten._spool
    del forgotten
    gc.collect()
    assert spool.closed
