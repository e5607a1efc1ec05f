"""Pictures of hammers that lie in any direction, of which it is known how they lie."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = 128
GROUND, PART = 190.0, 60.0


def hammer(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A handle with a head at one end that sticks out to one side: no turn but a whole one leaves it as it is."""
    handle = (abs(down) < 5) & (abs(right) < 36)
    head = (right > 22) & (right < 36) & (down > -9) & (down < 18)
    return handle | head


def picture(
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray],
    angle: float,
    centre: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """A dark part on a bright ground, turned by an angle in degrees, smooth and a little noisy: (SIDE, SIDE, 3)."""
    rows, columns = np.indices((SIDE, SIDE)).astype(float)
    rows, columns = rows - centre[0], columns - centre[1]
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    inside = gaussian_filter(shape(cos * rows - sin * columns, sin * rows + cos * columns).astype(float), 1)
    grey = GROUND + (PART - GROUND) * inside + rng.normal(0, 2, (SIDE, SIDE))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def pictures(
    count: int, shape: Callable[[np.ndarray, np.ndarray], np.ndarray] = hammer, *, still: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, H, W, 3), angles in degrees (N,) and centres (N, 2)."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-5, 5, count) if still else rng.uniform(0, 360, count)
    centres = rng.uniform(SIDE / 2 - 6, SIDE / 2 + 6, (count, 2))
    images = [picture(shape, angle, tuple(centre), rng) for angle, centre in zip(angles, centres, strict=True)]
    return np.stack(images), angles, centres
