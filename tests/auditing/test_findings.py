"""Findings in words."""

import numpy as np
import pytest

from blemish.auditing.findings import probability, sides, where
from blemish.io.text import whole_percent


class TestWords:
    @pytest.mark.parametrize(
        ("box", "words"),
        [
            ((80, 100, 0, 40), "lower left 8 % of the image"),
            ((0, 10, 90, 100), "upper right 1 % of the image"),
            ((0, 100, 0, 4), "left 4 % of the image"),
            ((96, 100, 0, 100), "lower 4 % of the image"),
            ((45, 55, 45, 55), "middle 1 % of the image"),
            ((0, 100, 0, 100), "greater part, 100 % of the image"),
            ((10, 15, 10, 15), "upper left 0.2 % of the image"),
        ],
    )
    def test_places(self, box, words):
        region = np.zeros((100, 100), bool)
        region[box[0] : box[1], box[2] : box[3]] = True
        assert where(region) == words

    def test_numbers(self):
        assert [probability(p) for p in (0.034, 0.00051, 0.00002)] == ["p = 0.034", "p = 0.00051", "p < 0.0001"]
        assert [whole_percent(share) for share in (0.004, 0.04, 0.4)] == ["0.4 %", "4 %", "40 %"]
        assert sides((0, 24), (118, 120), first=True) == "24 of 120 anomalous images and none of 118 good ones"
