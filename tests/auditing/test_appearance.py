"""Appearances that images share, against planted lamps."""

import numpy as np
import pytest

from blemish.auditing.appearance import find_appearances, measure, relight
from blemish.auditing.association import Association, find_associations
from helpers.audit_images import first_of_side


class TestAppearances:
    @staticmethod
    def images(seed: int, count: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        ground = rng.uniform(60, 190, (count, 1, 1, 3)) + rng.normal(0, 25, (count, 24, 24, 3))
        return ground.clip(0, 255).astype(np.uint8)

    @staticmethod
    def looks(pixels: np.ndarray, anomalous: np.ndarray) -> list[Association]:
        return find_associations(find_appearances(measure(pixels, ignored=np.zeros((24, 24), bool))), anomalous)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_lamp_over_one_side_is_found(self, anomalous_side):
        pixels = self.images(0, 120)
        anomalous = np.arange(120) >= 70
        lit = first_of_side(anomalous, anomalous_side, 25)
        pixels[lit] = (pixels[lit] * 0.2 + (120, 90, 30)).astype(np.uint8)
        look = self.looks(pixels, anomalous)[0]
        assert look.p_value <= 0.002
        assert look.anomalous_side == anomalous_side
        assert set(np.flatnonzero(look.cue.carriers)) <= set(lit)

    def test_a_lamp_over_both_sides_is_none(self):
        pixels = self.images(1, 120)
        pixels[::4] = (pixels[::4] * 0.2 + (120, 90, 30)).astype(np.uint8)
        assert all(one.p_value > 0.05 for one in self.looks(pixels, np.arange(120) >= 60))

    def test_what_lies_close_to_others_is_not_set_apart(self):
        # Neighbours one level apart all the way: a shell holds as many as the neighbourhood.
        assert find_appearances({"brightness": np.arange(200.0)[:, None]}) == []

    def test_how_far_others_are(self):
        values = np.r_[np.zeros(10), 100 + 20 * np.arange(30)][:, None]
        (found,) = find_appearances({"brightness": values})
        assert found.carriers.tolist() == [True] * 10 + [False] * 30
        assert found.strength == 19  # nothing within twenty times the smallest radius

    def test_ignored_pixels_do_not_count(self):
        pixels = self.images(2, 6)
        ignored = np.zeros((24, 24), bool)
        ignored[:, :8] = True
        before = measure(pixels, ignored=ignored)
        pixels[:, :, :8] = 0
        after = measure(pixels, ignored=ignored)
        for name in ("colour of the darkest pixels", "black level of each colour", "mean colour"):
            np.testing.assert_array_equal(after[name], before[name])

    def test_relighting_undoes_a_lamp(self):
        rng = np.random.default_rng(0)
        plain = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
        lit = plain.copy()
        lit[:8] = (plain[:8] * 0.8 + (30, 20, 5)).astype(np.uint8)
        back = relight(lit, np.arange(20) < 8, ignored=np.zeros((32, 32), bool), give=False)
        assert np.abs(back.astype(int) - plain[:8]).max() <= 3
