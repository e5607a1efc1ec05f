"""Places that alarms share, against planted marks and simulations without any."""

import numpy as np
import pytest
from scipy.stats import kstest

from blemish.auditing import locations
from blemish.auditing.locations import fixed_frame, shared_locations
from helpers.audit_images import spots


class TestSharedLocations:
    def test_a_shared_place_is_found_with_its_members(self):
        rng = np.random.default_rng(1)
        centres = rng.uniform(6, 58, (40, 2))
        centres[:14] = (52, 10)
        (first, *_) = shared_locations(spots(centres), 0.6, level=0.01)
        assert first.p_value < 0.01
        assert set(range(14)) <= set(first.members.tolist())
        assert first.region[52, 10]
        assert first.region.mean() < 0.05

    def test_what_is_taken_out_is_not_found_again(self):
        centres = np.concatenate(
            [np.full((12, 2), 12), np.full((12, 2), 50), np.random.default_rng(2).uniform(6, 58, (12, 2))]
        )
        first, second, *rest = shared_locations(spots(centres), 0.6, level=0.01)
        assert not (first.region & second.region).any()
        assert all(place.p_value > 0.01 for place in rest)

    def test_subjects_in_the_middle_are_no_narrow_place(self):
        rng = np.random.default_rng(5)
        centres = rng.normal(32, 9, (60, 2)).clip(0, 63)
        found = shared_locations(spots(centres, radius=10.0), 0.4, level=0.01)
        assert len(found) == 1  # nor is what is left at its rim
        assert not found[0].narrow

    @pytest.mark.parametrize("shape", [np.s_[50:60, 4:30], np.s_[:, :5]])
    def test_marks_and_borders_are_narrow_places(self, shape):
        maps = spots(np.random.default_rng(6).uniform(6, 58, (30, 2)))
        maps[:15][(slice(None), *shape)] = 1
        assert shared_locations(maps, 0.6, level=0.01)[0].narrow

    def test_moving_is_what_a_loop_does(self):
        cells = np.random.default_rng(3).random((5, locations.GRID, locations.GRID)) < 0.1
        offsets = np.random.default_rng(4).integers(-locations.JITTER, locations.JITTER + 1, (5, 2, 1))
        slow = np.zeros((locations.GRID, locations.GRID), int)
        for one, (down, right) in zip(cells, offsets[:, :, 0], strict=True):
            for row, column in np.argwhere(one):
                slow[(row - down) % locations.GRID, (column - right) % locations.GRID] += 1
        np.testing.assert_array_equal(locations._moved(cells, np.random.default_rng(4)), slow)

    def test_p_values_are_uniform_where_nothing_is_shared(self, monkeypatch):
        monkeypatch.setattr(locations, "REPEATS", 49)
        p_values = []
        for seed in range(60):
            centres = np.random.default_rng(seed).uniform(-0.5, 63.5, (25, 2))
            maps = spots(np.concatenate([centres]))
            p_values.append(shared_locations(maps, 0.6, level=0.01, seed=seed)[0].p_value)
        # A p-value must not be small too often; the discreteness of counts makes it rather too large.
        assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.01

    def test_aligned_parts_are_distinguished_from_scattered_ones(self):
        rng = np.random.default_rng(1)
        part = np.kron(rng.integers(0, 255, (16, 16)), np.ones((16, 16)))
        aligned = np.stack([part + rng.normal(0, 4, part.shape) for _ in range(12)])
        scattered = np.stack([np.roll(one, rng.integers(0, 256, 2), (0, 1)) for one in aligned])
        region = np.zeros((256, 256), bool)
        region[100:160, 100:160] = True

        def as_pixels(images: np.ndarray) -> np.ndarray:
            return np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)

        assert fixed_frame(as_pixels(aligned), region)
        assert not fixed_frame(as_pixels(scattered), region)
