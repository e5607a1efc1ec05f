"""Old names of the Python interface: each stays for one release and warns where it is used."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from blemish.errors import BlemishError

P = ParamSpec("P")
T = TypeVar("T")


def renamed(old: str, new: str) -> str:
    """The sentence about an old name, for Python and the command line."""
    return f"{old} is now called {new}; the next release removes the old name"


def warn_renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warns that a name is deprecated; Python shows it once for each line that uses it.

    Args:
        old: the old name, as a user writes it.
        new: what to write instead.
        stacklevel: how many calls lie between this function and the user's line, itself included.
    """
    warnings.warn(renamed(old, new), DeprecationWarning, stacklevel=stacklevel + 1)


def renamed_attribute(old: str, new: str) -> Any:
    """A read-only property for a class whose attribute `old` is now called `new`."""

    def get(self: object) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", f"{type(self).__name__}.{new}")
        return getattr(self, new)

    return property(get, doc=f"Deprecated: use `{new}`.")


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
                name = function.__qualname__
                warn_renamed(f"{name}({old}=...)", f"{name}({new}=...)")
                given[new] = given.pop(old)
            return function(*args, **given)

        return with_new_names

    return decorate
