"""Augmentation: copies of an image turned, mirrored, scaled, shifted, brighter or darker."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates


@dataclass(frozen=True)
class Pose:
    """A mirroring, rotation, zoom and shift about the middle of an image: where each pixel of the copy comes from.

    Attributes:
        matrix: (2, 2), takes offsets from the middle of the copy to those of the original, both (row, column).
        shift: (2,) in pixels.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy (H, W, 3) of an image (H, W, 3); beyond its edge the image is reflected. Grey stays grey."""
        where = self._where(image.shape[:2])
        if (image == image[..., :1]).all():
            grey = map_coordinates(image[..., 0], where, order=1, mode="reflect")
            return np.repeat(grey[..., None], 3, axis=2)
        channels = [map_coordinates(image[..., channel], where, order=1, mode="reflect") for channel in range(3)]
        return np.stack(channels, axis=-1)

    def apply_to_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The same of a mask (H, W); a pixel takes the value of the nearest."""
        return map_coordinates(mask, self._where(mask.shape), order=0, mode="reflect")

    def _where(self, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Rows and columns (2, H, W) to read from."""
        middle = (np.array(size[:2]) - 1) / 2
        rows, columns = np.indices(size[:2]).reshape(2, -1) - middle[:, None]
        source = self.matrix @ np.stack([rows, columns]) + (middle + self.shift)[:, None]
        return source.reshape(2, *size[:2])


@dataclass(frozen=True, kw_only=True)
class Invariances:
    """What is done to an image that shows a defect, or to a good one beside it: any turn, mirrored or not.

    Attributes:
        max_zoom: the largest change of size, as a logarithm of the scale.
        max_shift: the largest shift, as a share of the side.
        aspect: how high a pixel is over how wide, where images were stretched: copies are turned as the part itself is.
    """

    max_zoom: float
    max_shift: float
    aspect: float = 1.0

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Pose:
        """A random pose in any direction, nearer or farther, and off the middle."""
        angle, zoom = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-self.max_zoom, self.max_zoom))
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        rows, columns = rng.choice((-1, 1)), rng.choice((-1, 1))
        shift = rng.uniform(-self.max_shift, self.max_shift, size=2) * size
        across, along = sin / self.aspect, sin * self.aspect
        return Pose(np.array([[rows * cos, columns * across], [-rows * along, columns * cos]]), shift)


def jitter_brightness_contrast(
    image: NDArray[np.uint8], rng: np.random.Generator, *, contrast: tuple[float, float], brightness: float
) -> NDArray[np.uint8]:
    """The image (H, W, 3) with another contrast, by a factor of that range, and up to so many grey levels brighter."""
    mean = image.mean()
    changed = (image - mean) * rng.uniform(*contrast) + mean + rng.uniform(-brightness, brightness)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def random_crop(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator, *, max_zoom: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A part of an image (H, W, 3) and its mask (H, W), enlarged to their size.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W). One that the part would not show keeps the image as it is.
        rng: decides which part.
        max_zoom: the largest enlargement, as a logarithm of the scale.
    """
    height, width = mask.shape
    share = np.exp(-rng.uniform(0, max_zoom))
    top, left = rng.uniform(0, 1 - share, size=2) * (height, width)
    box = (left, top, left + share * width, top + share * height)
    cropped = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST, box=box)
    if mask.any() and not np.asarray(cropped).any():
        return image, mask
    enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(enlarged), np.asarray(cropped)
