"""What the values of a mask picture mean: which of them are background, and which mark an anomaly.

A picture of few values holds classes: all but the background mark something, however dark they are. A picture of
grades (JPEG, antialiased or blurred edges) is cut at half of full scale. The pixels show which of the two it is:
a class has pixels with none but its own value around them, or borders on the background alone; grades stand
between other values.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from blemish.imaging.errors import ImageError
from blemish.imaging.modes import in_rgb, to_rgb_or_grey, wide_values
from blemish.imaging.types import Mask

Numbers = npt.NDArray[Any]
WithoutBlack = Literal["commonest", "darkest"]

_MAX_LABEL = 15  # values no larger are the numbers of classes
_MIN_LOSSY = 4  # values: of three at most, one lies between the background and the brightest
_MIN_GRADED = 5  # edges of half the resolution have three steps
_MANY_GRADES = 8
_MAX_CLASSES = 64  # beyond, a picture whose neighbouring pixels differ little is a smooth ramp
_BLACK = 8 / 255  # of full scale: what a lossy file makes of black
_PLATEAU = 16 / 255  # of full scale: what a lossy file leaves beside an edge is darker


@dataclass(frozen=True)
class Marked:
    """What a mask picture marks.

    Attributes:
        pixels: bool (H, W), true where anomalous.
        lost: whether an area differs from the background and lies below half of full scale all the same.
        even: whether one value, which is not black, is everywhere: all is marked.
    """

    pixels: Mask
    lost: bool = False
    even: bool = False


@dataclass(frozen=True)
class _Picture:
    """A picture as numbers (H, W): the value of each pixel, 0 where black or transparent.

    Attributes:
        values: grey values, palette indices, or colours as red * 65536 + green * 256 + blue.
        kind: which of these.
        full: the largest value that the format has; infinite where nobody knows.
    """

    values: Numbers
    kind: Literal["grey", "colour", "index"]
    full: float = 255

    def brightness(self) -> Numbers:
        """The grey values, or the brightest channels."""
        return self.distance(0)

    def distance(self, value: float) -> Numbers:
        """How far each pixel is from one of this value, in its most different channel."""
        if self.kind != "colour":
            return np.asarray(np.abs(self.values - value))
        channels = [np.abs((self.values >> shift & 255) - (int(value) >> shift & 255)) for shift in (0, 8, 16)]
        return np.asarray(np.maximum.reduce(channels))


def marked(image: Image.Image, *, name: str, lossy: bool, without_black: WithoutBlack) -> Marked:
    """The marked pixels of a decoded picture in its own mode.

    Args:
        image: the picture.
        name: its name, for messages.
        lossy: whether its file does not keep values, as JPEG.
        without_black: which value is background where nothing is black or transparent.

    Raises:
        ImageError: values are of a kind that a mask cannot have.
    """
    picture = _read(image, name)
    values, counts = _distinct(picture.values)
    if len(values) == 1:
        even = bool(values[0] != 0)
        return Marked(np.full(picture.values.shape, even), even=even)
    background = 0 if (values == 0).any() else _background(picture, values, counts, without_black)
    numbers = image.mode != "F" and picture.brightness().max() <= _MAX_LABEL  # of classes
    several = len(values) >= (_MIN_LOSSY if lossy else _MIN_GRADED) and picture.kind != "index"
    if several and not numbers and (lossy or _graded(picture, values, background)):
        if not np.isfinite(picture.full):
            raise ImageError(f"{name}: its values are floating-point; save it as 8 bit or 16 bit")
        return _cut(picture, background, without_black)
    return Marked(np.asarray(picture.values != background))


def _read(image: Image.Image, name: str) -> _Picture:
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ImageError(f"{name}: some of its values are no numbers; save it as 8 bit or 16 bit")
        return _Picture(values, "grey", full=1 if values.min() >= 0 and values.max() <= 1 else np.inf)
    if image.mode == "1":
        return _Picture(np.asarray(image).astype(np.int64), "grey")
    if image.mode.startswith("I"):
        values = wide_values(image, name).astype(np.int64)
        if isinstance(transparent := image.info.get("transparency"), int):
            values[values == transparent] = 0
        return _Picture(values, "grey", full=255 if values.max() <= 255 else 65535)
    if image.mode == "La":
        image = image.convert("LA")  # the one way out of La that Pillow has
    if image.has_transparency_data:
        return _read_transparent(np.asarray(image.convert("RGBA")).astype(np.int64))
    if image.mode == "P":
        return _read_palette(image)
    image = to_rgb_or_grey(image, name=name, background="black")
    if image.mode == "L":
        return _Picture(np.asarray(image).astype(np.int64), "grey")
    return _Picture(_packed(np.asarray(in_rgb(image)).astype(np.int64)), "colour")


def _read_transparent(pixels: Numbers) -> _Picture:
    """Red, green, blue, alpha (H, W, 4) over black; where all that is drawn is black, what is drawn counts itself."""
    colours, alpha = pixels[..., :3], pixels[..., 3]
    if not alpha.any() and len(_distinct(_packed(colours))[0]) > 1:
        return _Picture(_packed(colours), "colour")  # nothing is visible: transparency is not what was meant
    if not colours[alpha > 0].any():
        return _Picture(alpha if (alpha == 0).any() else np.zeros_like(alpha), "grey")
    # Rounded up, so that hardly visible is still not background.
    return _Picture(_packed(-(-colours * alpha[..., None] // 255)), "colour")


def _read_palette(image: Image.Image) -> _Picture:
    """By colours; by indices where two that occur have the same colour, as with a palette that was left out."""
    indices = np.asarray(image).astype(np.int64)
    colours = np.zeros((256, 3), np.int64)
    palette = np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)[:256]
    colours[: len(palette)] = palette
    used = np.unique(indices)
    if len(np.unique(colours[used], axis=0)) < len(used):
        return _Picture(indices, "index")
    return _Picture(_packed(colours)[indices], "colour")


def _packed(channels: Numbers) -> Numbers:
    return np.asarray(channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2])


def _distinct(values: Numbers) -> tuple[Numbers, Numbers]:
    """The values that occur, ascending, and how often each does."""
    if values.dtype.kind == "i" and values.min() >= 0 and values.max() < 1 << 16:  # a tenth of the time of sorting
        counts = np.bincount(values.ravel())
        found = np.flatnonzero(counts)
        return found, counts[found]
    return np.unique(values, return_counts=True)


def _background(picture: _Picture, values: Numbers, counts: Numbers, without_black: WithoutBlack) -> float:
    if without_black == "commonest":
        return values[int(np.argmax(counts))].item()
    return values[int(np.argmin(_Picture(values, picture.kind).brightness()))].item()


def _graded(picture: _Picture, values: Numbers, background: float) -> bool:
    """Whether values other than the background are steps of edges or of noise, rather than classes."""
    codes = np.searchsorted(values, picture.values).astype(np.int32)  # (H, W), positions in `values`
    marks = picture.values != background
    lowest = minimum_filter(np.where(marks, codes, len(values)), 3, mode="nearest")
    highest = maximum_filter(np.where(marks, codes, -1), 3, mode="nearest")
    mixed = marks & ((lowest != codes) | (highest != codes))  # beside a mark of another value
    inside = maximum_filter(codes, 3, mode="nearest") == minimum_filter(codes, 3, mode="nearest")
    number = np.bincount(codes.ravel(), minlength=len(values))
    share_mixed = np.bincount(codes[mixed], minlength=len(values)) / number
    share_inside = np.bincount(codes[inside], minlength=len(values)) / number
    steps = (share_mixed >= 0.8) & (share_inside <= 0.02) & (values != background)
    if steps.sum() >= _MANY_GRADES and 2 * steps.sum() > len(values) - 1:
        return True
    distance = picture.distance(background)
    if len(values) > _MAX_CLASSES and _is_ramp(distance, marks):
        return True
    between = marks & (distance < distance.max())
    if not steps[np.unique(codes[between])].all():
        return False
    above = maximum_filter(distance, 3, mode="nearest") > distance
    below = minimum_filter(distance, 3, mode="nearest") < distance
    return bool((above & below)[between].mean() >= 0.9)  # all lie on the way from the background to the brightest


def _is_ramp(distance: Numbers, marks: Mask) -> bool:
    """Whether marked neighbours of another value are nearly always of a near one."""
    both = marks[:, 1:] & marks[:, :-1]
    steps = np.abs(np.diff(distance, axis=1))[both]
    steps = steps[steps > 0]
    return bool(len(steps) and (steps <= 0.1 * distance.max()).mean() > 0.9)


def _cut(picture: _Picture, background: float, without_black: WithoutBlack) -> Marked:
    """What lies above half of full scale; of the brightest area where all areas are darker."""
    height = picture.brightness()
    if without_black == "commonest" and (height <= _BLACK * picture.full).mean() < 0.001:
        height = picture.distance(background)
    full = picture.full if height.max() > picture.full / 2 else float(height.max())
    flat = maximum_filter(height, 3, mode="nearest") - minimum_filter(height, 3, mode="nearest") <= 8 / 255 * full
    areas = height[flat & (height > _PLATEAU * picture.full)]
    level = float(np.median(areas)) if len(areas) else full
    if level < 0.75 * full and (np.abs(areas - level) <= full / 32).mean() >= 0.6:
        full = level  # most areas are of one value, and brighter pixels overshoot beside an edge, as JPEG's do
    below = height[flat & (height <= full / 2) & (height > _PLATEAU * picture.full)]
    pixels = height > full / 2
    return Marked(np.asarray(pixels), lost=len(below) >= max(9, 0.01 * pixels.sum()) and _is_even(below, full))


def _is_even(heights: Numbers, full: float) -> bool:
    """Whether many of these lie close together, as those of an area do and those at the foot of a blur do not."""
    steps = np.bincount((heights * (32 / full)).astype(int), minlength=2)
    return bool((steps[1:] + steps[:-1]).max() >= 0.4 * len(heights))
