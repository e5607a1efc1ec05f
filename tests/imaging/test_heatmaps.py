import dataclasses

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from blemish.errors import BlemishError
from blemish.imaging.heatmaps import ANNOTATED, FOUND, HeatmapScale, colourise, overlay, short
from blemish.imaging.regions import find_regions

SCALE = HeatmapScale(low=1.0, high=6.0, threshold=2.0)


def test_the_threshold_has_the_same_colour_on_every_scale():
    colours = [
        colourise(np.array([[scale.threshold]]), scale)
        for scale in (SCALE, HeatmapScale(0.0, 1000.0, 1.0), HeatmapScale(-3.0, 8.5, 8.0))
    ]
    assert len({colour.tobytes() for colour in colours}) == 1


def test_lightness_grows_with_the_score_and_stops_at_the_ends_of_the_scale():
    scores = np.linspace(-1, 9, 500)[None]
    colours = colourise(scores, SCALE)
    lightness = rgb2lab(colours)[0, :, 0]
    assert (np.diff(lightness) > -0.5).all()  # half a unit of L*: what rounding to 8 bits may cost
    inside = (scores[0] >= SCALE.low) & (scores[0] <= SCALE.high)
    assert np.ptp(lightness[inside]) > 50
    assert np.ptp(lightness[scores[0] <= SCALE.low]) == 0
    assert np.ptp(lightness[scores[0] >= SCALE.high]) == 0


@pytest.mark.parametrize(
    ("low", "threshold", "high"),
    [(1, 1, 2), (1, 3, 2), (3, 2, 4), (1, float("nan"), 2)],
    ids=["threshold at low", "threshold above high", "threshold below low", "nan"],
)
def test_a_scale_out_of_order_is_refused(low, threshold, high):
    with pytest.raises(BlemishError, match="low < threshold < high"):
        HeatmapScale(low=low, high=high, threshold=threshold)


def photograph(size=(300, 200)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def spot(score: float, size=(64, 64), centre=(20, 40)) -> np.ndarray:
    """A map at the scale's low with one round peak at row, column."""
    y, x = np.mgrid[: size[0], : size[1]]
    bump = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 30)
    return (SCALE.low + (score - SCALE.low) * bump).astype(np.float32)


def test_a_calm_part_is_the_grey_photograph():
    image = photograph()
    picture = overlay(image, np.full((64, 64), SCALE.low, np.float32), SCALE, colour_bar=False)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(image.convert("L").convert("RGB")))


def test_colour_appears_where_the_defect_is_and_nowhere_else():
    picture = overlay(photograph(), spot(6.0), SCALE, regions=[], colour_bar=False)
    saturation = np.ptp(np.asarray(picture).astype(int), axis=2)
    y, x = np.mgrid[: picture.height, : picture.width]
    row, column = (np.average(axis, weights=saturation) for axis in (y, x))
    assert row == pytest.approx((20 + 0.5) * 200 / 64 - 0.5, abs=1)
    assert column == pytest.approx((40 + 0.5) * 300 / 64 - 0.5, abs=1)
    assert saturation[round(row), round(column)] > 100
    far = np.hypot((y - row) * 64 / 200, (x - column) * 64 / 300) > 16
    assert saturation[far].max() == 0


def test_one_scale_holds_for_all_images():
    """A weak peak is not stretched to full colour because it is the highest of its own image."""
    weak, strong = (
        np.ptp(np.asarray(overlay(photograph(), spot(score), SCALE, colour_bar=False)).astype(int), axis=2)
        for score in (1.4, 6.0)
    )
    assert weak.max() < 30 < 100 < strong.max()


def test_regions_and_annotation_are_outlined_in_their_own_colours():
    image = Image.new("RGB", (300, 300), (90, 90, 90))
    mask = np.zeros((300, 300), bool)
    mask[200:260, 30:90] = True
    pixels = np.asarray(overlay(image, spot(5.0), SCALE, mask=mask, colour_bar=False)).astype(int)
    left_edge = pixels[230, 25:36]
    assert np.abs(left_edge - ANNOTATED).sum(axis=1).min() < 60
    assert (pixels[230, 45:75] == 90).all()
    (region,) = find_regions(spot(5.0), SCALE.threshold, size=(300, 300))
    x, y = (round(value) for value in region.contour[0])
    assert np.abs(pixels[y - 1 : y + 2, x - 1 : x + 2] - FOUND).sum(axis=2).min() < 60
    bare = np.asarray(overlay(image, spot(5.0), SCALE, regions=[], colour_bar=False)).astype(int)
    assert np.abs(bare - FOUND).sum(axis=2).min() > 60


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (64, 500), (500, 30), (384, 384), (1500, 1000)], ids=str)
def test_the_colour_bar_stands_right_of_a_picture_of_at_least_256_pixels(size):
    image = photograph(size)
    picture = overlay(image, spot(5.0), SCALE, colour_bar=False)
    assert max(picture.size) >= 256
    if max(size) >= 256:
        assert picture.size == size
    with_bar = overlay(image, spot(5.0), SCALE)
    np.testing.assert_array_equal(np.asarray(with_bar)[: picture.height, : picture.width], np.asarray(picture))
    bar = np.asarray(with_bar)[:, picture.width :]
    # The panel is dark: its brightest pixels are the threshold's mark and label, halfway up.
    rows_with_white = np.flatnonzero((bar == 255).all(axis=2).any(axis=1))
    assert rows_with_white.mean() == pytest.approx(bar.shape[0] / 2, rel=0.05)


def test_the_callers_image_stays_as_it_is():
    image = photograph()
    before = np.asarray(image).copy()
    overlay(image, spot(5.0), SCALE)
    np.testing.assert_array_equal(np.asarray(image), before)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(BlemishError, match="resize the mask"):
        overlay(photograph((300, 200)), spot(5.0), SCALE, mask=np.zeros((300, 200), bool))


def test_a_scale_is_a_frozen_record():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCALE.low = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.0123456, "0.0123"), (2.2, "2.2"), (4.0, "4"), (41.34, "41.3"), (12345.6, "12,346"), (0.0, "0")],
)
def test_short_scores_have_three_digits_and_no_exponent(score, text):
    assert short(score) == text
