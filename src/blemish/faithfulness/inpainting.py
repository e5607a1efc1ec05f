"""What an image would show if a part of it were nominal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.images import load
from blemish.imaging.reading import Reading
from blemish.imaging.types import Size

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) at network size
BLEND = 8.0  # pixels; a hard edge is an anomaly itself
MIN_WEIGHT = 0.05  # on unmarked pixels, from which on they are near enough
STEP = 4  # surroundings are spread on every fourth pixel: they have no texture


class NormalImages:
    """Good images to fill in from.

    Args:
        paths: good images; those that cannot be read are left out.
        size: network size (height, width).
        reading: how the model reads images.

    Attributes:
        images: number of those that could be read.
        mean: their mean, uint8 (H, W, 3).
        failed: path and reason of each that could not.

    Raises:
        BlemishError: none can be read.
    """

    def __init__(self, paths: Sequence[Path], size: Size, reading: Reading | None = None) -> None:
        self.images = 0
        self.failed: list[tuple[str, str]] = []
        total = np.zeros((*size, 3))
        for path in paths:
            try:
                total += load(path, size, reading)[0]
            except ImageError as error:
                self.failed.append((str(path), str(error)))
            else:
                self.images += 1
        if not self.images:
            raise BlemishError("no good image to fill in from: give a folder with train/good/ or test/good/")
        self.mean: Pixels = np.round(total / self.images).astype(np.uint8)


def inpaint(pixels: Pixels, fill: Pixels, marked: npt.NDArray[np.bool_]) -> Pixels:
    """`pixels` with `fill` (both uint8 (H, W, 3)) in their place where `marked` (H, W), faded over its edges.

    The weight of `fill` is min(1, 2 G), G the marked pixels under a Gaussian of 8 pixels: 1 up to a straight edge,
    fading outside it. Nothing marked gives `pixels`, everything marked `fill`, exactly.
    """
    weight = np.minimum(1, 2 * gaussian_filter(marked.astype(np.float32), BLEND, mode="nearest"))[..., None]
    blended: Pixels = np.round(pixels + weight * (fill.astype(np.float32) - pixels)).astype(np.uint8)
    return blended


def inpaint_from_surroundings(pixels: Pixels, marked: npt.NDArray[np.bool_]) -> Pixels:
    """`pixels` with their surroundings spread into `marked` (H, W): what a part looks like whose place is not fixed.

    On every fourth pixel, a mean of unmarked ones weighted by Gaussians of 4 px; of 16 or 64 px where none is as near.
    """
    height, width = marked.shape
    small = pixels[::STEP, ::STEP].astype(np.float32)
    known = (~marked[::STEP, ::STEP]).astype(np.float32)[..., None]
    if not known.any():
        return pixels
    spread = np.zeros_like(small)
    for sigma in (16.0, 4.0, 1.0):  # of small pixels, the widest first: nearer ones overrule it
        weight = gaussian_filter(known, (sigma, sigma, 0), mode="nearest")
        mean = gaussian_filter(small * known, (sigma, sigma, 0), mode="nearest") / np.maximum(weight, 1e-6)
        spread = np.where(weight > MIN_WEIGHT, mean, spread)
    bands = [
        Image.fromarray(band).resize((width, height), Image.Resampling.BILINEAR) for band in spread.transpose(2, 0, 1)
    ]
    return inpaint(pixels, np.stack([np.asarray(band) for band in bands], axis=-1).round().astype(np.uint8), marked)
