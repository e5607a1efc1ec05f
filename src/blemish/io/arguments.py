"""Arguments of the Python API: checked as the command line checks its options, before any work."""

import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path

from blemish.errors import BlemishError

# Options of `train` that earlier releases had, and why they do nothing any more; the next release refuses them.
GONE = {
    "anomalies": "a synthetic anomaly is asked for by name (synthetic, --synthetic)",
    "cells": "the default method compares images at three depths, whatever they show",
}


def shown(value: object) -> str:
    """A value as Python writes it, on one line of at most 60 characters."""
    return " ".join(repr(value).split())[:60]


def one_path(path: object, what: str) -> Path:
    """A path where only one can stand. Raises BlemishError for anything else, such as a list; `what` names it."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise BlemishError(f"{what} must be one path, not {type(path).__name__}: {shown(path)}")
    text = os.fsdecode(path)
    if not text:
        raise BlemishError(f"{what} must be one path, not an empty text")
    if "\0" in text:
        raise BlemishError(f"{what} must be one path, not a file's content: {shown(path)}")
    return Path(text)


def several_paths(paths: object, what: str) -> tuple[Path, ...]:
    """One path or several. Raises BlemishError for anything else; `what` names one of them."""
    if isinstance(paths, str | bytes | os.PathLike):
        return (one_path(paths, what),)
    if not isinstance(paths, Iterable):
        raise BlemishError(f"{what} must be a path or a list of them, not {type(paths).__name__}: {shown(paths)}")
    return tuple(one_path(path, what) for path in paths)


def whole(value: object, what: str, *, least: int, most: int | None = None) -> int:
    """A whole number, from `least` to `most`. Raises BlemishError for anything else; `what` names it."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BlemishError(f"{what} must be a whole number, not {shown(value)}")
    number = int(value)
    if number < least or (most is not None and number > most):
        ends = f"{least} or more" if most is None else f"from {least} to {most}"
        raise BlemishError(f"{what} must be {ends}, not {number}")
    return number


def rate(value: object, what: str) -> float:
    """A number between 0 and 1. Raises BlemishError for anything else; `what` names it."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise BlemishError(f"{what} must lie between 0 and 1, such as 0.01, not {shown(value)}")
    return float(value)


def one_of(value: object, what: str, known: Iterable[object]) -> None:
    """Raises BlemishError for a value that is none of those known; `what` names it."""
    known = tuple(known)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in known):
        raise BlemishError(f"{what} must be one of {', '.join(map(str, known))}, not {shown(value)}")


def name(value: object, what: str) -> None:
    """Raises BlemishError for what is no text, or an empty one; `what` names it."""
    if not isinstance(value, str) or not value:
        raise BlemishError(f"{what} must be a name, not {shown(value)}")
