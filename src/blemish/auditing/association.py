"""Is what some images share on one side only? One test of everything that the searches found in the images.

The searches (`patterns`, `colours`, `borders`, `appearance`) say what some images share, which images, and how strong
that is; on which side an image is they do not know. What is left is a plain question about a table of four numbers, and
Fisher's exact test answers it. There are many such tables, so the sides are permuted `PERMUTATIONS` times, and each
table is compared with the most one-sided of all tables under every permutation (Westfall and Young's single-step
min p). If what images share has nothing to do with their sides, the chance of any flag is at most the level; candidates
that are much the same, or have too few carriers to be one-sided at all, cost little. A table's p-value is divided by
its weight: every search has the same, shared out by the squares of the strengths of its findings.

Fisher's test is written out rather than taken from SciPy, since it is needed for all permutations at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from blemish.auditing.data import Mask

PERMUTATIONS = 1999
MIN_FREQUENCY_RATIO = 4  # times as frequent on one side as on the other
MAX_CANDIDATES = 8  # of each search
MIN_OVERLAP = 0.5  # of the carriers, from which on two candidates are the same

Kind = Literal["frame", "pattern", "colour", "look"]  # as in JSON
KINDS: tuple[Kind, ...] = get_args(Kind)  # what says more comes first
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SharedCue:
    """Something that some images share.

    Attributes:
        kind: which search found it.
        what: it in words, after "12 images …".
        carriers: bool (N,), the images that have it.
        seen: bool (N,), the images that show whether they have it.
        region: bool (S, S), where it lies; None: everywhere.
        strength: how far beyond chance it is shared; comparable within a search.
    """

    kind: Kind
    what: str
    carriers: Mask
    seen: Mask
    region: Mask | None
    strength: float


@dataclass(frozen=True, eq=False)
class Association:
    """What images share, and how it is distributed over the two sides.

    Attributes:
        cue: what it is.
        counts: carriers on the good and on the anomalous side.
        totals: images on either side that show whether they have it.
        fisher_p_value: two-sided, of this table alone; infinite where it is not `MIN_FREQUENCY_RATIO` times as frequent
            on one side.
        p_value: of any so one-sided a finding by chance.
    """

    cue: SharedCue
    counts: tuple[int, int]
    totals: tuple[int, int]
    fisher_p_value: float
    p_value: float

    @property
    def anomalous_side(self) -> bool:
        """Whether it is more frequent in anomalous images."""
        return self.counts[1] * self.totals[0] > self.counts[0] * self.totals[1]


def find_associations(cues: Sequence[SharedCue], anomalous: Mask, *, seed: int = 0) -> list[Association]:
    """Tests which cues lie on one side.

    Args:
        cues: what the searches found.
        anomalous: bool (N,), the side of each image.
        seed: decides the permutations.

    Returns:
        The most one-sided first.
    """
    weighted = weigh(cues)
    if not weighted:
        return []
    rng = np.random.default_rng(seed)
    sides = np.stack([anomalous, *(rng.permutation(anomalous) for _ in range(PERMUTATIONS))])  # (1 + PERMUTATIONS, N)
    p_values = np.stack([_p_values(cue, sides) for cue, _ in weighted])  # (K, 1 + PERMUTATIONS)
    p_weighted = p_values / np.array([weight for _, weight in weighted])[:, None]
    lowest = p_weighted[:, 1:].min(axis=0)
    tested = []
    for (cue, _), alone, observed in zip(weighted, p_values[:, 0], p_weighted[:, 0], strict=True):
        good, bad = cue.seen & ~anomalous, cue.seen & anomalous
        # A cue that is not one-sided has an infinite p-value, and so it has under many a permutation.
        as_low = np.inf if np.isinf(observed) else int((lowest <= observed * (1 + 1e-9)).sum())
        tested.append(
            Association(
                cue=cue,
                counts=(int((cue.carriers & good).sum()), int((cue.carriers & bad).sum())),
                totals=(int(good.sum()), int(bad.sum())),
                p_value=min(1.0, (1 + as_low) / (1 + PERMUTATIONS)),
                fisher_p_value=float(alone),
            )
        )
    return _without_repetitions(tested)


def _without_repetitions(tested: Sequence[Association]) -> list[Association]:
    """The most one-sided first; without those most of whose carriers have something more one-sided at a place that
    overlaps theirs, which then stands for both: a stamp has the same shade on some images, and makes some lighter."""
    kept: list[Association] = []
    for candidate in sorted(tested, key=lambda found: (found.fisher_p_value, KINDS.index(found.cue.kind))):
        least = MIN_OVERLAP * candidate.cue.carriers.sum()
        for place, before in enumerate(kept):
            if _overlap(candidate.cue, before.cue) and _common_carriers(candidate.cue, before.cue) >= least:
                kept[place] = replace(before, p_value=min(candidate.p_value, before.p_value))
                break
        else:
            kept.append(candidate)
    return sorted(kept, key=lambda found: (found.p_value, found.fisher_p_value))


def weigh(cues: Sequence[SharedCue]) -> list[tuple[SharedCue, float]]:
    """The strongest of each search with their weights, which sum to 1."""
    kinds = [list(group) for _, group in groupby(sorted(cues, key=lambda cue: cue.kind), key=lambda cue: cue.kind)]
    weighted = []
    for of_kind in kinds:
        kept = distinct(of_kind)
        whole = sum(cue.strength**2 for cue in kept)
        weighted += [(cue, cue.strength**2 / whole / len(kinds)) for cue in kept]
    return weighted


def distinct(cues: Sequence[SharedCue]) -> list[SharedCue]:
    """The strongest `MAX_CANDIDATES`, without those that are much the same as one before."""
    kept: list[SharedCue] = []
    for cue in sorted(cues, key=lambda cue: -cue.strength):
        if len(kept) == MAX_CANDIDATES:
            break
        if not any(_is_same(cue, before) for before in kept):
            kept.append(cue)
    return kept


def _is_same(first: SharedCue, second: SharedCue) -> bool:
    """Whether most carriers of either are those of both, at places that overlap."""
    either = (first.carriers | second.carriers).sum()
    return bool(_overlap(first, second) and _common_carriers(first, second) >= MIN_OVERLAP * either)


def _common_carriers(first: SharedCue, second: SharedCue) -> int:
    return int((first.carriers & second.carriers).sum())


def _overlap(first: SharedCue, second: SharedCue) -> bool:
    return first.region is None or second.region is None or bool((first.region & second.region).any())


def _p_values(cue: SharedCue, sides: Mask) -> Floats:
    """Fisher's two-sided p-value (S,) of the table that each permutation of the sides (S, N) makes.

    Infinite where the table is not one-sided.
    """
    seen, held = int(cue.seen.sum()), int(cue.carriers.sum())
    totals: Counts = sides[:, cue.seen].sum(axis=1)  # anomalous images among those seen
    counts: Counts = sides[:, cue.carriers].sum(axis=1)
    p_values = np.full(len(sides), np.inf)
    for total in np.unique(totals).tolist():
        possible = np.arange(held + 1)
        mass = hypergeom.pmf(possible, seen, total, held)
        table = np.array([mass[mass <= own * (1 + 1e-7)].sum() for own in mass])
        bad, good = possible * (seen - total), (held - possible) * total  # rates, over a common denominator
        one_sided = (bad >= MIN_FREQUENCY_RATIO * good) | (good >= MIN_FREQUENCY_RATIO * bad)
        table[~one_sided | (mass == 0)] = np.inf
        permuted = totals == total
        p_values[permuted] = table[counts[permuted]]
    return p_values
