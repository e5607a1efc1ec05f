"""Ignore masks: pixels that are left out of training and scoring, such as a date stamp, a clamp or the background.

A mask, white where images are ignored, is one picture for all images or a folder with a picture for each. It is brought
to network size so that every pixel which the resizing of an image mixes with an ignored one is ignored too: what lies
under the mask then has no influence on the score.
"""

import base64
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_edt

from blemish.errors import BlemishError
from blemish.imaging.formats import is_image_name
from blemish.imaging.masks import read_mask
from blemish.imaging.resizing import resize_mask
from blemish.imaging.types import Mask, Size
from blemish.io.files import fingerprint
from blemish.io.text import printable


class IgnoreMask:
    """The ignore masks of a file or a folder.

    In a folder, a mask belongs to the images whose path ends as its own path below the folder does, suffixes aside:
    000.png is for every 000.*, crack/000.png for every crack/000.*, and the longest such path wins. An image without a
    mask is not ignored anywhere.

    Args:
        path: a picture, white where images are ignored, stretched to each image; or a folder of such pictures.

    Attributes:
        path: as given.
        everywhere: whether one mask holds for all images.

    Raises:
        BlemishError: nothing is there, or no mask is in the folder, or the picture cannot be read or is all white.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.everywhere = not self.path.is_dir()
        self._resized: dict[Size, Mask | None] = {}
        if self.everywhere and not 0 < self._mask.mean() < 1:
            fault = "white everywhere, which leaves nothing to score" if self._mask.all() else "nothing in it is white"
            raise BlemishError(f"{printable(self.path)}: {fault}; paint white what does not count, and the rest black")
        if not self.everywhere and not self._files:
            raise BlemishError(
                f"{printable(self.path)}: no mask in it; give a picture, or a folder with a mask for each image"
            )

    def mask(self, image: str | os.PathLike[str] | None, size: Size) -> Mask | None:
        """The ignored pixels of one image at network size.

        Args:
            image: the image's path; None where it has none.
            size: of the network, (height, width).

        Returns:
            bool `size`, true where the image is ignored; None where nothing of it is.

        Raises:
            ImageError: the image's mask cannot be read.
        """
        if self.everywhere:
            if size not in self._resized:
                self._resized[size] = _at_network_size(self._mask, size)
            return self._resized[size]
        file = None if image is None else self._file(PurePath(image))
        return None if file is None else _at_network_size(read_mask(file, without_black="darkest"), size)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all masks with their names."""
        files = [((), self.path)] if self.everywhere else sorted(self._files.items())
        return sha256("".join(f"{'/'.join(key)} {fingerprint(file)}\n" for key, file in files).encode()).hexdigest()

    @cached_property
    def _mask(self) -> Mask:
        return read_mask(self.path, without_black="darkest")

    @cached_property
    def _files(self) -> dict[tuple[str, ...], Path]:
        """Masks by their path below the folder, without suffix."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in sorted(names))
        return {_key(file.relative_to(self.path)): file for file in files if is_image_name(file)}

    def _file(self, image: PurePath) -> Path | None:
        key = _key(image)
        return next((self._files[key[start:]] for start in range(len(key)) if key[start:] in self._files), None)


def union(first: Mask | None, second: Mask | None) -> Mask | None:
    """What either of two masks ignores; None where neither is there."""
    if first is None or second is None:
        return first if second is None else second
    return first | second


def fill_image(
    images: npt.NDArray[np.uint8], masks: Mapping[int, Mask], chosen: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """The picture that ignored pixels are replaced with: the mean of nominal images.

    At each pixel the mean is taken over the chosen images that are not ignored there. Where all are ignored, it is the
    mean at the nearest pixel where one is not: what lies under a mask has no part in it.

    Args:
        images: (N, H, W, 3).
        masks: the ignored pixels of an image, bool (H, W), by its index.
        chosen: indices of nominal images.

    Returns:
        uint8 (H, W, 3).

    Raises:
        BlemishError: every pixel is ignored in all chosen images.
    """
    total, count = np.zeros(images.shape[1:]), np.zeros(images.shape[1:3])
    for index in chosen:
        valid = ~masks[index] if index in masks else np.ones(count.shape, dtype=bool)
        total[valid] += images[index][valid]
        count += valid
    if not count.any():
        raise BlemishError("the masks leave nothing to score: let some part of the images count")
    nearest = distance_transform_edt(count == 0, return_distances=False, return_indices=True)
    mean = total / np.maximum(count, 1)[..., None]
    return np.rint(mean[tuple(nearest)]).astype(np.uint8)


def as_record(ignore: IgnoreMask, size: Size) -> dict[str, Any]:
    """The model file's record of the ignore mask: its name and, for a single mask, its share of pixels and its PNG."""
    mask = ignore.mask(None, size)
    return {
        "mask": ignore.path.name,
        "everywhere": ignore.everywhere,
        "share": None if mask is None else float(mask.mean()),
        "png": None if mask is None else _png(mask),
    }


def of_record(record: Mapping[str, Any] | None, size: Size) -> Mask | None:
    """The ignore mask (H, W) inside a model's graph of network `size`, from the file's record; None where it has none.

    Raises BlemishError where the record is not one that `as_record` makes, or its picture is broken or of another size.
    """
    if record is None:
        return None
    try:
        png = msgspec.convert(record, _Record)["png"]
        content = None if png is None else base64.b64decode(png, validate=True)
    except (msgspec.ValidationError, ValueError) as error:
        raise BlemishError("its record of what is ignored is no such record") from error
    if content is None:
        if record["everywhere"]:
            raise BlemishError("its mask of what is ignored is not there")
        return None
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            fits = picture.size == (size[1], size[0])  # checked before anything is decoded
            mask = np.array(picture, dtype=bool) if fits else None
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        raise BlemishError("its mask of what is ignored is a broken picture") from error
    if mask is None or mask.shape != size:
        raise BlemishError(f"its mask of what is ignored is not {size[0]} x {size[1]} pixels of one channel")
    return mask


def _at_network_size(mask: Mask, size: Size) -> Mask | None:
    touched = resize_mask(mask, size, rule="touched")
    return touched if touched.any() else None


class _Record(TypedDict):
    mask: str
    everywhere: bool
    share: float | None
    png: str | None


def _png(mask: Mask) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _key(path: PurePath) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path.with_suffix("").parts)
