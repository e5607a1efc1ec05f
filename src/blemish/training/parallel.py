"""Work shared among cores by pieces, each of which one thread computes.

Threads that share one small piece wait for each other again and again. While they spin, they take the processor from
other work; where they sleep, waking them takes longer than the piece itself. Pieces of their own wait for nobody.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def each_on_one_core(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """What a function makes of each piece, in their order, as many at a time as torch has threads."""
    threads = torch.get_num_threads()
    if threads == 1 or len(pieces) == 1:
        return [function(piece) for piece in pieces]
    with ThreadPoolExecutor(min(threads, len(pieces)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            return list(pool.map(function, pieces))
        finally:
            torch.set_num_threads(threads)  # with which threads begin that others start later
