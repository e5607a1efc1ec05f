"""Outlier exposure: random photographs of anything else, from a folder (Hendrycks et al. 2019)."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.formats import is_image_name
from blemish.imaging.images import read_image
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import to_network_size
from blemish.imaging.results import Results
from blemish.io.text import printable


class OutlierFolder:
    """Every image below `root`; pixels are read anew for each sample.

    `unreadable` lists the files that sampling met and could not read; they are not tried again.
    Raises BlemishError where the folder is missing or holds no image.
    """

    def __init__(self, root: str | os.PathLike[str], *, reading: Reading | None = None) -> None:
        """List the images; none is opened yet. They are read by `reading`."""
        self._reading = reading
        self.root = Path(root)
        self.unreadable: list[Path] = []
        self._paths = _image_paths(self.root)

    def __len__(self) -> int:
        """The number of images, less those found unreadable so far."""
        return len(self._paths)

    def sample(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a random crop, as large as can be, of a random image: uint8 (H, W, 3) for `size` (H, W).

        Raises BlemishError when not one file can be read.
        """
        while self._paths:
            index = int(rng.integers(len(self._paths)))
            try:
                image = read_image(self._paths[index], self._reading)
            except ImageError:
                self.unreadable.append(self._paths.pop(index))
                continue
            return to_network_size(_random_crop(image, rng, size), size)
        raise BlemishError(
            f"{printable(self.root)}: none of its {len(self.unreadable)} outlier images can be read, "
            f"such as {printable(self.unreadable[0].name)}; give a folder of intact images"
        )


def _image_paths(root: Path) -> list[Path]:
    """Return all image files below `root`, sorted, so that a seed means the same files everywhere."""
    if not root.is_dir():
        raise BlemishError(f"{printable(root)}: no such folder; give a folder of outlier images")
    results = Results()
    paths = sorted(path for path in root.rglob("*") if is_image_name(path) and path.is_file())
    paths = [path for path in paths if not results.leaves_out(os.fspath(path), top=os.fspath(root))]
    if not paths:
        raise BlemishError(f"{printable(root)}: holds no images; put outlier images there or give another folder")
    return paths


def _random_crop(image: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Cut the largest region with the aspect of `size` at a random place.

    Cropping comes before resizing, so that a panorama is never enlarged as a whole only to be cut.
    """
    height, width = size
    scale = min(image.height / height, image.width / width)  # source pixels an output pixel
    crop_height = min(image.height, max(1, round(height * scale)))
    crop_width = min(image.width, max(1, round(width * scale)))
    top = int(rng.integers(image.height - crop_height, endpoint=True))
    left = int(rng.integers(image.width - crop_width, endpoint=True))
    return image.crop((left, top, left + crop_width, top + crop_height))
