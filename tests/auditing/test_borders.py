"""Plain borders that images share, against planted ones."""

import numpy as np
import pytest

from blemish.auditing.association import find_associations
from blemish.auditing.borders import border_depths, find_borders
from helpers.audit_images import clouds, first_of_side, nothing_unseen


class TestBorders:
    @pytest.mark.parametrize(
        "where",
        [
            pytest.param(np.s_[:, :7], id="upper"),
            pytest.param(np.s_[:, -7:], id="lower"),
            pytest.param(np.s_[:, :, :7], id="left"),
            pytest.param(np.s_[:, :, -7:], id="right"),
        ],
    )
    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_border_is_found_along_its_edge(self, where, anomalous_side):
        pixels, anomalous = clouds(0, 60), np.arange(60) >= 30
        framed = first_of_side(anomalous, anomalous_side, 8)
        some = pixels[framed]
        some[where] = (30, 60, 20)
        pixels[framed] = some
        shared = find_borders(pixels, unseen=nothing_unseen(pixels))
        (found,) = find_associations(shared, anomalous)
        assert np.flatnonzero(found.cue.carriers).tolist() == framed.tolist()
        assert found.anomalous_side == anomalous_side
        assert found.p_value < 0.01
        expected = np.zeros((60, 256, 256), bool)
        expected[where] = True
        np.testing.assert_array_equal(found.cue.region, expected[0])

    def test_other_widths_and_colours_are_not_the_same_border(self):
        pixels = clouds(1, 40)
        for number in range(40):
            pixels[number, : 3 + 2 * (number % 8)] = 40 + 60 * (number // 16)
        assert [one.carriers.sum() for one in find_borders(pixels, unseen=nothing_unseen(pixels))] == []

    def test_a_plain_ground_and_a_soft_edge_are_no_border(self):
        plain, soft = np.full((2, 256, 256, 3), 200, np.uint8)
        plain[60:] = 90
        soft[:40] = np.linspace(60, 200, 40)[:, None, None]
        depths, _ = border_depths(np.stack([plain, soft]))
        assert depths.tolist() == [0, 0]

    def test_hidden_borders_do_not_count(self):
        pixels = clouds(2, 20)
        pixels[:6, :, :9] = 10
        unseen = nothing_unseen(pixels)
        unseen[:, 100, 4] = True
        assert find_borders(pixels, unseen=unseen) == []
