"""The depth of 16-bit images: cameras store 10, 12 or 14 bits in 16-bit files, and the file does not say so.

The depth belongs to a set of images, never to a single one: a dark image is not to be brightened.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.reading import Reading
from blemish.io.arguments import shown

SMALLEST, LARGEST = 8, 16  # bits
DEPTHS = (8, 10, 12, 14, 16)  # what files with 16 bits a value hold; 8 where a program only widened them
_ORIENTATION = 0x0112  # EXIF
_ALPHA = {"LA": 1, "RGBA": 3}  # channel of opacity

Wide = npt.NDArray[np.uint16]


def full_scale(bits: int) -> int:
    """The largest value of a depth: 4095 for 12 bits."""
    return (1 << bits) - 1


def depth_of(largest: int) -> int:
    """The depth of a set of images by the largest value in all of them: 8, 10, 12, 14 or 16 bits."""
    return next((bits for bits in DEPTHS if largest <= full_scale(bits)), LARGEST)


def check_bits(bits: object) -> int:
    """The depth as given. Raises BlemishError where it is no whole number from 8 to 16."""
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not SMALLEST <= bits <= LARGEST:
        raise BlemishError(f"the bit depth must be a whole number from {SMALLEST} to {LARGEST}, not {shown(bits)}")
    return int(bits)


def to_8_bit(values: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Whole numbers >= 0 of a depth, any shape, as `value >> (bits - 8)`, at most 255."""
    return np.minimum(values >> (bits - SMALLEST), 255).astype(np.uint8)


def depth_remark(name: str, largest: int, reading: Reading) -> str | None:
    """What is wrong with reading an image of this largest value so, in one sentence; None where nothing is."""
    if largest > full_scale(reading.bits):
        return (
            f"{name}: its largest value is {largest:,}, but {reading.bits} bits end at {full_scale(reading.bits):,}; "
            "larger values are read as white"
        )
    if not reading.seen and depth_of(largest) < reading.bits:
        return (
            f"{name}: a 16-bit image with values up to {largest:,}, but the model was trained on 8-bit images; it is "
            f"read as {reading.bits} bits, and so very dark: convert it to 8 bits, or train with --bits "
            f"{depth_of(largest)}"
        )
    return None


def is_wide(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a value, by its header alone."""
    return image.mode.startswith("I") or _wide_colour(image) is not None


@dataclass(frozen=True, eq=False)
class WideColour:
    """A colour image of 16 bits a channel, which Pillow itself would cut to the upper 8.

    Attributes:
        values: (H, W, C), as stored.
        mode: Pillow's mode with as many channels.
        orientation: of EXIF; 1 is upright.
    """

    values: Wide
    mode: str
    orientation: int

    @property
    def colours(self) -> Wide:
        """The values without opacity, (H, W, 1 | 3 | 4)."""
        return self.values[..., : _ALPHA.get(self.mode, self.values.shape[-1])]

    @property
    def largest(self) -> int:
        """The largest value of all colours."""
        return int(self.colours.max())

    def at(self, bits: int) -> Image.Image:
        """The image with 8 bits a channel; its EXIF orientation is still to be applied."""
        height, width = self.values.shape[:2]
        image = Image.frombytes(self.mode, (width, height), to_8_bit(self.values, bits).tobytes())
        image.getexif()[_ORIENTATION] = self.orientation
        return image


def read_wide_colour(image: Image.Image) -> WideColour | None:
    """Decodes an image that is open and not yet decoded; None where it is no 16-bit colour image.

    The image itself stays as it was. Raises what Pillow raises of damaged files, and BlemishError where the upper
    bytes are all that can be read.
    """
    kind = _wide_colour(image)
    if kind is None:
        return None
    if kind == "P6":
        return WideColour(_of_portable_map(image), "RGB", 1)
    if kind == "LA;16B":  # as four channels of 8 bits: both bytes of grey, both of opacity
        plain = _decoded(image, "RGBA")
        both = np.asarray(plain)
        return WideColour(_joined(both[..., 0::2], both[..., 1::2]), "LA", _orientation(plain))
    if kind not in _OTHER_BYTES:
        raise BlemishError("its colours have 16 bits in a form of which only 8 can be read; save it as a PNG or TIFF")
    upper, lower = _decoded(image, kind), _decoded(image, _OTHER_BYTES[kind])
    return WideColour(_joined(np.asarray(upper), np.asarray(lower)), upper.mode, _orientation(upper))


# Pillow unpacks 16-bit channels into 8 bits by taking the upper byte. Unpacked by the other byte order, the same
# pixels give the lower one.
_THERE = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTES = {
    f"{channels};16{order}": f"{channels};16{other}"
    for channels in ("RGB", "RGBA", "RGBX", "CMYK")
    for order, other in (("L", "B"), ("B", "L"), ("N", _THERE))
}


def _wide_colour(image: Image.Image) -> str | None:
    """The raw mode of an undecoded 16-bit colour image, "P6" for a portable map; None for any other."""
    if image.mode.startswith("I") or not (tiles := getattr(image, "tile", None)):
        return None
    codec, arguments = tiles[0][0], tiles[0][3]
    if image.format == "PPM":
        wide = codec in ("ppm", "ppm_plain") and image.mode == "RGB" and arguments[-1] > 255
        return None if not wide else "P6" if codec == "ppm" else "P3"
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) and ";16" in raw else None


def _decoded(image: Any, raw: str) -> Image.Image:
    """The file decoded once more, with another raw mode."""
    place = image.fp.tell()
    try:
        image.fp.seek(0)
        again: Any = Image.open(image.fp, formats=[image.format])
        if frame := image.tell():
            again.seek(frame)
        again.tile = [_with_arguments(tile, raw) for tile in again.tile]
        again.load()
    finally:
        image.fp.seek(place)
    decoded: Image.Image = again
    return decoded


def _with_arguments(tile: Any, raw: str) -> Any:
    arguments = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
    named = hasattr(tile, "_replace")  # from Pillow 11 on
    return tile._replace(args=arguments) if named else (*tile[:3], arguments)


def _joined(upper: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8]) -> Wide:
    return (upper.astype(np.uint16) << 8 | lower).astype(np.uint16)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, TypeError, ValueError):  # bytes that are no EXIF
        return 1


def _of_portable_map(image: Any) -> Wide:
    """The values of a binary PPM, scaled from the largest value that its header names to 65,535."""
    _, _, offset, arguments = image.tile[0]
    place = image.fp.tell()
    try:
        image.fp.seek(offset)
        content = image.fp.read(6 * image.width * image.height)
    finally:
        image.fp.seek(place)
    if len(content) < 6 * image.width * image.height:
        raise OSError("image file is truncated")
    values = np.frombuffer(content, ">u2").reshape(image.height, image.width, 3)
    most = arguments[-1]
    return np.minimum(np.rint(values * (65535 / most)), 65535).astype(np.uint16)
