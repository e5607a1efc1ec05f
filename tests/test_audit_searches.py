"""The searches of an audit, against slow or other people's versions, planted cues and simulations of no cue at all."""

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from blemish.audit import patterns, places, statistics
from blemish.audit.clusters import affinity, cluster, cut, shapes
from blemish.audit.patterns import find_patterns
from blemish.audit.places import shared_places
from blemish.audit.statistics import find_look, measure

SIDE = 64


def spots(centres: np.ndarray, *, side: int = SIDE, radius: float = 5.0) -> np.ndarray:
    """Maps (N, side, side) with a bell of height 1 at each centre (N, 2)."""
    rows, columns = np.indices((side, side))
    squares = (rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2
    return np.exp(-squares / (2 * radius**2)).astype(np.float32)


class TestClusters:
    def test_groups_that_lie_apart_are_found_and_counted(self):
        rng = np.random.default_rng(0)
        truth = np.repeat([0, 1, 2], [20, 15, 12])
        centres = np.array([[14, 14], [50, 14], [30, 52]])[truth] + rng.normal(0, 1.5, (len(truth), 2))
        maps = spots(centres) * rng.uniform(0.5, 9, (len(truth), 1, 1)).astype(np.float32)
        found = cluster(maps)
        assert found.number == 3
        assert adjusted_rand_score(truth, found.labels) == 1
        assert np.bincount(found.labels).tolist() == [20, 15, 12]  # the largest first

    @pytest.mark.parametrize("seed", range(5))
    def test_cuts_as_scikit_learn_does(self, seed):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 3, 60)
        points = np.array([[0, 0], [4, 0], [2, 4]])[truth] + rng.normal(0, 0.9, (60, 2))
        graph = affinity(points)
        reference = SpectralClustering(3, affinity="precomputed", assign_labels="cluster_qr").fit_predict(graph)
        assert adjusted_rand_score(reference, cut(graph, number=3).labels) > 0.9

    def test_brightness_and_a_constant_make_no_difference(self):
        maps = spots(np.array([[20, 20], [40, 40]]))
        np.testing.assert_allclose(shapes(maps), shapes(3 * maps + 7), atol=1e-6)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_too_few_are_one_group(self, count):
        assert cluster(np.ones((count, 8, 8), np.float32)).labels.tolist() == [0] * count


class TestPlaces:
    def test_a_shared_place_is_found_with_its_members(self):
        rng = np.random.default_rng(1)
        centres = rng.uniform(6, 58, (40, 2))
        centres[:14] = (52, 10)
        (first, *_) = shared_places(spots(centres), 0.6, level=0.01)
        assert first.p_value < 0.01
        assert set(range(14)) <= set(first.members.tolist())
        assert first.region[52, 10]
        assert first.area < 0.05

    def test_what_is_taken_out_is_not_found_again(self):
        centres = np.concatenate(
            [np.full((12, 2), 12), np.full((12, 2), 50), np.random.default_rng(2).uniform(6, 58, (12, 2))]
        )
        first, second, *rest = shared_places(spots(centres), 0.6, level=0.01)
        assert not (first.region & second.region).any()
        assert all(place.p_value > 0.01 for place in rest)

    def test_moving_is_what_a_loop_does(self):
        cells = np.random.default_rng(3).random((5, places.GRID, places.GRID)) < 0.1
        offsets = np.random.default_rng(4).integers(-places.JITTER, places.JITTER + 1, (5, 2, 1))
        slow = np.zeros((places.GRID, places.GRID), int)
        for one, (down, right) in zip(cells, offsets[:, :, 0], strict=True):
            for row, column in np.argwhere(one):
                slow[(row - down) % places.GRID, (column - right) % places.GRID] += 1
        np.testing.assert_array_equal(places._moved(cells, np.random.default_rng(4)), slow)

    def test_p_values_are_uniform_where_nothing_is_shared(self, monkeypatch):
        monkeypatch.setattr(places, "REPEATS", 49)
        p_values = []
        for seed in range(60):
            centres = np.random.default_rng(seed).uniform(-0.5, 63.5, (25, 2))
            maps = spots(np.concatenate([centres]))
            p_values.append(shared_places(maps, 0.6, level=0.01, seed=seed)[0].p_value)
        # A p-value must not be small too often; the discreteness of counts makes it rather too large.
        assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.01


class TestLooks:
    @staticmethod
    def images(seed: int, count: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        ground = rng.uniform(60, 190, (count, 1, 1, 3)) + rng.normal(0, 25, (count, 24, 24, 3))
        return ground.clip(0, 255).astype(np.uint8)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_lamp_over_one_side_is_found(self, anomalous_side):
        pixels = self.images(0, 120)
        anomalous = np.arange(120) >= 70
        lit = np.flatnonzero(anomalous == anomalous_side)[:25]
        pixels[lit] = (pixels[lit] * 0.2 + (120, 90, 30)).astype(np.uint8)
        look = find_look(measure(pixels, ignored=np.zeros((24, 24), bool)), anomalous)
        assert look is not None
        assert look.p_value <= 0.002
        assert look.anomalous_side == anomalous_side
        assert set(np.flatnonzero(look.carriers)) <= set(lit)

    def test_a_lamp_over_both_sides_is_none(self):
        pixels = self.images(1, 120)
        pixels[::4] = (pixels[::4] * 0.2 + (120, 90, 30)).astype(np.uint8)
        look = find_look(measure(pixels, ignored=np.zeros((24, 24), bool)), np.arange(120) >= 60)
        assert look is None or look.p_value > 0.05

    def test_ignored_pixels_do_not_count(self):
        pixels = self.images(2, 6)
        ignored = np.zeros((24, 24), bool)
        ignored[:, :8] = True
        before = measure(pixels, ignored=ignored)["colour of the darkest pixels"].copy()
        pixels[:, :, :8] = 0
        np.testing.assert_array_equal(measure(pixels, ignored=ignored)["colour of the darkest pixels"], before)

    def test_tails_are_the_hypergeometric_distributions(self):
        upper, lower = statistics._tails(30, 9)
        for drawn in range(31):
            for found in range(10):
                if found <= drawn and drawn - found <= 21:
                    law = hypergeom(30, 9, drawn)
                    assert np.exp(upper[drawn, found]) == pytest.approx(law.sf(found - 1), rel=1e-9)
                    assert np.exp(lower[drawn, found]) == pytest.approx(law.cdf(found), rel=1e-9)

    def test_p_values_are_uniform_where_sides_mean_nothing(self, monkeypatch):
        monkeypatch.setattr(statistics, "SHUFFLES", 49)
        p_values = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            values = {"one": rng.normal(0, 6, (60, 1)) + 30 * rng.integers(0, 6, (60, 1))}
            look = find_look(values, rng.permutation(np.arange(60) >= 30), seed=seed)
            p_values.append(1.0 if look is None else look.p_value)
        assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.01


class TestPatterns:
    @staticmethod
    def images(seed: int, count: int) -> np.ndarray:
        """Coloured clouds, no two alike."""
        rng = np.random.default_rng(seed)
        small = rng.uniform(40, 215, (count, 32, 32, 3))
        return np.kron(small, np.ones((1, 8, 8, 1))).astype(np.uint8)

    @staticmethod
    def mark(pixels: np.ndarray) -> None:
        """A fixed little picture at the lower right, in place."""
        stamp = np.random.default_rng(99).random((6, 12)) < 0.5
        pixels[:, 216:240, 188:236] = np.where(np.kron(stamp, np.ones((4, 4)))[None, ..., None] > 0, 250, 10)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_mark_on_one_side_is_found_where_it_lies(self, anomalous_side):
        pixels, anomalous = self.images(0, 60), np.arange(60) >= 30
        marked = np.flatnonzero(anomalous == anomalous_side)[:9]
        some = pixels[marked]
        self.mark(some)
        pixels[marked] = some
        first = find_patterns(pixels, anomalous)[0]
        assert np.flatnonzero(first.carriers).tolist() == marked.tolist()
        assert first.p_value < 0.01
        assert first.one_sided
        assert first.anomalous_side == anomalous_side
        rows, columns = np.nonzero(first.region)
        assert rows.min() >= 176
        assert columns.min() >= 144

    def test_a_mark_on_both_sides_is_not_one_sided(self):
        pixels, anomalous = self.images(1, 60), np.arange(60) >= 30
        some = pixels[::3]
        self.mark(some)
        pixels[::3] = some
        first = max(find_patterns(pixels, anomalous), key=lambda one: one.carriers.sum())
        assert first.carriers.sum() == 20
        assert not first.one_sided
        assert first.p_value > 0.5

    def test_pixels_that_are_not_seen_hold_no_pattern(self):
        pixels, anomalous = self.images(2, 60), np.arange(60) >= 30
        some = pixels[30:39]
        self.mark(some)
        pixels[30:39] = some
        unseen = np.zeros((60, 256, 256), bool)
        unseen[30:39, 208:248, 180:244] = True
        assert not any(one.p_value < 0.05 and one.one_sided for one in find_patterns(pixels, anomalous, unseen=unseen))

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
        found = find_patterns(pixels, np.arange(60) >= 30, unseen=unseen)
        assert found  # an aligned part has patterns
        assert not any(one.p_value < 0.05 and one.one_sided for one in found)

    def test_likeness_is_the_mean_cosine_of_all_pairs(self):
        rng = np.random.default_rng(5)
        vectors = rng.normal(0, 1, (9, 40)).astype(np.float32) * 40  # long enough not to count as quiet
        products = (vectors @ vectors.T)[None]
        likeness, members = patterns._search(products, np.array([0, 4]), (2, 4))
        for place in range(2):
            chosen = vectors[members[0, place]]
            unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
            pairs = [unit[i] @ unit[j] for i in range(len(unit)) for j in range(len(unit)) if i != j]
            assert len(set(members[0, place].tolist())) == patterns.CORE
            assert likeness[0, place] == pytest.approx(np.mean(pairs), abs=1e-5)
