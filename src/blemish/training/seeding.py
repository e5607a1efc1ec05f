"""One seed for a piece of work that leaves the caller's own random numbers as they were."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

MAX_SEED = 2**32 - 1  # that NumPy takes
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # in which `seed_everything` leaves a word to other processes


@contextmanager
def generators_restored() -> Iterator[None]:
    """Puts the global generators of Python, NumPy and torch back at the end to where they were at the start."""
    python, numpy = random.getstate(), np.random.get_state()
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    # Asking a GPU for its state would start it up: one that nobody has used has no state to lose.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
