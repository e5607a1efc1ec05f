"""Old names of the Python interface: each stays for one release and warns where it is used."""

import warnings
from collections.abc import Mapping
from typing import Any

from blemish.errors import BlemishError


def warn_renamed(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warns that a name is deprecated; Python shows it once for each line that uses it.

    Args:
        old: the old name, as a user writes it.
        new: what to write instead.
        stacklevel: how many calls lie between this function and the user's line, itself included.
    """
    message = f"{old} is now called {new}; the old name goes with the next release"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


def renamed_attribute(old: str, new: str) -> Any:
    """A read-only property for a class whose attribute `old` is now called `new`."""

    def get(self: object) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", f"{type(self).__name__}.{new}")
        return getattr(self, new)

    return property(get, doc=f"Deprecated: use `{new}`.")


def renamed_option(options: Mapping[str, Any], *, old: str, new: str, value: Any, function: str) -> Any:
    """The value of an option that may also be given under its old name, by keyword.

    Args:
        options: the function's further keywords (`**options`); only `old` may be among them.
        old: the option's old name.
        new: its name.
        value: what was given under its name; None if nothing was.
        function: how the function is called in messages.

    Raises:
        TypeError: a keyword that the function does not have, as Python raises it.
        BlemishError: both names are given.
    """
    for name in options:
        if name != old:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    if old not in options:
        return value
    if value is not None:
        raise BlemishError(f"{old} is an old name of {new}: give {new} alone")
    warn_renamed(f"{function}({old}=...)", f"{function}({new}=...)", stacklevel=3)
    return options[old]
