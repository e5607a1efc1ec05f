"""One seed for a piece of work that leaves the caller's own random numbers, warnings and log levels as they were."""

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # in which `seed_everything` leaves a word to other processes


@contextmanager
def caller_state_restored() -> Iterator[None]:
    """Puts back at the end what libraries change for the whole process.

    That is the global generators of Python, NumPy and torch, warning filters, levels of loggers, and the variables of
    the environment in which a seed is left.
    """
    python, numpy = random.getstate(), np.random.get_state()
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    levels = {logger: logger.level for logger in _loggers()}
    # Asking a GPU for its state would start it up: one that nobody has used has no state to lose.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for logger in _loggers():
            logger.setLevel(levels.get(logger, logger.level))
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _loggers() -> list[logging.Logger]:
    """Every logger that there is; names of which only children were asked for have none."""
    known = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(logger for logger in known if isinstance(logger, logging.Logger))]
