"""The simple noises beside confetti that stand in for anomalies in the paper's code (Liznerski et al. 2021).

Each is a field of offsets in grey levels; `confetti.add_noise` puts it on an image. Unlike confetti's, sizes
are in pixels whatever the size of the image, as they are there.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
Field = NDArray[np.float32]
Noise = Callable[[Size, np.random.Generator, int], Field]
"""(size (H, W), rng, channels C) -> offsets, float32 (H, W, C)."""


def gaussian(size: Size, rng: np.random.Generator, channels: int) -> Field:
    """White noise of a standard deviation of 64."""
    return 64 * rng.standard_normal((*size, channels), dtype=np.float32)


def uniform(size: Size, rng: np.random.Generator, channels: int) -> Field:
    """White noise, even over 0..255: it only brightens."""
    return 255 * rng.random((*size, channels), dtype=np.float32)


def solid(size: Size, rng: np.random.Generator, channels: int) -> Field:
    """One random colour, 0..255, in every pixel."""
    return np.broadcast_to(rng.integers(256, size=channels), (*size, channels)).astype(np.float32)


def blob(size: Size, rng: np.random.Generator, channels: int) -> Field:
    """White squares of side 6."""
    covered = squares(size, rng, density=0.002, side=6)
    return np.repeat(np.float32(255) * covered[..., None], channels, axis=2)


def mixed_blob(size: Size, rng: np.random.Generator, channels: int) -> Field:
    """The sum of two layers of squares of side 34: one of random values 0..255 in every pixel, one white."""
    coloured = squares(size, rng, density=1e-5, side=34)
    white = squares(size, rng, density=1e-5, side=34)
    values = rng.integers(256, size=(*size, channels))
    return (values * coloured[..., None] + 255 * white[..., None]).astype(np.float32)


def squares(size: Size, rng: np.random.Generator, *, density: float, side: int) -> NDArray[np.bool_]:
    """Where upright squares lie, bool (H, W), cut at the border.

    Every pixel is a square's middle with probability `density`; a draw without any square is drawn again.
    """
    height, width = size
    while not (count := rng.binomial(height * width, density)):
        pass
    rows, cols = np.unravel_index(rng.choice(height * width, size=count, replace=False), size)
    covered = np.zeros(size, np.bool_)
    before = (side - 1) // 2  # an even side reaches one pixel farther down and right
    for row, col in zip(rows, cols, strict=True):
        top, left = row - before, col - before
        covered[max(0, top) : top + side, max(0, left) : left + side] = True
    return covered


NOISES: Mapping[str, Noise] = {
    "gaussian": gaussian,
    "uniform": uniform,
    "blob": blob,
    "mixed_blob": mixed_blob,
    "solid": solid,
}
