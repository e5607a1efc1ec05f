"""Choosing some of many."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.datasets.sampling import evenly, every_nth


@given(st.integers(1, 500), st.integers(2, 60))
def test_a_choice_reaches_from_the_first_to_the_last_in_even_steps(things: int, most: int) -> None:
    chosen = evenly(range(100, 100 + things), most)
    assert len(chosen) == min(things, most)
    assert (chosen[0], chosen[-1]) == (100, 99 + things)
    steps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert min(steps, default=1) >= 1
    assert max(steps, default=1) - min(steps, default=1) <= 1


@pytest.mark.parametrize("choose", [evenly, every_nth])
def test_of_nothing_there_is_nothing(choose) -> None:
    assert list(choose([], 5)) == []


@given(st.integers(1, 500), st.integers(1, 60))
def test_every_nth_takes_the_least_step_that_leaves_few_enough(things: int, most: int) -> None:
    chosen = every_nth(range(things), most)
    step = next(step for step in itertools.count(1) if len(range(0, things, step)) <= most)
    assert list(chosen) == list(range(0, things, step))
