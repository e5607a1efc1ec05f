"""Confetti noise, the paper's artificial anomaly for MVTec without labels (Liznerski et al., ICLR 2021).

Two differences from the authors' code, both on purpose: every blob has its own colour (theirs shares one
among the blobs of equal size) and is rotated alone (theirs turns whatever else lies in the same crop too).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from blemish.synthetic import Synthetic, require_rgb

REFERENCE_SIDE = 240
"""Short side in pixels that the sizes below are for; they scale with it, so that the noise looks the same."""

COLOURED_DENSITY, BLACK_DENSITY = 1.8e-5, 1.2e-5  # blobs a pixel
SIDES = (8, 54)  # pixels, both ends included
MAX_ROTATION = 45.0  # degrees
BLUR_SIGMA, BLUR_RADIUS = 5.0, 12  # a 25 x 25 kernel
INVISIBLE_CHANGE = 0.025  # grey levels, mean over the image


@dataclass(frozen=True)
class Blob:
    """A rotated square: centre (a pixel's middle is at +0.5) and side in pixels, degrees, RGB offset."""

    row: float
    col: float
    side: float
    angle: float
    offset: tuple[float, float, float]


def confetti(image: NDArray[np.uint8], rng: np.random.Generator) -> Synthetic:
    """Add confetti noise to `image`, uint8 (H, W, 3); about an eighth of the pixels change."""
    require_rgb(image)
    return Synthetic.from_change(image, add_noise(image, confetti_noise(image.shape[:2], rng)))


def confetti_noise(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a field of offsets, 0 or less, in grey levels: float32 (H, W, 3) for an image of `size` (H, W)."""
    scale = min(size) / REFERENCE_SIDE
    coloured = rasterise(draw_blobs(size, rng, density=COLOURED_DENSITY, coloured=True), size)
    black = rasterise(draw_blobs(size, rng, density=BLACK_DENSITY, coloured=False), size)
    sigma, radius = BLUR_SIGMA * scale, max(1, round(BLUR_RADIUS * scale))
    blurred: NDArray[np.float32] = gaussian_filter(
        coloured + black, sigma=sigma, radius=radius, axes=(0, 1), mode="mirror"
    )
    return blurred


def draw_blobs(size: tuple[int, int], rng: np.random.Generator, *, density: float, coloured: bool) -> list[Blob]:
    """Draw one layer: a Poisson number of blobs, drawn again while it is 0; `density` a pixel at the reference size."""
    height, width = size
    scale = min(size) / REFERENCE_SIDE
    count = 0
    while not count:
        count = int(rng.poisson(density * height * width / scale**2))
    return [
        Blob(
            row=rng.uniform(0, height),
            col=rng.uniform(0, width),
            side=scale * rng.integers(SIDES[0], SIDES[1], endpoint=True),
            angle=rng.uniform(-MAX_ROTATION, MAX_ROTATION),
            offset=tuple(rng.integers(-256, 0, size=3).tolist()) if coloured else (-255.0, -255.0, -255.0),
        )
        for _ in range(count)
    ]


def rasterise(blobs: Sequence[Blob], size: tuple[int, int]) -> NDArray[np.float32]:
    """Draw blobs, later ones over earlier ones, on zeros: float32 (H, W, 3), cut at the border."""
    canvas = np.zeros((*size, 3), np.float32)
    for blob in blobs:
        reach = blob.side / np.sqrt(2)  # half the diagonal: the farthest a corner can turn
        top, left = max(0, int(blob.row - reach)), max(0, int(blob.col - reach))
        window = canvas[top : int(blob.row + reach) + 1, left : int(blob.col + reach) + 1]
        rows, cols = np.ogrid[: window.shape[0], : window.shape[1]]
        down, right = rows + (top + 0.5 - blob.row), cols + (left + 0.5 - blob.col)
        cos, sin = np.cos(np.deg2rad(blob.angle)), np.sin(np.deg2rad(blob.angle))
        along, across = right * cos + down * sin, down * cos - right * sin  # (h, w) in the square's own axes
        window[np.maximum(abs(along), abs(across)) <= blob.side / 2] = blob.offset
    return canvas


def add_noise(image: NDArray[np.uint8], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return clip(image + noise, 0, 255), rounded, or with -noise if +noise is invisible and -noise less so.

    Confetti darkens: on a black image it would vanish. Invisible is a mean signed change under 0.025 levels.
    """
    pixels = image.astype(np.float32)
    changed = np.clip(pixels + noise, 0, 255)
    if abs(np.mean(changed - pixels)) < INVISIBLE_CHANGE:
        inverted = np.clip(pixels - noise, 0, 255)
        if np.mean(abs(inverted - pixels)) > np.mean(abs(changed - pixels)):
            changed = inverted
    rounded: NDArray[np.uint8] = np.rint(changed).astype(np.uint8)
    return rounded
