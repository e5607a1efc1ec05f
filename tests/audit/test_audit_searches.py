"""The searches of an audit, against slow or other people's versions, planted cues and simulations of no cue at all."""

import numpy as np
import pytest
from scipy.stats import fisher_exact, kstest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from blemish.audit import association, colours, locations, patterns
from blemish.audit.appearance import find_appearances, measure
from blemish.audit.association import Association, SharedCue, find_associations, weigh
from blemish.audit.borders import border_depths, find_borders
from blemish.audit.clusters import affinity, cluster, cut, shapes
from blemish.audit.colours import find_colours
from blemish.audit.locations import shared_locations
from blemish.audit.patterns import find_patterns

SIDE = 64


def clouds(seed: int, count: int) -> np.ndarray:
    """Coloured clouds (count, 256, 256, 3), no two alike."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(40, 215, (count, 32, 32, 3))
    return np.kron(small, np.ones((1, 8, 8, 1))).astype(np.uint8)


def nothing(pixels: np.ndarray) -> np.ndarray:
    return np.zeros(pixels.shape[:3], bool)


def chosen(anomalous: np.ndarray, side: bool, count: int) -> np.ndarray:
    """The first images of a side."""
    return np.flatnonzero(anomalous == side)[:count]


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


class TestOneSided:
    @staticmethod
    def cue(
        carriers: np.ndarray, *, strength: float = 1.0, seen: np.ndarray | None = None, kind="pattern"
    ) -> SharedCue:
        seen = np.ones(len(carriers), bool) if seen is None else seen
        return SharedCue(kind, "", carriers & seen, seen, None, strength)

    def test_a_table_has_fishers_p_value_where_it_is_one_sided(self):
        rng = np.random.default_rng(0)
        for _ in range(40):
            anomalous, seen = rng.random(50) < 0.4, rng.random(50) < 0.8
            one = self.cue(rng.random(50) < np.where(anomalous, 0.4, 0.1), seen=seen)
            held, bad = one.carriers, anomalous
            counts, totals = ((held & ~bad).sum(), (held & bad).sum()), ((seen & ~bad).sum(), (seen & bad).sum())
            (found,) = association._p_values(one, anomalous[None])
            rates = [count / total for count, total in zip(counts, totals, strict=True)]
            if max(rates) < 4 * min(rates):
                assert found == np.inf
            else:
                table = [[counts[0], totals[0] - counts[0]], [counts[1], totals[1] - counts[1]]]
                assert found == pytest.approx(fisher_exact(table).pvalue, rel=1e-6)

    def test_p_values_are_uniform_where_sides_mean_nothing(self, monkeypatch):
        monkeypatch.setattr(association, "PERMUTATIONS", 99)
        p_values = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            found = [
                self.cue(rng.random(80) < rng.uniform(0.05, 0.3), strength=rng.exponential(), kind=kind)
                for kind in ("pattern", "colour", "look")
                for _ in range(5)
            ]
            p_values.append(find_associations(found, rng.permutation(np.arange(80) >= 50), seed=seed)[0].p_value)
        assert kstest(p_values, "uniform", alternative="greater").pvalue > 0.01

    def test_a_striking_finding_is_hardly_hurt_by_weak_ones(self):
        rng = np.random.default_rng(1)
        anomalous = np.arange(400) >= 280
        # Sixteen good images of 280 against none of 120: hardly more than one can tell at all.
        real = self.cue(np.isin(np.arange(400), rng.permutation(280)[:16]), strength=9)
        weak = [self.cue(rng.random(400) < 0.03, strength=2) for _ in range(7)]
        first = find_associations([*weak, real], anomalous)[0]
        assert first.cue is real
        assert first.counts == (16, 0)
        alone = fisher_exact([[16, 264], [0, 120]]).pvalue
        assert alone <= first.p_value + 0.002
        assert first.p_value <= 2 * alone

    def test_weights_are_shared_among_searches_and_what_is_the_same_counts_once(self):
        carriers = np.arange(60) < 12
        first, again, elsewhere = (self.cue(np.roll(carriers, n), strength=s) for n, s in ((0, 3), (2, 2), (20, 1)))
        other = self.cue(carriers, kind="colour")
        weights = [(one.kind, weight) for one, weight in weigh([elsewhere, again, first, other])]
        assert weights == [("colour", 0.5), ("pattern", pytest.approx(0.45)), ("pattern", pytest.approx(0.05))]

    def test_what_is_the_same_is_told_once_by_the_more_one_sided(self):
        carriers = np.arange(60) < 12
        region = np.ones((4, 4), bool)
        seen = np.ones(60, bool)
        pattern, colour, look = (
            SharedCue(kind, "", some, seen, where, 1.0)
            for kind, some, where in (
                ("pattern", carriers, region),
                ("colour", np.arange(60) < 11, region),
                ("look", carriers, None),
            )
        )
        anomalous = np.arange(60) < 20
        assert [one.cue.kind for one in find_associations([colour, pattern], anomalous)] == ["pattern"]
        (told,) = find_associations([look, pattern], anomalous)
        assert told.cue.kind == "pattern"  # a place says more than a look

    def test_what_some_of_the_carriers_share_besides_is_not_told(self):
        region, seen = np.ones((4, 4), bool), np.ones(60, bool)
        stamp = SharedCue("pattern", "", np.arange(60) < 16, seen, region, 1.0)
        shade = SharedCue("colour", "", np.arange(60) < 7, seen, region, 1.0)
        other = SharedCue("colour", "", (np.arange(60) > 45), seen, region, 1.0)
        told = [one.cue for one in find_associations([shade, stamp, other], np.arange(60) < 20)]
        assert told == [stamp, other]

    def test_nothing_found_is_nothing_flagged(self):
        assert find_associations([], np.arange(9) > 4) == []


class TestLooks:
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
        lit = chosen(anomalous, anomalous_side, 25)
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


class TestFrames:
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
        framed = chosen(anomalous, anomalous_side, 8)
        some = pixels[framed]
        some[where] = (30, 60, 20)
        pixels[framed] = some
        shared = find_borders(pixels, unseen=nothing(pixels))
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
        assert [one.carriers.sum() for one in find_borders(pixels, unseen=nothing(pixels))] == []

    def test_a_plain_ground_and_a_soft_edge_are_no_border(self):
        plain, soft = np.full((2, 256, 256, 3), 200, np.uint8)
        plain[60:] = 90
        soft[:40] = np.linspace(60, 200, 40)[:, None, None]
        depths, _ = border_depths(np.stack([plain, soft]))
        assert depths.tolist() == [0, 0]

    def test_hidden_borders_do_not_count(self):
        pixels = clouds(2, 20)
        pixels[:6, :, :9] = 10
        unseen = nothing(pixels)
        unseen[:, 100, 4] = True
        assert find_borders(pixels, unseen=unseen) == []


class TestColours:
    @staticmethod
    def stamp(pixels: np.ndarray, rng: np.random.Generator) -> None:
        """Orange cells at the lower right, others on each image."""
        cells = rng.random((len(pixels), 8, 16)) < 0.5
        area = pixels[:, 216:240, 192:240]
        area[np.kron(cells, np.ones((1, 3, 3))) > 0] = (250, 140, 30)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_stamp_that_is_another_on_each_image_is_found_by_its_colour(self, anomalous_side):
        rng = np.random.default_rng(0)
        pixels, anomalous = clouds(0, 60), np.arange(60) >= 30
        stamped = chosen(anomalous, anomalous_side, 8)
        some = pixels[stamped]
        self.stamp(some, rng)
        pixels[stamped] = some
        found = find_associations(find_colours(pixels, unseen=nothing(pixels)), anomalous)[0]
        assert np.flatnonzero(found.cue.carriers).tolist() == stamped.tolist()
        assert found.p_value < 0.01
        assert "rgb(252 140 28)" in found.cue.what
        rows, columns = np.nonzero(found.cue.region)
        assert rows.min() >= 208
        assert columns.min() >= 192

    def test_a_colour_that_is_common_around_is_nothing(self):
        rng = np.random.default_rng(1)
        pixels = clouds(1, 60)
        for one in range(12):  # a patch somewhere near
            row, column = rng.integers(40, 190, 2)
            pixels[one, row : row + 20, column : column + 20] = (250, 140, 30)
        assert find_colours(pixels, unseen=nothing(pixels)) == []

    def test_what_is_hidden_is_not_compared(self):
        pixels = clouds(2, 30)
        self.stamp(pixels[:8], np.random.default_rng(2))
        unseen = nothing(pixels)
        unseen[:8, 210:245, 190:245] = True
        assert find_colours(pixels, unseen=unseen) == []

    def test_who_holds_a_colour_is_what_counting_says(self):
        rng = np.random.default_rng(3)
        coded = rng.integers(-1, 20, (3, 256, 256)).astype(np.int32)
        found = set(zip(*(part.tolist() for part in colours.holders(coded)), strict=True))
        slow = set()
        for image in range(3):
            for block in range(256):
                row, column = divmod(block, 16)
                values = coded[image, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                slow |= {(image, block, c) for c in range(20) if (values == c).sum() >= colours.MIN_PIXELS}
        assert found == slow


class TestPatterns:
    @staticmethod
    def mark(pixels: np.ndarray) -> None:
        """A fixed little picture at the lower right, in place."""
        stamp = np.random.default_rng(99).random((6, 12)) < 0.5
        pixels[:, 216:240, 188:236] = np.where(np.kron(stamp, np.ones((4, 4)))[None, ..., None] > 0, 250, 10)

    @staticmethod
    def find(pixels: np.ndarray, anomalous: np.ndarray, unseen: np.ndarray | None = None) -> list[Association]:
        shared = find_patterns(pixels, unseen=nothing(pixels) if unseen is None else unseen)
        return find_associations(shared, anomalous)

    @pytest.mark.parametrize("anomalous_side", [True, False])
    def test_a_mark_on_one_side_is_found_where_it_lies(self, anomalous_side):
        pixels, anomalous = clouds(0, 60), np.arange(60) >= 30
        marked = chosen(anomalous, anomalous_side, 9)
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
