"""Images to show a detector."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def noise(seed: int, *, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """A nominal image: grey noise, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(90, 160, (*size, 3), dtype=np.uint8)


def stained(seed: int, *, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """An anomalous image: the same with a black square over a quarter of its area."""
    pixels = noise(seed, size=size)
    height, width = size
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 0
    return pixels


def save_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
