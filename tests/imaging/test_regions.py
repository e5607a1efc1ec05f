import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage
from skimage.measure import label, regionprops

from blemish.errors import BlemishError
from blemish.imaging.regions import find_regions, outlines

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SCORES = st.floats(0, 100, width=32)


def pixel_centres(mask):
    """The points (x, y) of a mask's pixels."""
    return np.argwhere(mask)[:, ::-1]


@given(arrays(np.float32, SHAPES, elements=SCORES), st.floats(1e-3, 100), st.sampled_from([1.0, 0.5, 3.7]))
@settings(max_examples=100, deadline=None)
def test_there_are_regions_exactly_when_the_score_reaches_the_threshold(anomaly_map, threshold, zoom):
    size = tuple(max(1, round(side * zoom)) for side in anomaly_map.shape)
    regions = find_regions(anomaly_map, threshold, size=size)
    score = float(anomaly_map.max())
    assert bool(regions) == (score >= threshold)
    if regions:
        assert regions[0].peak_score == score


@pytest.mark.parametrize("nudge", [-1e-12, 0.0, 1e-12], ids=["just under", "equal", "just over"])
def test_the_threshold_is_not_rounded_to_the_precision_of_the_map(nudge):
    score = np.float32(0.1)
    threshold = float(score) + nudge
    regions = find_regions(np.full((2, 2), score), threshold, size=(2, 2))
    assert bool(regions) == (float(score) >= threshold)


@given(arrays(np.float32, SHAPES, elements=st.integers(0, 5)))
@settings(max_examples=60, deadline=None)
def test_regions_are_those_of_scikit_image(anomaly_map):
    regions = find_regions(anomaly_map, 3.0, size=anomaly_map.shape)
    expected = regionprops(label(anomaly_map >= 3, connectivity=2), intensity_image=anomaly_map)

    def box_of(part):
        top, left, bottom, right = part.bbox
        return (left, top, right, bottom)

    assert sorted((r.box, r.area, r.peak_score) for r in regions) == sorted(
        (box_of(part), int(part.area), float(part.intensity_max)) for part in expected
    )
    assert [r.peak_score for r in regions] == sorted((r.peak_score for r in regions), reverse=True)
    for region in regions:
        x, y = region.peak
        assert anomaly_map[y, x] == region.peak_score


# Values on the threshold itself would put pixel centres on the contour, where "inside" is anyone's guess.
@given(arrays(np.float32, SHAPES, elements=st.sampled_from([0.0, 1.9, 2.1, 9.0])))
@settings(max_examples=100, deadline=None)
def test_a_contour_is_one_polygon_around_its_region_and_no_other_pixel(anomaly_map):
    parts, _ = ndimage.label(anomaly_map >= 2, structure=np.ones((3, 3)))
    for region in find_regions(anomaly_map, 2.0, size=anomaly_map.shape):
        x, y = region.peak
        with_holes_filled = ndimage.binary_fill_holes(parts == parts[y, x])
        polygon = Polygon(region.contour)
        assert polygon.contains_points(pixel_centres(with_holes_filled)).all()
        assert not polygon.contains_points(pixel_centres(~with_holes_filled)).any()


def test_a_hole_that_touches_the_outside_at_a_corner_stays_inside_the_contour():
    anomaly_map = np.full((7, 6), 2.1, np.float32)
    anomaly_map[5, 1] = anomaly_map[6, 0] = 0
    (region,) = find_regions(anomaly_map, 2.0, size=anomaly_map.shape)
    assert Polygon(region.contour).contains_point((1, 5))


def test_a_contour_follows_the_isoline_between_the_pixels():
    y, x = np.mgrid[:41, :61]
    cone = np.maximum(0, 20 - np.hypot(x - 30, y - 20)).astype(np.float32)
    (region,) = find_regions(cone, 10.0, size=cone.shape)
    radii = np.hypot(*(np.array(region.contour) - (30, 20)).T)
    np.testing.assert_allclose(radii, 10, atol=0.03)


def test_a_region_on_the_border_is_closed_along_the_border():
    (region,) = find_regions(np.full((6, 4), 7.0, np.float32), 2.0, size=(60, 40))
    contour = np.array(region.contour)
    np.testing.assert_allclose(contour.min(axis=0), [-0.5, -0.5])
    np.testing.assert_allclose(contour.max(axis=0), [39.5, 59.5])
    assert region.box == (0, 0, 40, 60)
    assert region.area == 40 * 60


def test_pixels_that_touch_at_a_corner_are_one_region_with_one_contour():
    (region,) = find_regions(np.eye(5, dtype=np.float32), 1.0, size=(5, 5))
    assert region.area == 5
    assert Polygon(region.contour).contains_points([(i, i) for i in range(5)]).all()


def test_a_pixel_that_hardly_exceeds_the_threshold_has_a_contour_to_be_seen():
    anomaly_map = np.zeros((5, 5), np.float32)
    anomaly_map[2, 2] = 1.0001
    (region,) = find_regions(anomaly_map, 1.0, size=(5, 5))
    assert np.ptp(np.array(region.contour), axis=0).min() > 0.9


def test_coordinates_are_those_of_the_image():
    anomaly_map = np.zeros((8, 16), np.float32)
    anomaly_map[2:4, 4:8] = 5.0
    anomaly_map[3, 6] = 9.0
    (region,) = find_regions(anomaly_map, 5.0, size=(80, 32))  # ten times as high, twice as wide
    assert region.box == (8, 20, 16, 40)
    assert region.area == 8 * 20
    assert region.peak == (13, 35)  # the middle of the pixel's 2 x 10 pixels
    contour = np.array(region.contour)
    np.testing.assert_allclose(contour.mean(axis=0), [11.5, 29.5], atol=0.1)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 50), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_nothing_lies_outside_the_image(map_height, map_width, height, width):
    (region,) = find_regions(np.ones((map_height, map_width), np.float32), 0.5, size=(height, width))
    assert region.box == (0, 0, width, height)
    x, y = region.peak
    assert 0 <= x < width
    assert 0 <= y < height
    contour = np.array(region.contour)
    assert (contour >= -0.5).all()
    assert (contour <= [width - 0.5, height - 0.5]).all()


def test_a_region_survives_json():
    anomaly_map = np.zeros((6, 6), np.float32)
    anomaly_map[1:3, 1:3] = 2.0
    (region,) = find_regions(anomaly_map, 1.0, size=(6, 6))
    record = json.loads(json.dumps(region.as_json()))
    assert record.keys() == {"contour", "box", "area", "peak", "peak_score", "p_value"}
    assert record["box"] == [1, 1, 3, 3]
    np.testing.assert_allclose(record["contour"], region.contour, atol=0.005)


@pytest.mark.parametrize(
    ("anomaly_map", "fault"),
    [
        (np.zeros((1, 4, 4), np.float32), "shape"),
        (np.zeros((0, 4), np.float32), "shape"),
        (np.full((2, 2), np.nan, np.float32), "NaN"),
        (np.full((2, 2), np.inf, np.float32), "infinite"),
    ],
    ids=["three-dimensional", "empty", "nan", "infinite"],
)
def test_a_broken_map_is_refused(anomaly_map, fault):
    with pytest.raises(BlemishError, match=fault):
        find_regions(anomaly_map, 1.0, size=(4, 4))


def test_outlines_include_holes_and_the_border():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    outer, hole = sorted(outlines(mask), key=lambda line: -np.ptp(line))
    np.testing.assert_allclose(np.array(outer).min(axis=0), -0.5, atol=0.02)
    np.testing.assert_allclose(np.mean(hole, axis=0), [2, 2])
