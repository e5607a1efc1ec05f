"""Images and maps for the searches of an audit."""

import numpy as np

from helpers.images import SIDE


def clouds(seed: int, count: int) -> np.ndarray:
    """Coloured clouds (count, 256, 256, 3), no two alike."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(40, 215, (count, 32, 32, 3))
    return np.kron(small, np.ones((1, 8, 8, 1))).astype(np.uint8)


def nothing_unseen(pixels: np.ndarray) -> np.ndarray:
    return np.zeros(pixels.shape[:3], bool)


def first_of_side(anomalous: np.ndarray, side: bool, count: int) -> np.ndarray:
    """The first images of a side."""
    return np.flatnonzero(anomalous == side)[:count]


def spots(centres: np.ndarray, *, side: int = SIDE, radius: float = 5.0) -> np.ndarray:
    """Maps (N, side, side) with a bell of height 1 at each centre (N, 2)."""
    rows, columns = np.indices((side, side))
    squares = (rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2
    return np.exp(-squares / (2 * radius**2)).astype(np.float32)
