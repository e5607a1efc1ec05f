"""Outsiders among good images: when anything is left out, and what."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.outsiders import (
    BY_WIDE_CELLS,
    FEWEST,
    IN_ANY_POSE,
    UPRIGHT,
    Suspicion,
    holds_outsiders,
    insiders,
)


def distances(*, ordinary: int, far: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.permutation(np.concatenate([rng.uniform(0.9, 1.1, ordinary), rng.uniform(2, 3, far)])).astype(np.float32)


@pytest.mark.parametrize(
    ("ordinary", "far", "expected"),
    [
        (200, 0, False),
        (196, 4, False),  # one in fifty: rare good ones
        (190, 10, True),
        (160, 40, True),
        (FEWEST - 11, 10, False),  # too few images to tell
        (FEWEST - 10, 10, True),
    ],
)
def test_some_are_rare_and_many_are_something_else(ordinary: int, far: int, expected: bool) -> None:
    assert holds_outsiders(distances(ordinary=ordinary, far=far)) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.5, 4, width=32), min_size=1, max_size=200),
    st.sampled_from([IN_ANY_POSE, UPRIGHT, BY_WIDE_CELLS]),
)
def test_what_is_ordinary_stays_in_its_order(values: list[float], suspicion: Suspicion) -> None:
    farthest = np.array(values, np.float32)
    kept = insiders(farthest, suspicion)
    middle = sorted(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]
    limit = suspicion.ordinary * sum(middle) / len(middle)
    assert (
        list(kept) == [place for place, value in enumerate(values) if value <= np.float32(limit)]
        or np.isclose(farthest, limit).any()
    )
    assert len(kept) * 2 >= len(values)  # the nearer half always stays


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 100))
def test_the_unit_does_not_matter(seed: int, unit: float) -> None:
    farthest = distances(ordinary=150, far=10, seed=seed)
    for suspicion in (IN_ANY_POSE, UPRIGHT, BY_WIDE_CELLS):
        assert holds_outsiders(farthest, suspicion) == holds_outsiders(farthest * np.float32(unit), suspicion)
        assert suspicion.far > suspicion.ordinary


@pytest.mark.parametrize(
    ("far", "many", "expected"),
    [(1.9, 0.06, True), (1.9, 0.07, False), (3.1, 0.001, False), (2.9, 0.07, False)],
)
def test_a_suspicion_says_how_many_are_too_many_and_what_is_far(far: float, many: float, expected: bool) -> None:
    farthest = distances(ordinary=150, far=10)  # 6.25 % at 2 to 3 times the usual
    assert holds_outsiders(farthest, Suspicion(far, many, ordinary=1.3, rounds=1)) == expected


def test_upright_parts_are_suspected_sooner() -> None:
    farthest = np.array([1.0] * 97 + [1.5] * 3, np.float32)
    assert holds_outsiders(farthest, UPRIGHT)
    assert not holds_outsiders(farthest, IN_ANY_POSE)
