"""Renamed arguments of public functions: the old name goes on for one release and warns."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from blemish.errors import BlemishError

P = ParamSpec("P")
T = TypeVar("T")


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets a function take arguments by their old names too, with a DeprecationWarning for each.

    Example:
        @renamed_arguments(fresh="restart")
        def predict(paths, *, restart=False): ...

    Args:
        new_names: the new name of each old one.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def with_new_names(*args: P.args, **given: P.kwargs) -> T:
            for old, new in new_names.items():
                if old not in given:
                    continue
                if new in given:
                    raise BlemishError(f"{old} is the old name of {new}: give {new} alone")
                warnings.warn(
                    f"{old} is now called {new}; the old name goes with the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                given[new] = given.pop(old)
            return function(*args, **given)

        return with_new_names

    return decorate
