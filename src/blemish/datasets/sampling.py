"""Choosing some of many: evenly spread, or every n-th."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of them, spread evenly from the first to the last."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)]


def every_nth(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many of them, the first and from then on every n-th for the least n that will do."""
    return items[:: max(1, -(-len(items) // most))]
