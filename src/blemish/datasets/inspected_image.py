"""One image of a data set, opened for the doctor: what can be said of it alone."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.datasets.duplicates import digest as look_of
from blemish.datasets.layouts import Sample, Split
from blemish.datasets.near_duplicates import thumbnail
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_picture
from blemish.imaging.masks import MaskFacts, read_mask_with_notes
from blemish.imaging.reading import Reading
from blemish.io.files import fingerprint

FLAT_RANGE = 16  # grey levels


@dataclass(frozen=True)
class InspectedImage:
    """One image, and its mask if it has one.

    Attributes:
        sample: its record.
        split: where it is.
        fault: why it cannot be read, in one sentence; None where it can.
        size: (width, height); None where it cannot be read.
        grey: whether all its pixels are grey.
        flat: whether it is nearly blank.
        digest: SHA-256 of the file.
        look: a digest of the pixels.
        mask_fault: why its mask cannot be used, in one sentence.
        remarks: what is lost in reading it.
        frames: how many images its file holds.
        mask: what is unusual about its mask.
        small: its thumbnail, of those compared for near duplicates.
    """

    sample: Sample
    split: Split
    fault: str | None = None
    size: tuple[int, int] | None = None
    grey: bool = False
    flat: bool = False
    digest: str | None = None
    look: bytes | None = None
    mask_fault: str | None = None
    remarks: tuple[str, ...] = ()
    frames: int = 1
    mask: MaskFacts | None = None
    small: npt.NDArray[np.uint8] | None = None

    @property
    def nominal_training(self) -> bool:
        """Whether it is a good training image."""
        return self.split == "train" and not self.sample.anomalous

    @property
    def marked(self) -> bool:
        """Whether there is a mask which can be read and marks something."""
        return self.mask is not None and self.mask.share > 0


def inspect_image(sample: Sample, split: Split, *, reading: Reading, compared: Collection[Path]) -> InspectedImage:
    """Opens an image and its mask; a fault of either is a finding, and raises nothing.

    Args:
        sample: the image.
        split: where it is.
        reading: how it is decoded.
        compared: the training images that are compared for near duplicates.
    """
    try:
        picture = read_picture(sample.path, reading)
        digest = fingerprint(sample.path)
    except BlemishError as error:
        return InspectedImage(sample, split, fault=str(error))
    image = picture.image.convert("RGB")
    pixels = np.asarray(image)  # (H, W, 3)
    grey = bool((pixels == pixels[:, :, :1]).all())
    flat = int(np.ptp(pixels, axis=(0, 1)).max()) < FLAT_RANGE
    found = InspectedImage(
        sample,
        split,
        size=image.size,
        grey=grey,
        flat=flat,
        digest=digest,
        look=look_of(pixels),
        remarks=picture.losses,
        frames=picture.frames,
        small=thumbnail(image) if split == "train" and sample.path in compared else None,
    )
    if sample.mask is None:
        return found
    try:
        mask = read_mask_with_notes(sample.mask, size=pixels.shape[:2])
    except ImageError as error:
        return replace(found, mask_fault=str(error))
    return replace(found, mask=mask.facts)
