"""Texture blended into an image where Perlin noise is high: the synthetic anomaly of DRAEM (Zavrtanik et al. 2021).

    I' = (1 - M) * I + M * ((1 - b) * T + b * I)                                            (DRAEM, equation 1)

I is the image, T a texture, M the mask of thresholded Perlin noise, and 1 - b the opacity. The texture is a photograph
of something else. Where there is none, the image's own patches in random order take its place. DRAEM also alters the
colours of the texture; a folder of photographs has enough of them.
"""

import numpy as np
from numpy.typing import NDArray

from blemish.synthetic import Synthetic, require_rgb
from blemish.synthetic.outlier_exposure import OutlierFolder

THRESHOLD = 0.5  # of the noise, which lies within -1..1; as in DRAEM
OPACITY = (0.2, 1.0)  # as in DRAEM
MAX_EXPONENT = 6  # the noise has 2^0 to 2^6 cells along a side, as in DRAEM
MIN_CELL = 4  # pixels: as at DRAEM's 256 pixels
PATCHES = 8  # along a side, of the image where they replace the texture


class Perlin:
    """Blends a texture into images where Perlin noise is high.

    Args:
        outliers: images to take textures from; None takes the image's own patches.
    """

    def __init__(self, *, outliers: OutlierFolder | None = None) -> None:
        self._outliers = outliers

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> Synthetic:
        """A copy of an image, uint8 (H, W, 3), with a texture in it. The mask has the pixels that changed.

        Raises:
            ValueError: the image has another type or shape.
            BlemishError: not one image of the folder can be read.
        """
        require_rgb(image)
        size = image.shape[0], image.shape[1]
        mask = perlin_mask(size, rng)
        texture = permuted_patches(image, rng) if self._outliers is None else self._outliers.sample(rng, size)
        opacity = rng.uniform(*OPACITY)
        blended = opacity * texture.astype(np.float32) + (1 - opacity) * image
        changed = np.where(mask[..., None], np.rint(blended).astype(np.uint8), image)
        return Synthetic.from_change(image, changed)


def perlin_mask(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where Perlin noise of random frequencies and direction exceeds 0.5, bool (H, W); somewhere it does."""
    exponents = [max(0, min(MAX_EXPONENT, int(np.log2(side / MIN_CELL)))) for side in size]
    while True:
        cells = [2 ** int(rng.integers(exponent, endpoint=True)) for exponent in exponents]
        noise = perlin_noise(size, (cells[0], cells[1]), rng, angle=rng.uniform(-np.pi / 2, np.pi / 2))
        mask: NDArray[np.bool_] = noise > THRESHOLD
        if mask.any():
            return mask


def perlin_noise(
    size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator, *, angle: float = 0.0
) -> NDArray[np.float64]:
    """Gradient noise (Perlin 2002) within -1..1, float (H, W).

    Args:
        size: (height, width) in pixels.
        cells: cells of the lattice along the height and the width.
        rng: draws the gradients.
        angle: by which the lattice is turned, in radians.
    """
    rows, columns = np.indices(size) + 0.5  # (H, W)
    rows, columns = rows / size[0] - 0.5, columns / size[1] - 0.5
    down = cells[0] * (np.cos(angle) * rows - np.sin(angle) * columns)
    right = cells[1] * (np.sin(angle) * rows + np.cos(angle) * columns)
    top, left = np.floor(down).astype(int), np.floor(right).astype(int)
    down, right = down - top, right - left  # within the cell
    top, left = top - top.min(), left - left.min()
    angles = rng.uniform(0, 2 * np.pi, size=(top.max() + 2, left.max() + 2))
    gradients = np.stack([np.sin(angles), np.cos(angles)], axis=-1)

    def corner(below: int, beside: int) -> NDArray[np.float64]:
        gradient = gradients[top + below, left + beside]  # (H, W, 2)
        return gradient[..., 0] * (down - below) + gradient[..., 1] * (right - beside)

    weight_down, weight_right = (t**3 * (6 * t**2 - 15 * t + 10) for t in (down, right))
    above = corner(0, 0) * (1 - weight_right) + corner(0, 1) * weight_right
    under = corner(1, 0) * (1 - weight_right) + corner(1, 1) * weight_right
    # The largest value of the sum is half the root of 2, in the middle of a cell.
    noise: NDArray[np.float64] = np.sqrt(2) * (above * (1 - weight_down) + under * weight_down)
    return noise


def permuted_patches(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image (H, W, 3) as 8 x 8 patches in random order; a rest at the right and below is repeated from within."""
    height, width = (max(1, side // PATCHES) for side in image.shape[:2])
    rows, columns = image.shape[0] // height, image.shape[1] // width
    cut = image[: rows * height, : columns * width].reshape(rows, height, columns, width, 3)
    patches = cut.swapaxes(1, 2).reshape(-1, height, width, 3)
    mixed = patches[rng.permutation(len(patches))].reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    whole = mixed.reshape(rows * height, columns * width, 3)
    rest = image.shape[0] - len(whole), image.shape[1] - whole.shape[1]
    return np.pad(whole, ((0, rest[0]), (0, rest[1]), (0, 0)), mode="wrap")
