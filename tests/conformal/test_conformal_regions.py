"""Region p-values against scikit-image's regions and literal sums; what they promise, by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops

from blemish.conformal.regions import RegionCalibration
from blemish.errors import BlemishError
from blemish.imaging.regions import find_regions

# Eighths: sums of them are exact, so that equal excesses are equal.
maps = arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 40).map(lambda i: i / 8)
)


@settings(max_examples=150, deadline=None)
@given(anomaly_map=maps, level=st.integers(0, 40), threshold=st.integers(0, 40))
def test_each_region_has_the_p_value_of_its_excess(anomaly_map: np.ndarray, level: int, threshold: int) -> None:
    level, threshold = level / 8, threshold / 8
    largest = [0.0, 0.5, 1.0, 1.0, 4.0, 12.5]
    parts, around = (label(anomaly_map >= least, connectivity=2) for least in (threshold, level))
    p_values = []
    for region in find_regions(anomaly_map, threshold, size=anomaly_map.shape):
        x, y = region.peak
        touched = set(around[parts == parts[y, x]]) - {0}
        excess = max((float((anomaly_map[around == one] - level).sum()) for one in touched), default=0.0)
        p_values.append((1 + sum(one >= excess for one in largest)) / 7)
    assert RegionCalibration(level, largest).p_values(anomaly_map, threshold) == p_values


def test_level_and_largest_excesses_are_scikit_images() -> None:
    rng = np.random.default_rng(0)
    fit, held_back = (gaussian_filter(rng.random((10, 32, 32)), (0, 2, 2)).astype(np.float32) for _ in range(2))
    regions = RegionCalibration.from_maps([one.max() for one in fit], held_back)
    assert sum(one.max() > regions.level for one in fit) == 1  # one in ten
    for one, largest in zip(held_back, regions.largest, strict=True):
        above = one.astype(np.float64) - regions.level
        parts = regionprops(label(above >= 0, connectivity=2), above)
        assert largest == pytest.approx(max((part.image_intensity.sum() for part in parts), default=0.0))


def test_any_region_of_a_nominal_image_has_a_small_p_value_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(1)
    drawn = gaussian_filter(rng.random((1200, 24, 24)), (0, 1.5, 1.5))
    fit, rest = 0.95 * drawn[:10], drawn[10:]  # images fitted to are calmer than others
    alarms = []
    for _ in range(40):
        order = rng.permutation(len(rest))
        regions = RegionCalibration.from_maps(fit.max((1, 2)), rest[order[:39]])
        level = regions.level  # the lowest threshold: every region counts
        alarms.append([min(regions.p_values(rest[i], level), default=1.0) <= 0.1 for i in order[39:69]])
    # exact where at least one image in ten has a region at all
    error = np.std(np.mean(alarms, axis=1)) / np.sqrt(len(alarms))
    assert np.mean(alarms) == pytest.approx(0.1, abs=3 * error)


@pytest.mark.parametrize(
    ("level", "largest"),
    [(1.0, ()), (1.0, (float("nan"),)), (float("inf"), (1.0,))],
    ids=["none", "nan", "infinite level"],
)
def test_refusals(level: float, largest: tuple[float, ...]) -> None:
    with pytest.raises(BlemishError, match="train the model again"):
        RegionCalibration(level, largest)


def test_a_map_that_is_none_is_refused() -> None:
    with pytest.raises(BlemishError, match="NaN or infinite"):
        RegionCalibration(1.0, (1.0,)).p_values(np.array([[np.nan]]), 2.0)
