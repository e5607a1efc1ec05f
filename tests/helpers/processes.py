"""Several processes that train together, as threads of one process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch

from blemish.training.distributed import ProcessGroup


class Fabric:
    """As much of Lightning's as `ProcessGroup` needs, over threads of one process instead of processes."""

    device = torch.device("cpu")

    def __init__(self, rank: int, number: int, met: Barrier, table: list[Any]) -> None:
        self.global_rank, self.world_size = rank, number
        self.barrier = met.wait
        self._table = table

    def all_reduce(self, tensor: torch.Tensor, *, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        self._table[self.global_rank] = tensor.clone()
        self.barrier()
        total = torch.stack(self._table).sum(0, dtype=tensor.dtype)
        self.barrier()
        return total


def on_each_process(number: int, function: Callable[[ProcessGroup], Any]) -> list[Any]:
    """What the function gives in each of so many processes that run at a time."""
    met, table = Barrier(number, timeout=30), [None] * number
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(function, [ProcessGroup(Fabric(rank, number, met, table)) for rank in range(number)]))
