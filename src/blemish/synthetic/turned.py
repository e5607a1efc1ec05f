"""Copies of an image as it would look turned, mirrored, nearer or farther, brighter or darker."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

MOST_ZOOM = 0.15  # of the logarithm of the scale
MOST_SHIFT = 0.05  # of the side
CONTRAST = (0.75, 1.3)
BRIGHTNESS = 25.0  # grey levels
GAMMA, GAIN = 1.6, 1.4  # of other exposures, at most, or at least their inverses
UPRIGHT = np.deg2rad(3)  # the most that something that must not be turned is out of true


@dataclass(frozen=True)
class Pose:
    """A mirroring, rotation, zoom and shift about the middle of an image: where each pixel of the copy comes from.

    Attributes:
        matrix: (2, 2), takes offsets from the middle of the copy to those of the original, both (row, column).
        shift: (2,) in pixels.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def mirror(cls, rows: int, columns: int) -> "Pose":
        """The exact mirror image: -1 turns the order of rows or columns round, 1 keeps it."""
        return cls(np.diag([rows, columns]).astype(float), np.zeros(2))

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


@dataclass(frozen=True)
class Freedom:
    """What may be done to an image of a good part without its looking wrong.

    Attributes:
        sideways: mirroring left and right.
        upside_down: mirroring top and bottom.
        turned: turning by any angle.
        aspect: how high a pixel is over how wide, where images were stretched: copies are turned as the part itself is.
    """

    sideways: bool
    upside_down: bool
    turned: bool
    aspect: float = 1.0

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Pose:
        """A random pose: besides what is free, up to 15 % nearer or farther and 5 % of the side off."""
        most = np.pi if self.turned else UPRIGHT
        angle, zoom = rng.uniform(-most, most), np.exp(rng.uniform(-MOST_ZOOM, MOST_ZOOM))
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        rows, columns = ((rng.choice((-1, 1)) if free else 1) for free in (self.upside_down, self.sideways))
        shift = rng.uniform(-MOST_SHIFT, MOST_SHIFT, size=2) * size
        across, along = sin / self.aspect, sin * self.aspect
        return Pose(np.array([[rows * cos, columns * across], [-rows * along, columns * cos]]), shift)

    def copy(self, number: int, rng: np.random.Generator, size: tuple[int, int]) -> Pose:
        """The number-th copy of an image: first its exact mirror images, as many as are free, then random poses."""
        mirrors = [(-1, 1)] * self.sideways + [(1, -1)] * self.upside_down
        mirrors += [(-1, -1)] * (self.sideways and self.upside_down)
        if number >= len(mirrors):
            return self.draw(rng, size)
        columns, rows = mirrors[number]
        return Pose.mirror(rows, columns)


ANY = Freedom(sideways=True, upside_down=True, turned=True)


def relit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image (H, W, 3) with another contrast (0.75 to 1.3) and brightness (up to 25 grey levels)."""
    mean = image.mean()
    changed = (image - mean) * rng.uniform(*CONTRAST) + mean + rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def exposed(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image (H, W, 3) under another exposure: to a power of 0.6 to 1.6, times 0.7 to 1.4, both log-uniform."""
    gamma, gain = np.exp(rng.uniform(-1, 1, size=2) * np.log((GAMMA, GAIN)))
    levels = np.arange(256) / 255
    changed = np.rint(255 * (gain * levels**gamma).clip(0, 1)).astype(np.uint8)
    return changed[image]
