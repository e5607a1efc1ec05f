"""From an image, wherever it comes from, to the pixels that the network takes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.conformal.drift import drift_statistics
from blemish.datasets.network_size import other_shape
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.ignore_mask import IgnoreMask, of_record, union
from blemish.imaging.images import Picture, read_picture
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import to_network_size
from blemish.imaging.types import ImageSource, Mask
from blemish.io.text import printable
from blemish.model.metadata import ModelMetadata
from blemish.model.scored_image import FailedImage


@dataclass(frozen=True)
class PreparedImage:
    """An image as the network takes it.

    Attributes:
        source: what it is called.
        pixels: uint8 (H, W, 3) at network size.
        size: (height, width) of the image itself.
        ignored: where its own mask ignores pixels, bool (H, W) at network size; the mask inside the model not counted.
        drift_features: brightness and sharpness, as far as the model has a reference for them.
        remarks: what was lost in reading it, a sentence each.
    """

    source: str
    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    ignored: Mask | None
    drift_features: Mapping[str, float]
    remarks: tuple[str, ...]


class ImagePreparation:
    """Reads images for one model: decoding, network size, masks, drift features. Thread-safe.

    Args:
        metadata: the model's.
        ignore_mask: masks for parts of images to ignore, beside the one inside the model; None for no others.

    Attributes:
        reading: how images are decoded.
        built_in_mask: the mask inside the model, bool (H, W) at network size; None where there is none.
    """

    def __init__(self, metadata: ModelMetadata, ignore_mask: IgnoreMask | None) -> None:
        self._metadata = metadata
        self._ignore_mask = ignore_mask
        self.built_in_mask = of_record(metadata.ignored, metadata.size)
        bits_known = metadata.settings.get("bits", metadata.bits) is not None
        self.reading = Reading(bits=metadata.bits, seen=bits_known)

    @property
    def masks_are_new(self) -> bool:
        """Whether masks are given for scoring that training and calibration did not have."""
        record = self._metadata.ignored
        return self._ignore_mask is not None and (record is None or bool(record["everywhere"]))

    def read(self, number: int, image: ImageSource) -> PreparedImage | FailedImage:
        """Reads one image; `number` is its name where it has no path."""
        path = os.fsdecode(image) if isinstance(image, str | bytes | os.PathLike) else None
        source = f"image {number}" if path is None else path
        if isinstance(image, Frame):
            path, source = image.path, str(image)
        try:
            return self.prepare(read_picture(image, self.reading, name=source), path, source)
        except ImageError as error:
            return FailedImage(source, str(error))

    def prepare(self, picture: Picture, path: str | None, source: str) -> PreparedImage | FailedImage:
        """The network's view of a decoded image, whose mask is found by `path`. Raises ImageError for the mask."""
        metadata = self._metadata
        ignored = None if self._ignore_mask is None else self._ignore_mask.mask(path, metadata.size)
        if ignored is not None and ignored.all():
            return FailedImage(source, f"{printable(source)}: its mask leaves nothing to score")
        pixels = to_network_size(picture.image, metadata.size)
        ratio = metadata.settings.get("image_ratio")
        shape = other_shape(picture.size, ratio) if ratio else None
        remarks = (*picture.remarks, f"{printable(source)}: {shape}") if shape else picture.remarks
        return PreparedImage(source, pixels, picture.size, ignored, self._drift_features(pixels, ignored), remarks)

    def _drift_features(self, pixels: npt.NDArray[np.uint8], ignored: Mask | None) -> Mapping[str, float]:
        if not self._metadata.drift_reference:
            return {}
        # The reference was taken without the pixels that training ignored, and with those that only scoring ignores.
        without = self.built_in_mask if self.masks_are_new else union(ignored, self.built_in_mask)
        statistics = drift_statistics(pixels, 0.0, ignored=without)
        return {name: statistics[name] for name in self._metadata.drift_reference}
