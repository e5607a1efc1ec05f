"""Bringing images, masks and anomaly maps to another size: the one place for each."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.imaging.anomaly_maps import check_anomaly_map
from blemish.imaging.modes import in_rgb
from blemish.imaging.types import Mask, Size

MAX_STRETCH = 1.02  # between the shape of a mask and that of its image

MaskRule = Literal["any", "half", "touched", "nearest", "corner"]


def to_network_size(image: Image.Image, size: Size) -> npt.NDArray[np.uint8]:
    """Resizes an RGB or grey image to uint8 (H, W, 3) at `size` by Pillow's antialiased bilinear filter."""
    height, width = size
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(in_rgb(resized))  # afterwards: one channel takes a third of the time of three


def upscale(anomaly_map: npt.NDArray[Any], size: Size) -> npt.NDArray[np.float32]:
    """An anomaly map (h, w) brought bilinearly to `size` (height, width), antialiased where it shrinks."""
    check_anomaly_map(anomaly_map)
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(anomaly_map, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: Mask, size: Size, *, rule: MaskRule) -> Mask:
    """Brings a mask to another size.

    Args:
        mask: bool (H, W).
        size: the new (height, width).
        rule: which pixels of the new mask are marked.
            "any": those that any marked pixel falls into, so that no thin scratch is lost.
            "half": those of which at least half is marked.
            "touched": those that `to_network_size` computes from a marked pixel, in part or whole.
            "nearest": those whose centre lies in a marked pixel, as Pillow's NEAREST has it.
            "corner": those whose upper left corner lies in a marked pixel.

    Returns:
        bool `size`; the mask itself may be returned where it has that size.
    """
    if rule == "any":
        return _any(mask, size)
    if rule == "corner":
        return mask[np.ix_(*_corners(mask, size))]
    if rule == "nearest":
        return np.array(Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST), dtype=bool)
    if rule == "half" and mask.shape == size:
        return mask
    share = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR))
    return np.asarray(share >= 0.5 if rule == "half" else share > 0)


def same_shape(first: Size, second: Size) -> bool:
    """Whether two sizes have the same ratio of height and width, but for 2 %."""
    stretch = (first[0] * second[1]) / (first[1] * second[0])
    return max(stretch, 1 / stretch) <= MAX_STRETCH


def _any(mask: Mask, size: Size) -> Mask:
    small = np.zeros(size, dtype=bool)
    rows, columns = np.nonzero(mask)
    small[rows * size[0] // mask.shape[0], columns * size[1] // mask.shape[1]] = True
    if mask.shape[0] < size[0] or mask.shape[1] < size[1]:  # where it is enlarged, several pixels have one source
        small |= mask[np.ix_(*_corners(mask, size))]
    return small


def _corners(mask: Mask, size: Size) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The rows and the columns of the mask in which the upper left corners of the new pixels lie."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, mask.shape, strict=True))
    return rows, columns
