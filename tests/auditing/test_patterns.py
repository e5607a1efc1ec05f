"""Patterns that images share at one place, against planted marks."""

import numpy as np
import pytest

from blemish.auditing import patterns
from blemish.auditing.association import Association, find_associations
from blemish.auditing.patterns import find_patterns
from helpers.audit_images import clouds, first_of_side, nothing_unseen


class TestPatterns:
    @staticmethod
    def mark(pixels: np.ndarray) -> None:
        """A fixed little picture at the lower right, in place."""
        stamp = np.random.default_rng(99).random((6, 12)) < 0.5
        pixels[:, 216:240, 188:236] = np.where(np.kron(stamp, np.ones((4, 4)))[None, ..., None] > 0, 250, 10)

    @staticmethod
    def find(pixels: np.ndarray, anomalous: np.ndarray, unseen: np.ndarray | None = None) -> list[Association]:
        shared = find_patterns(pixels, unseen=nothing_unseen(pixels) if unseen is None else unseen)
        return find_associations(shared, anomalous)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_mark_on_one_side_is_found_where_it_lies(self, anomalous_side):
        pixels, anomalous = clouds(0, 60), np.arange(60) >= 30
        marked = first_of_side(anomalous, anomalous_side, 9)
        some = pixels[marked]
        self.mark(some)
        pixels[marked] = some
        first = self.find(pixels, anomalous)[0]
        assert np.flatnonzero(first.cue.carriers).tolist() == marked.tolist()
        assert first.p_value < 0.01
        assert first.anomalous_side == anomalous_side
        rows, columns = np.nonzero(first.cue.region)
        assert rows.min() >= 176
        assert columns.min() >= 144

    def test_a_mark_on_both_sides_is_not_one_sided(self):
        pixels, anomalous = clouds(1, 60), np.arange(60) >= 30
        some = pixels[::3]
        self.mark(some)
        pixels[::3] = some
        first = max(self.find(pixels, anomalous), key=lambda one: one.cue.carriers.sum())
        assert first.cue.carriers.sum() == 20
        assert first.p_value > 0.5

    def test_pixels_that_are_not_seen_hold_no_pattern(self):
        pixels, anomalous = clouds(2, 60), np.arange(60) >= 30
        some = pixels[30:39]
        self.mark(some)
        pixels[30:39] = some
        unseen = np.zeros((60, 256, 256), bool)
        unseen[30:39, 208:248, 180:244] = True
        assert not any(one.p_value < 0.05 for one in self.find(pixels, anomalous, unseen))

    @pytest.mark.slow
    @pytest.mark.parametrize("masked", [True, False])
    def test_defects_at_one_place_of_an_aligned_part_are_no_pattern(self, masked):
        rng = np.random.default_rng(3)
        part = np.kron(rng.uniform(40, 215, (16, 16, 3)), np.ones((16, 16, 1)))
        pixels = (part + rng.normal(0, 6, (60, 256, 256, 3))).clip(0, 255).astype(np.uint8)
        # Every defect is another one. Where there are masks all anomalous images have one, otherwise two in three.
        defective = np.arange(30, 60 if masked else 50)
        for one in defective:
            pixels[one, 96:144, 96:144] = np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1)))
        unseen = np.zeros((60, 256, 256), bool)
        if masked:
            unseen[defective, 92:148, 92:148] = True
        found = self.find(pixels, np.arange(60) >= 30, unseen)
        assert found  # an aligned part has patterns
        assert not any(one.p_value < 0.05 for one in found)

    def test_likeness_is_the_mean_cosine_of_all_pairs(self):
        rng = np.random.default_rng(5)
        vectors = rng.normal(0, 1, (9, 40)).astype(np.float32) * 40  # long enough not to count as quiet
        likeness, members = patterns._search(vectors @ vectors.T)
        for place in range(9):
            chosen = vectors[members[place]]
            unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
            pairs = [unit[i] @ unit[j] for i in range(len(unit)) for j in range(len(unit)) if i != j]
            assert len(set(members[place].tolist()) | {place}) == patterns.CORE_IMAGES
            assert likeness[place] == pytest.approx(np.mean(pairs), abs=1e-5)
