"""Names that the release before had for methods, modes and settings: still understood, and found in recorded runs."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

METHODS: Mapping[str, str] = {"closed-form": "gaussian"}
MODES: Mapping[str, str] = {"sound": "corrected"}
SETTINGS: Mapping[str, str] = {"swapped": "swap_roles"}
_RECORDS: Mapping[str, str] = {r"\bTrainingSchedule\(": "Training(", r"\bswap_roles=": "swapped="}


def present_name(name: str, renamed: Mapping[str, str]) -> str:
    """The present name of a method, mode or setting, with a DeprecationWarning where another was given."""
    if name not in renamed:
        return name
    warnings.warn(f"{name!r} is now called {renamed[name]!r}", DeprecationWarning, stacklevel=3)
    return renamed[name]


def former_name(name: str, renamed: Mapping[str, str]) -> str:
    """The name that the release before had for it."""
    return next((former for former, present in renamed.items() if present == name), name)


def run_key(*dependencies: Any) -> str:
    """A digest of what a run depends on.

    It is taken over the names that records and settings had in the release before: its finished runs stay valid.
    """
    text = repr(dependencies)
    for present, former in _RECORDS.items():
        text = re.sub(present, former, text)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
