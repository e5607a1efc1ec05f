"""Regions of no interest: pixels without a say, such as a date stamp, a clamp or whatever lies beyond the part.

A mask, white where images do not count, is one picture for all images or a folder with a picture for each. It is read
at network size so that no pixel which the resizing mixed with an ignored one is left: what lies under the mask then
has no way into what counts.
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


class Ignore:
    """The masks of a file or a folder.

    In a folder, a mask is that of the images whose path ends as its own below the folder does, suffixes aside:
    000.png is for every 000.*, crack/000.png for every crack/000.*, and the longest such path counts. An image
    without a mask counts whole.

    Args:
        path: a picture, white where images do not count, stretched to each image; or a folder of such pictures.

    Attributes:
        path: as given.
        everywhere: whether one mask holds for all images.

    Raises:
        BlemishError: nothing is there, or no mask is in the folder, or the picture cannot be read or is all white.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.everywhere = not self.path.is_dir()
        self._shrunk: dict[Size, Mask | None] = {}
        if self.everywhere and not 0 < self._mask.mean() < 1:
            fault = (
                "white everywhere, which leaves nothing to look at" if self._mask.all() else "nothing in it is white"
            )
            raise BlemishError(f"{printable(self.path)}: {fault}; paint white what does not count, and the rest black")
        if not self.everywhere and not self._files:
            raise BlemishError(f"{printable(self.path)}: no mask in it; give a picture, or a folder with one an image")

    def mask(self, image: str | os.PathLike[str] | None, size: Size) -> Mask | None:
        """Where an image does not count, bool (H, W) at network `size`; None where all of it does.

        `image` is the image's path, None where it has none. Raises ImageError where its mask cannot be read.
        """
        if self.everywhere:
            if size not in self._shrunk:
                self._shrunk[size] = shrink(self._mask, size)
            return self._shrunk[size]
        file = None if image is None else self._file(PurePath(image))
        return None if file is None else shrink(read_mask(file, without_black="darkest"), size)

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


def shrink(mask: Mask, size: Size) -> Mask | None:
    """The mask at network size: all pixels that resizing an image makes of ignored ones in part or whole; None: none.

    For images of the mask's own size this is exact.
    """
    reached = resize_mask(mask, size, rule="touched")
    return reached if reached.any() else None


def union(first: Mask | None, second: Mask | None) -> Mask | None:
    """What either of two masks ignores; None where neither is there."""
    if first is None or second is None:
        return first if second is None else second
    return first | second


def filling(images: npt.NDArray[np.uint8], masks: Mapping[int, Mask], chosen: Sequence[int]) -> npt.NDArray[np.uint8]:
    """What stands in for ignored pixels, uint8 (H, W, 3): the mean of the chosen images over those that count there.

    Where none does, the mean at the nearest place where one does: what lies under a mask has no part in it.

    Args:
        images: (N, H, W, 3).
        masks: where an image does not count, (H, W), by its index.
        chosen: indices of nominal images.

    Raises:
        BlemishError: no pixel counts in any of them.
    """
    total, count = np.zeros(images.shape[1:]), np.zeros(images.shape[1:3])
    for index in chosen:
        counts = ~masks[index] if index in masks else np.ones(count.shape, dtype=bool)
        total[counts] += images[index][counts]
        count += counts
    if not count.any():
        raise BlemishError("the masks leave nothing to look at: let some part of the images count")
    nearest = distance_transform_edt(count == 0, return_distances=False, return_indices=True)
    mean = total / np.maximum(count, 1)[..., None]
    return np.rint(mean[tuple(nearest)]).astype(np.uint8)


def as_record(ignore: Ignore, size: Size) -> dict[str, Any]:
    """What the model file says of the masks it was trained with: name, and for a single one its share and picture."""
    mask = ignore.mask(None, size)
    return {
        "mask": ignore.path.name,
        "everywhere": ignore.everywhere,
        "share": None if mask is None else float(mask.mean()),
        "png": None if mask is None else _png(mask),
    }


def of_record(record: Mapping[str, Any] | None, size: Size) -> Mask | None:
    """The mask (H, W) inside a model's graph of network `size`, from its file's record.

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
            fits = picture.size == (size[1], size[0])  # asked before anything is decoded
            mask = np.array(picture, dtype=bool) if fits else None
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        raise BlemishError("its mask of what is ignored is a broken picture") from error
    if mask is None or mask.shape != size:
        raise BlemishError(f"its mask of what is ignored is not {size[0]} x {size[1]} pixels of one channel")
    return mask


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
