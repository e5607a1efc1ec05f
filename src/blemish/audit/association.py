"""Is what some images share on one side only? One test of everything that the searches found in the images.

The searches (`patterns`, `colours`, `frames`, `looks`) say what some images share, which images, and how striking that
is; on which side an image is they do not know. What is left is a plain question about a table of four numbers, and
Fisher's exact test answers it. There are many such tables, so the sides are dealt out anew `SHUFFLES` times, and each
table is compared with the most one-sided of all tables under every deal (Westfall and Young's single-step min p). If
what images share has nothing to do with their sides, the chance of any flag is at most the level, and candidates that
are much the same, or have too few carriers to be one-sided at all, cost little. A table's p-value is divided by its
weight: every search has the same, shared out by the squares of how striking its findings are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from blemish.audit.data import Mask

SHUFFLES = 1999
ONE_SIDED = 4  # times as frequent on one side as on the other, at least
CANDIDATES = 8  # of each search
THE_SAME = 0.5  # of the carriers of either, at least

Kind = Literal["frame", "pattern", "colour", "look"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # what says more comes first
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shared:
    """Something that some images share.

    Attributes:
        kind: which search found it.
        what: it in words, after "12 images …".
        carriers: bool (N,), the images that have it.
        seen: bool (N,), the images that can be asked whether they have it.
        region: bool (S, S), where it lies; None: everywhere.
        striking: how far beyond chance it is shared; comparable within a search.
    """

    kind: Kind
    what: str
    carriers: Mask
    seen: Mask
    region: Mask | None
    striking: float


@dataclass(frozen=True, eq=False)
class OneSided:
    """What images share, and how it lies to the two sides.

    Attributes:
        shared: what it is.
        counts: carriers on the good and on the anomalous side.
        totals: images on either side that can be asked.
        alone: Fisher's two-sided p-value; infinite where it is not `ONE_SIDED` times as frequent on one side.
        p_value: of any so one-sided a finding by chance.
    """

    shared: Shared
    counts: tuple[int, int]
    totals: tuple[int, int]
    alone: float
    p_value: float

    @property
    def anomalous_side(self) -> bool:
        """Whether it is more frequent in anomalous images."""
        return self.counts[1] * self.totals[0] > self.counts[0] * self.totals[1]


def find_one_sided(found: Sequence[Shared], anomalous: Mask, *, seed: int = 0) -> list[OneSided]:
    """What was found, the most one-sided first. `anomalous` (N,) is the side of each image; the seed deals them out."""
    weighted = weigh(found)
    if not weighted:
        return []
    rng = np.random.default_rng(seed)
    sides = np.stack([anomalous, *(rng.permutation(anomalous) for _ in range(SHUFFLES))])  # (1 + SHUFFLES, N)
    p_values = np.stack([_p_values(one, sides) for one, _ in weighted])  # (K, 1 + SHUFFLES)
    p_weighted = p_values / np.array([weight for _, weight in weighted])[:, None]
    lowest = p_weighted[:, 1:].min(axis=0)
    tested = []
    for (one, _), alone, observed in zip(weighted, p_values[:, 0], p_weighted[:, 0], strict=True):
        good, bad = one.seen & ~anomalous, one.seen & anomalous
        # A finding that is not one-sided has an infinite p-value, and so has many a deal of the sides.
        beaten = np.inf if np.isinf(observed) else int((lowest <= observed * (1 + 1e-9)).sum())
        tested.append(
            OneSided(
                shared=one,
                counts=(int((one.carriers & good).sum()), int((one.carriers & bad).sum())),
                totals=(int(good.sum()), int(bad.sum())),
                p_value=min(1.0, (1 + beaten) / (1 + SHUFFLES)),
                alone=float(alone),
            )
        )
    return _told_once(tested)


def _told_once(tested: Sequence[OneSided]) -> list[OneSided]:
    """The most one-sided first; without those most of whose carriers have something more one-sided at a place that
    meets theirs, which then stands for both: a stamp has the same shade on some images, and makes some lighter."""
    kept: list[OneSided] = []
    for one in sorted(tested, key=lambda one: (one.alone, KINDS.index(one.shared.kind))):
        least = THE_SAME * one.shared.carriers.sum()
        for place, other in enumerate(kept):
            if _meet(one.shared, other.shared) and _both(one.shared, other.shared) >= least:
                kept[place] = replace(other, p_value=min(one.p_value, other.p_value))
                break
        else:
            kept.append(one)
    return sorted(kept, key=lambda one: (one.p_value, one.alone))


def weigh(found: Sequence[Shared]) -> list[tuple[Shared, float]]:
    """The most striking of each search with their weights, which sum to 1."""
    kinds = [list(some) for _, some in groupby(sorted(found, key=lambda one: one.kind), key=lambda one: one.kind)]
    weighted = []
    for some in kinds:
        kept = distinct(some)
        whole = sum(one.striking**2 for one in kept)
        weighted += [(one, one.striking**2 / whole / len(kinds)) for one in kept]
    return weighted


def distinct(found: Sequence[Shared]) -> list[Shared]:
    """The most striking `CANDIDATES`, without those that are much the same as one before."""
    kept: list[Shared] = []
    for one in sorted(found, key=lambda one: -one.striking):
        if len(kept) == CANDIDATES:
            break
        if not any(_same(one, other) for other in kept):
            kept.append(one)
    return kept


def _same(one: Shared, other: Shared) -> bool:
    """Whether most carriers of either are those of both, at places that meet."""
    return _meet(one, other) and _both(one, other) >= THE_SAME * (one.carriers | other.carriers).sum()


def _both(one: Shared, other: Shared) -> int:
    return int((one.carriers & other.carriers).sum())


def _meet(one: Shared, other: Shared) -> bool:
    return one.region is None or other.region is None or bool((one.region & other.region).any())


def _p_values(one: Shared, sides: Mask) -> Floats:
    """Fisher's two-sided p-value (S,) of the table that each deal of the sides (S, N) makes; infinite where it is not
    one-sided."""
    seen, held = int(one.seen.sum()), int(one.carriers.sum())
    totals: Counts = sides[:, one.seen].sum(axis=1)  # anomalous images among those seen
    counts: Counts = sides[:, one.carriers].sum(axis=1)
    p_values = np.full(len(sides), np.inf)
    for total in np.unique(totals).tolist():
        possible = np.arange(held + 1)
        mass = hypergeom.pmf(possible, seen, total, held)
        table = np.array([mass[mass <= own * (1 + 1e-7)].sum() for own in mass])
        bad, good = possible * (seen - total), (held - possible) * total  # rates, over a common denominator
        table[~((bad >= ONE_SIDED * good) | (good >= ONE_SIDED * bad)) | (mass == 0)] = np.inf
        dealt = totals == total
        p_values[dealt] = table[counts[dealt]]
    return p_values
