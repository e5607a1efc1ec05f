"""The report's own axes and marks, against what round numbers and places have to be."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import ImageFont

from blemish.imaging.colormap import COLOURS
from blemish.imaging.heatmaps import POSITIONS, short
from blemish.report import charts
from blemish.report.charts import Axis
from blemish.report.plots import roc_curve, score_histogram

# The span is no smaller than a thousandth of the values: scores that are alike to more digits fill one bar.
ENDS = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)).map(
    lambda pair: (pair[0], pair[0] + pair[1] * max(1, abs(pair[0])))
)


@given(ENDS, st.integers(2, 12))
def test_linear_ticks_are_round_even_and_inside(ends: tuple[float, float], most: int) -> None:
    low, high = ends
    values = [value for value, _ in Axis(low, high, 0, 100).ticks(most)]
    assert 1 <= len(values) <= most
    span = high - low
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in values)
    if len(values) > 1:
        step = values[1] - values[0]
        np.testing.assert_allclose(np.diff(values), step, rtol=1e-6)
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-6


@given(ENDS, st.integers(2, 12))
def test_labels_say_the_values(ends: tuple[float, float], most: int) -> None:
    ticks = Axis(*ends, 0, 100).ticks(most)
    said = [float(label.replace(",", "")) for _, label in ticks]
    np.testing.assert_allclose(said, [value for value, _ in ticks], rtol=1e-6, atol=1e-9)


@given(st.floats(1e-6, 1e3), st.floats(1.5, 1e9), st.integers(2, 10))
def test_logarithmic_ticks_are_inside_and_rise(low: float, factor: float, most: int) -> None:
    ticks = Axis(low, low * factor, 0, 100, log=True).ticks(most)
    values = [value for value, _ in ticks]
    assert len(values) <= most
    assert values == sorted(set(values))
    assert all(low <= value <= low * factor for value in values)
    np.testing.assert_allclose([float(label.replace(",", "")) for _, label in ticks], values, rtol=1e-5)


@pytest.mark.parametrize(("value", "place"), [(1, 0), (10, 50), (100, 100)])
def test_a_logarithmic_axis_gives_each_power_as_much_room(value: float, place: float) -> None:
    assert Axis(1, 100, 0, 100, log=True).place(value) == pytest.approx(place)


def test_a_vertical_axis_starts_at_the_bottom() -> None:
    np.testing.assert_allclose(Axis(0, 4, 90, 10).place([0, 1, 4]), [90, 70, 10])


def test_bars_stand_on_the_axis_and_are_as_high_as_their_counts() -> None:
    drawn = charts.rows_of_bars([2, 0, 4], [0, 1, 2, 3], Axis(0, 3, 0, 30), Axis(0, 4, 100, 20), "red")
    bars = [{name: float(bar.get(name, "nan")) for name in ("x", "y", "width", "height")} for bar in _parsed(drawn)]
    assert bars == [
        {"x": 0, "y": 60, "width": 10, "height": 40},  # none where nothing was counted
        {"x": 20, "y": 20, "width": 10, "height": 80},
    ]


@pytest.mark.parametrize("log", [False, True])
def test_every_score_is_counted_in_one_bar(log: bool) -> None:
    rng = np.random.default_rng(0)
    nominal, anomalous = rng.lognormal(0, 0.3, 41), rng.lognormal(3 if log else 1, 0.3, 60)
    root = ElementTree.fromstring(score_histogram(nominal.tolist(), anomalous.tolist(), 1.8))
    groups = [group for group in root if group.tag.endswith("}g")]
    areas = [sum(float(bar.get("height", "nan")) for bar in group) for group in groups]
    unit = [min(float(bar.get("height", "nan")) for bar in group) for group in groups]
    counts = [area / least for area, least in zip(areas, unit, strict=True)]
    # The smallest bar holds one score or a few: the sum is a whole number of them.
    for count, scores in zip(counts, (nominal, anomalous), strict=True):
        assert any(count * few == pytest.approx(len(scores), rel=1e-2) for few in (1, 2, 3))


def test_words_are_text_and_no_markup() -> None:
    assert "&lt;b&gt;" in charts.text("<b>", 0, 0)


@pytest.mark.parametrize(
    "drawn", [score_histogram([1.0, 2.0], [3.0], 2.5), roc_curve([1.0, 2.0], [3.0, 1.5], 2.5)], ids=["scores", "roc"]
)
def test_a_plot_is_valid_and_in_the_colours_of_the_page(drawn: str) -> None:
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img"
    used = set(re.findall(r'(?:fill|stroke)="([^"]+)"', drawn))
    assert used <= {"none", "currentColor", "var(--nominal)", "var(--anomalous)"}


def test_colours_are_those_of_the_map_inferno() -> None:
    expected = (colormaps["inferno"](0.25 + 0.65 * POSITIONS)[:, :3] * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(COLOURS, expected)


@pytest.mark.parametrize("score", [0.0123, 2.2, 12_346, -0.5, 1e9, 1e-9, 0])
def test_the_font_has_every_sign_of_a_label(score: float) -> None:
    font = ImageFont.load_default(20)
    absent = bytes(font.getmask("\u2603"))  # what is drawn for a sign that the font lacks
    assert not [sign for sign in f"> {short(score)}" if bytes(font.getmask(sign)) == absent]


def _parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)
