"""One image or several: a path, a picture or an array is one image, and is never split into its rows."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.types import ImageSource
from blemish.io.arguments import shown

_CHANNELS = (1, 3, 4)  # a last axis of this length holds colours
_MIN_WIDTH = 16  # a last axis shorter than this is rather channels of one image than the width of many


def each_image(images: ImageSource | bytes | Iterable[ImageSource] | npt.NDArray[Any]) -> Iterable[ImageSource]:
    """The images that are meant by one image or several; elements are not looked at.

    A path, a PIL image and an array (H, W) or (H, W, C) with C = 1, 3 or 4 are one image. An array (N, H, W, C) holds
    N images, and so does (N, H, W) where the last axis is not 1, 3 or 4 long. Raises ImageError for what holds none,
    and for (H, W, C) with another small C, of which every row would be an image.
    """
    if isinstance(images, str | bytes | os.PathLike | Image.Image | Frame):
        return [os.fsdecode(images) if isinstance(images, bytes) else images]
    if isinstance(images, np.ndarray):
        return _of_array(images)
    require_collection(images, "images")
    return images  # type: ignore[return-value]


def each_path(paths: str | bytes | os.PathLike[Any] | Iterable[str | bytes | os.PathLike[Any]]) -> Iterator[str]:
    """The paths that are meant by one path or several, as text. Raises BlemishError for what is no path."""
    if isinstance(paths, str | bytes | os.PathLike):
        paths = [paths]
    if isinstance(paths, Image.Image):
        raise BlemishError("a PIL image has no path here; pass the image's file, or use Detector.score")
    require_collection(paths, "paths")
    for path in paths:
        if not isinstance(path, str | bytes | os.PathLike):
            raise BlemishError(f"a path must be text or a pathlib.Path, not {type(path).__name__}: {shown(path)}")
        yield os.fsdecode(path)


def require_collection(several: object, what: str) -> None:
    """Raises ImageError where something is neither an iterator nor a collection that could hold images or paths."""
    kind = type(several).__name__
    if hasattr(several, "read"):
        raise ImageError(f"{what}: an open file ({kind}) is none; pass its path, or PIL.Image.open(file)")
    if isinstance(several, Mapping):
        raise ImageError(f"{what}: a {kind} is no list of them; pass its values, such as list(d.values())")
    if hasattr(several, "__array__") and getattr(several, "ndim", 1) != 1:
        raise ImageError(f"{what}: {kind} is none; pass it as a NumPy array, uint8 or uint16")
    if isinstance(several, memoryview | bytearray) or not isinstance(several, Iterable):
        raise ImageError(f"{what}: {shown(several)} is none; pass one or a list of them")


def _of_array(array: npt.NDArray[Any]) -> Iterable[ImageSource]:
    if array.ndim == 0 and array.dtype.kind in "US":
        return each_image(array.item())
    if array.ndim == 1 and array.dtype.kind in "OUS":  # of paths, or of images of several sizes
        return list(array)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _CHANNELS)
    if array.ndim not in (2, 3, 4) or array.dtype.kind not in "uifb":
        raise ImageError(
            f"an array {array.shape} of {array.dtype} holds no images; pass uint8 or uint16, (H, W), (H, W, C), "
            "(N, H, W) or (N, H, W, C)"
        )
    if array.ndim == 3 and not is_image and array.shape[-1] < _MIN_WIDTH <= array.shape[1]:
        raise ImageError(
            f"an array {array.shape} is an image of {array.shape[-1]} channels or a batch of very narrow ones; "
            "of the image pass 1, 3 or 4 channels, of the batch list(array)"
        )
    return [array] if is_image else list(array)
