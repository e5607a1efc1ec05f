"""Training images at network size, read once into one file on disk, so that memory does not grow with their number."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from blemish.datasets.layouts import Sample
from blemish.datasets.mask_warnings import MaskCensus
from blemish.errors import BlemishError
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.imaging.images import read_picture
from blemish.imaging.masks import MaskFacts, read_mask, read_mask_with_notes
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask, to_network_size
from blemish.imaging.types import Mask, Size
from blemish.io.files import fingerprint, temporary_file
from blemish.io.text import counted, list_some, printable
from blemish.process.threads import readers


@dataclass(frozen=True)
class Pixels:
    """Images that could be read, in their given order.

    Attributes:
        samples: their records.
        images: uint8 (N, H, W, 3), mapped from a file that goes with the object.
        fingerprints: SHA-256 of each file.
        ignored: the ignored pixels of an image, bool (H, W), by its index.
        reading: how they were read.
        sizes: the (height, width) of each image's file, which its mask has too; empty where it is the network's.
        moved: applied to an image's index and its mask where `images` shows something else than the file, such as an
            aligned part.
    """

    samples: tuple[Sample, ...]
    images: npt.NDArray[np.uint8]
    fingerprints: tuple[str, ...]
    ignored: Mapping[int, Mask] = field(default_factory=dict)
    moved: Callable[[int, Mask], Mask] | None = None
    reading: Reading = field(default_factory=Reading)
    sizes: tuple[Size, ...] = ()

    def mask(self, index: int) -> Mask | None:
        """The mask of one image at network size, bool (H, W); None where it has none.

        A pixel is anomalous where any marked pixel falls into it: the nearest pixel would lose thin scratches. Ignored
        pixels are not anomalous.
        """
        mask = self._mask(index)
        return None if mask is None else mask & self.valid_mask(index)

    def fully_ignored(self, index: int) -> bool:
        """Whether all that is anomalous in one image is ignored."""
        mask = self._mask(index) if index in self.ignored else None
        return mask is not None and bool(mask.any()) and not (mask & self.valid_mask(index)).any()

    def valid_mask(self, index: int) -> Mask:
        """Where one image is not ignored, bool (H, W)."""
        return ~self.ignored[index] if index in self.ignored else np.ones(self.images.shape[1:3], dtype=bool)

    def fill(self, indices: Iterable[int], picture: npt.NDArray[np.uint8]) -> None:
        """Replaces the ignored pixels of some images with those of a picture (H, W, 3)."""
        for index in indices:
            if index in self.ignored:
                self.images[index][self.ignored[index]] = picture[self.ignored[index]]

    def _mask(self, index: int) -> Mask | None:
        sample = self.samples[index]
        if sample.mask is None:
            return None
        network: Size = self.images.shape[1:3]
        own = self.sizes[index] if self.sizes else network
        mask = resize_mask(read_mask(sample.mask, size=own), network, rule="any")
        return mask if self.moved is None else self.moved(index, mask)


def read_pixels(
    samples: Sequence[Sample],
    size: tuple[int, int],
    *,
    reading: Reading | None = None,
    ignore: IgnoreMask | None = None,
    census: MaskCensus | None = None,
    progress: Callable[[int, int], None],
    notify: Callable[[str], None],
) -> Pixels:
    """Reads all images that can be read; `notify` gets a sentence for each other one, and for what is lost in one.

    With a `census` their masks are read as well, for what is unusual about them. Raises BlemishError when the disk
    cannot hold the images, or such a mask or one of `ignore` cannot be read.
    """
    kept: list[Sample] = []
    fingerprints: list[str] = []
    sizes: list[Size] = []
    ignored: dict[int, Mask] = {}
    several: list[str] = []
    with temporary_file() as file, ThreadPoolExecutor(readers()) as pool:
        results = pool.map(lambda sample: _read(sample, size, reading, masks=census is not None), samples)
        for done, (sample, result) in enumerate(zip(samples, results, strict=True)):
            progress(done + 1, len(samples))
            if isinstance(result, str):
                notify(f"left out: {result}")
                continue
            for loss in result.losses:
                notify(loss)
            if result.frames > 1:
                several.append(printable(sample.path))
            keep(file, result.pixels)
            if census is not None and sample.mask is not None and result.mask is not None:
                census.add(sample.mask, result.mask)
            mask = ignore.mask(sample.path, size) if ignore else None
            if mask is not None:
                ignored[len(kept)] = mask
            kept.append(sample)
            fingerprints.append(result.digest)
            sizes.append(result.size)
        images = kept_images(file, (len(kept), *size, 3))
    if several:
        held = counted(len(several), "image")
        notify(f"{held} with several frames, of which only the first is used: {list_some(several)}")
    return Pixels(tuple(kept), images, tuple(fingerprints), ignored, sizes=tuple(sizes), reading=reading or Reading())


def keep(file: BinaryIO, images: npt.NDArray[np.uint8]) -> None:
    """Adds images to a temporary file. Raises BlemishError when the disk cannot hold them."""
    try:
        file.write(images.tobytes())
        file.flush()
    except OSError as error:
        raise BlemishError(
            f"cannot keep images in {tempfile.gettempdir()}: {error.strerror}; free some space or set TMPDIR"
        ) from error


def kept_images(file: BinaryIO, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """All images of a temporary file, which goes when they do."""
    return np.memmap(file, np.uint8, "r+", shape=shape) if shape[0] else np.zeros(shape, np.uint8)


@dataclass(frozen=True, eq=False)
class _Image:
    """An image at network size, and what else is known of its file and its mask."""

    pixels: npt.NDArray[np.uint8]
    size: Size
    digest: str
    mask: MaskFacts | None
    losses: tuple[str, ...]
    frames: int


def _read(sample: Sample, size: Size, reading: Reading | None, *, masks: bool) -> _Image | str:
    try:
        picture = read_picture(sample.path, reading)
        pixels = to_network_size(picture.image, size)
        digest = fingerprint(sample.path)
    except BlemishError as error:
        return str(error)
    facts = None
    if masks and sample.mask is not None:
        facts = read_mask_with_notes(sample.mask, size=picture.size).facts  # its pixels would fill the memory
    return _Image(pixels, picture.size, digest, facts, picture.losses, picture.frames)
