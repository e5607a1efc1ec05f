"""Cues on one side, against SciPy's Fisher test and simulations without any cue."""

import numpy as np
import pytest
from scipy.stats import fisher_exact, kstest

from blemish.auditing import association
from blemish.auditing.association import SharedCue, find_associations, weigh


class TestAssociation:
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

    def test_what_is_the_same_is_reported_once_by_the_more_one_sided(self):
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

    def test_what_some_of_the_carriers_share_besides_is_not_reported(self):
        region, seen = np.ones((4, 4), bool), np.ones(60, bool)
        stamp = SharedCue("pattern", "", np.arange(60) < 16, seen, region, 1.0)
        shade = SharedCue("colour", "", np.arange(60) < 7, seen, region, 1.0)
        other = SharedCue("colour", "", (np.arange(60) > 45), seen, region, 1.0)
        told = [one.cue for one in find_associations([shade, stamp, other], np.arange(60) < 20)]
        assert told == [stamp, other]

    def test_nothing_found_is_nothing_flagged(self):
        assert find_associations([], np.arange(9) > 4) == []
