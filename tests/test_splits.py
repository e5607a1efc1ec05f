"""Which images are looked at where not all can be."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from blemish.datasets.splits import evenly


@given(st.integers(1, 500), st.integers(2, 60))
def test_a_choice_reaches_from_the_first_to_the_last_in_even_steps(things: int, most: int) -> None:
    chosen = evenly(range(100, 100 + things), most)
    assert len(chosen) == min(things, most)
    assert (chosen[0], chosen[-1]) == (100, 99 + things)
    steps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert min(steps, default=1) >= 1
    assert max(steps, default=1) - min(steps, default=1) <= 1


def test_of_nothing_there_is_nothing() -> None:
    assert evenly([], 5) == []
