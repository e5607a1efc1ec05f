"""Work by pieces, against the same work in one."""

import pytest
import torch

from blemish.training.parallel import each_on_one_core


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_results_come_in_the_order_of_the_pieces_on_one_thread_each(threads: int, count: int) -> None:
    found = each_on_one_core(lambda piece: (piece, torch.get_num_threads()), range(count))
    assert [piece for piece, _ in found] == list(range(count))
    if count > 1:
        assert {number for _, number in found} == {1}
    assert torch.get_num_threads() == threads


def test_a_fault_in_a_piece_is_raised_and_leaves_the_threads_as_they_were(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        each_on_one_core(lambda piece: 1 // piece, [1, 0, 1])
    assert torch.get_num_threads() == threads
