"""Images and tasks: what the loaders hand to training and testing."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.imaging.reading import Reading
from blemish.io.text import printable


class Images(Protocol):
    """Images by number."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def read(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W) with C = 1 or 3. Raises BlemishError where it cannot be read."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The file of each image; none where images have no files of their own."""
        ...


class Masks(Protocol):
    """Masks of test images by number."""

    def read(self, index: int) -> Tensor:
        """The mask of test image `index`, bool (H, W) at that image's size on disk, all false where it is nominal."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory: `pixels` is uint8 (N, C, H, W); `files` are those that they were read from, if any."""

    pixels: Tensor
    files: Sequence[Path] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    def read(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W); it shares memory with `pixels`."""
        return self.pixels[index]


@dataclass(frozen=True)
class ResizeSpec:
    """How an image is brought to size: the options of `open_source` that all readers share.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        size: both sides where `square`, otherwise the short one; None keeps the image's own size.
        antialias: Pillow's antialiased bilinear filter; else the nearest pixel, as in the paper's implementation.
    """

    channels: int
    size: int | None = None
    square: bool = False
    antialias: bool = True

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """The image's pixels, uint8 (C, H, W)."""
        mode = "L" if self.channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        size = self._size(image)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR if self.antialias else Image.Resampling.NEAREST)
        pixels = np.array(image)
        return pixels[np.newaxis] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height."""
        if self.size is None:
            return image.size
        if self.square:
            return self.size, self.size
        short = min(image.size)
        return image.width * self.size // short, image.height * self.size // short


@dataclass(frozen=True, eq=False)
class FileImages:
    """Image files, each read anew whenever it is asked for."""

    paths: Sequence[Path]
    spec: ResizeSpec
    reading: Reading | None = None

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    @property
    def files(self) -> Sequence[Path]:
        """All paths."""
        return self.paths

    def read(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W). Raises ImageError where the file cannot be read."""
        return torch.from_numpy(self.spec.pixels(read_image(self.paths[index], self.reading)))


@dataclass(frozen=True, eq=False)
class Selected:
    """Some of the images, in the order of `indices`."""

    images: Images
    indices: Sequence[int]

    def __len__(self) -> int:
        """The number of indices."""
        return len(self.indices)

    @property
    def files(self) -> Sequence[Path]:
        """Those of the images selected."""
        return _selected(self.images.files, self.indices)

    def read(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W)."""
        return self.images.read(self.indices[index])


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Anomalous training images.

    Attributes:
        images: N images.
        kinds: their defect types, (N,).
        masks: where their anomalies are.
    """

    images: Images
    kinds: tuple[str, ...]
    masks: Masks


@dataclass(frozen=True, eq=False)
class Task:
    """One detection task: nominal images to learn from and labelled images to be tested on.

    Attributes:
        nominal: nominal training images.
        test: T test images.
        anomalous: their labels, bool (T,).
        kinds: their classes or defect types, (T,).
        masks: where the anomalies are; None where nobody has painted them.
        labelled: anomalous training images with masks; None where there are none.
        layout: of the folder, as `blemish.datasets.layouts` calls it.
    """

    nominal: Images
    test: Images
    anomalous: Tensor
    kinds: tuple[str, ...]
    masks: Masks | None = None
    labelled: LabelledImages | None = None
    layout: str = "one-vs-rest"


def select(images: Images, indices: Sequence[int]) -> Images:
    """Some of the images; those in memory stay one array."""
    if isinstance(images, ArrayImages):
        chosen = images.pixels[torch.as_tensor(indices, dtype=torch.long)]
        return ArrayImages(chosen, _selected(images.files, indices))
    return Selected(images, indices)


def _selected(files: Sequence[Path], indices: Sequence[int]) -> Sequence[Path]:
    return [files[index] for index in indices] if files else ()


def choose(count: int, *, limit: int | None, seed: int) -> list[int]:
    """The numbers 0 … count - 1, or `limit` of them chosen by `seed`, ascending.

    Raises BlemishError where the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise BlemishError(f"the limit on foreign images is {limit}; give 1 or more, or no limit")
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, size=limit, replace=False).tolist())


def resized(pixels: NDArray[np.uint8], spec: ResizeSpec) -> ArrayImages:
    """Images uint8 (N, H, W) or (N, H, W, 3) that are in memory already, brought to size."""
    same_channels = pixels.ndim == (3 if spec.channels == 1 else 4)
    if same_channels and (spec.size is None or pixels.shape[1:3] == (spec.size, spec.size)):
        channels_first = pixels[:, np.newaxis] if spec.channels == 1 else pixels.transpose(0, 3, 1, 2)
        return ArrayImages(torch.from_numpy(channels_first.copy()))
    return ArrayImages(_stack((spec.pixels(Image.fromarray(image)) for image in pixels), len(pixels)))


def decode(paths: Sequence[Path], spec: ResizeSpec, *, threads: int = 1, reading: Reading | None = None) -> ArrayImages:
    """Image files, all read into memory by `reading`. Raises BlemishError where one cannot be read or has another size.

    Several threads pay for large files only: over files of a few kilobytes they mostly wait for one another.
    """

    def read(path: Path) -> NDArray[np.uint8]:
        return spec.pixels(read_image(path, reading))

    if threads == 1:
        return ArrayImages(_stack(map(read, paths), len(paths), names=paths), paths)
    with ThreadPoolExecutor(threads) as pool:
        return ArrayImages(_stack(pool.map(read, paths), len(paths), names=paths), paths)


def _stack(images: Iterable[NDArray[np.uint8]], count: int, *, names: Sequence[Path] = ()) -> Tensor:
    """Images (C, H, W) as one array uint8 (N, C, H, W)."""
    stack: NDArray[np.uint8] | None = None
    for index, pixels in enumerate(images):
        if stack is None:
            stack = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape != stack.shape[1:]:
            raise BlemishError(
                f"{printable(names[index])}: {pixels.shape[1]} x {pixels.shape[2]} (height x width), but "
                f"{printable(names[0])} is {stack.shape[2]} x {stack.shape[3]}; bring all images to one size"
            )
        stack[index] = pixels
    if stack is None:
        raise BlemishError("there are no images to read; give a folder with images")
    return torch.from_numpy(stack)
