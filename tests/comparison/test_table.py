"""Figures over seeds, and the table as text."""

import numpy as np
import pytest

from blemish.comparison.records import Run
from blemish.comparison.table import as_text, rows_of

AREAS, ENDS = [0.9, 0.95, 0.97], [(0.8, 0.95), (0.85, 0.99), (0.9, 1.0)]


def run(method, seed, area, ends):
    names = ("image_auroc", "pixel_auroc", "aupro", "detection_rate", "false_alarm_rate")
    values = {"figures": dict.fromkeys(names, area), "intervals": dict.fromkeys(names, ends)}
    kinds = {"crack": {"images": 4, "detected": 2, "image_auroc": area}, "dent": {"images": 2, "detected": 2}}
    return Run(method=method, seed=seed, per_defect=kinds, milliseconds=5.0, megabytes=20.4, seconds=90.0, **values)


def test_a_figure_has_the_mean_the_mean_interval_and_the_range_of_its_seeds():
    (row,) = rows_of([run("a", seed, *found) for seed, found in enumerate(zip(AREAS, ENDS, strict=True))])
    summary = row.figures["image_auroc"]
    assert summary.mean == pytest.approx(np.mean(AREAS))
    assert summary.interval == pytest.approx(tuple(np.mean(ENDS, axis=0)))
    assert (summary.least, summary.most, summary.seeds) == (0.9, 0.97, 3)


def test_the_table_has_values_intervals_and_the_range_over_seeds():
    made = [run("a", seed, *found) for seed, found in enumerate(zip(AREAS, ENDS, strict=True))]
    failed = Run(method="b", seed=0, failed="too little memory")
    lines = as_text(rows_of([*made, failed])).splitlines()
    assert lines[0].split()[:3] == ["method", "image", "AUROC"]
    assert lines[1].split() == ["a", "0.940", "0.940", "0.940", "94", "%", "94", "%", "5.0", "20", "90"]
    assert lines[2].startswith("             0.850 to 0.980")
    assert lines[3].split()[:4] == ["3", "seeds", "0.900", "to"]
    assert lines[4].split() == ["b", *["–"] * 8]
    assert lines[-2].split() == ["crack", "4", "0.940", "–"]
    assert lines[-1].split() == ["dent", "2", "–", "–"]


def test_a_figure_that_no_image_can_tell_is_a_dash():
    (row,) = rows_of([run("a", 0, None, None)])
    assert row.figures["aupro"].mean is None
    assert as_text([row]).splitlines()[1].split()[:4] == ["a", "–", "–", "–"]
