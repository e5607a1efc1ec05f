"""The plots of a report."""

import pytest

from blemish.report.plots import roc_curve, score_histogram


def test_the_operating_point_counts_scores_on_the_threshold():
    drawn = roc_curve([1.0, 2.0, 1.0, 1.0], [2.0, 3.0, 1.0, 1.0], 2.0)
    assert "50 % detected" in drawn
    assert "25 % false alarms" in drawn


@pytest.mark.parametrize(
    ("nominal", "anomalous"),
    [([1.0, 1.2], [3.0]), ([2.0], []), ([], [2.0]), ([0.0, 0.0], [0.0]), ([0.5, 1.0], [1e6])],
    ids=["usual", "one good image", "one defective image", "all zero", "far beyond the threshold"],
)
def test_a_histogram_names_its_groups_and_threshold(nominal, anomalous):
    drawn = score_histogram(nominal, anomalous, 2.0)
    assert ("good images" in drawn) == bool(nominal)
    assert ("defective images" in drawn) == bool(anomalous)
    assert "threshold 2" in drawn
    assert "#0a0b" not in drawn  # every colour is the page's own
