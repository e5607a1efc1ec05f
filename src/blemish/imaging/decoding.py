"""Opening an image file: its headers are checked first, and of several frames one is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from blemish.imaging.containers import jpeg, tiff
from blemish.imaging.formats import TITLES, format_of
from blemish.imaging.limits import MAX_PIXELS, UnfitError, check_pixels
from blemish.imaging.plain_maps import decode_plain
from blemish.imaging.tiff_pages import Pages, needs_correction


@dataclass(frozen=True, eq=False)
class Opened:
    """An image of which the header is read, and perhaps more.

    Attributes:
        image: Pillow's, at the frame that was asked for.
        frames: how many images of their own the file holds; thumbnails and reduced copies are none.
        complete: whether all frames were counted; False where there are more.
    """

    image: Image.Image
    frames: int
    complete: bool = True


class FrameFile:
    """An image file whose headers are read once and whose frames are opened one by one.

    In ascending order each frame is decoded once: a frame of an animation is made of those before it, which would
    otherwise be decoded again for each.

    Args:
        file: open for reading in binary mode and searchable; it stays open as long as a frame is not decoded.
        most_pixels: the largest image, height x width.

    Raises:
        UnfitError: the file is none of the formats that are read, or is not to be decoded.
    """

    def __init__(self, file: BinaryIO, *, most_pixels: int = MAX_PIXELS) -> None:
        form = format_of(file)
        if form is None:
            raise UnfitError(f"not a {TITLES} image, or truncated inside its header")
        self._file, self._form, self._most_pixels = file, form, most_pixels
        self._contents = form.examine(file, most_pixels)
        self._pages = Pages(file, self._contents.offsets, most_pixels) if form.name == "TIFF" else None
        self._image: Any = None  # Pillow's, at the frame that it was asked for last
        self.position = 0

    def open(self, frame: int) -> Opened:
        """One frame, counted from 1; it is good until the next one is opened.

        Raises:
            UnfitError: there is no such frame, or it is not to be decoded.
            Exception: whatever Pillow raises of damaged files.
        """
        form, contents = self._form, self._contents
        try:
            if self._pages is None and (self._image is None or frame <= self.position):
                self._file.seek(0)
                self._image = Image.open(self._file, formats=(form.name,))
            index = contents.index
            frames = contents.frames if index is None else _pictures(self._image, self._file, index)
            if not 1 <= frame <= len(frames):
                raise UnfitError(
                    f"it has no frame {frame:,}, only {len(frames):,}"
                    if contents.complete
                    else f"it has more than {len(frames):,} frames; split it"
                )
            image = self._open(frames[frame - 1])
        except UnidentifiedImageError as error:
            raise UnfitError(
                f"a {form.title} file that is damaged or truncated inside its header; copy or save it again"
            ) from error
        check_pixels(image.width, image.height, self._most_pixels)
        self.position = frame
        return Opened(image, len(frames), contents.complete)

    def _open(self, number: int) -> Image.Image:
        """The picture of this number, counted from 0."""
        if self._pages is not None:
            return self._pages.open(number)
        image: Any = self._image
        if self._form.name == "PPM":
            return _portable_map(image, self._file)
        if number:
            image.seek(number)
            if self._form.name == "JPEG":
                jpeg.examine(self._file, self._most_pixels, image.offset)
        return image  # type: ignore[no-any-return]


def open_image(file: BinaryIO, *, most_pixels: int = MAX_PIXELS, frame: int = 1) -> Opened:
    """Opens one frame of an image file, see `FrameFile`; nothing is decoded that is not within bounds."""
    return FrameFile(file, most_pixels=most_pixels).open(frame)


def recheck(image: Image.Image, *, most_pixels: int = MAX_PIXELS) -> Opened:
    """The same for an image that somebody else has opened with Pillow; what is decoded already is taken as it is.

    The number of frames is 1 where another than the first is chosen, or where it is not known. Raises UnfitError.
    """
    file: Any = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or file is None or (not image.tile and image.format != "WEBP"):
        return Opened(image, 1)
    place, number = file.tell(), image.tell()
    try:
        form = format_of(file)
        if form is None:
            return Opened(image, 1)
        if form.name == "JPEG":
            contents = jpeg.examine(file, most_pixels, getattr(image, "offset", 0))
        else:
            contents = form.examine(file, most_pixels)
        frames = contents.frames if contents.index is None else _pictures(image, file, contents.index)
        chosen: Image.Image = image
        if form.name == "TIFF":
            page = tiff.check_frame(file, number, most_pixels, contents.offsets)
            if page is not None and needs_correction(page):
                chosen = Pages(file, contents.offsets, most_pixels).open(number)
        elif form.name == "PPM":
            chosen = _portable_map(image, file)
    finally:
        file.seek(place)
    return Opened(chosen, len(frames) if number == frames[0] else 1)


def _pictures(image: Any, file: BinaryIO, index: int) -> Sequence[int]:
    """The pictures of a JPEG with several (MPO) that are images of their own.

    Cameras and telephones add previews, depth maps and brightness maps without saying what they are; those are smaller.
    """
    pictures = getattr(image, "mpinfo", None)
    if pictures is None:  # Pillow takes it for a single picture
        return range(1)
    frames, place = [0], file.tell()
    for number, entry in enumerate(pictures[0xB002][1:], 1):
        kind = entry["Attribute"]["MPType"]
        if kind.startswith("Multi-Frame") or (
            kind == "Undefined" and jpeg.size(file, index + entry["DataOffset"]) == image.size
        ):
            frames.append(number)
    file.seek(place)
    return frames


def _portable_map(image: Any, file: BinaryIO) -> Image.Image:
    """A PGM or PPM in text, or one whose largest value is neither 255 nor 65,535, scaled to that; any other as it is.

    Pillow reads and scales these value by value, which takes a minute for an image of a camera.
    """
    codec, _, start, arguments = image.tile[0]
    most = arguments[-1] if isinstance(arguments, tuple) else 1
    if codec == "ppm_plain" and not (image.mode == "RGB" and most > 255):  # of which only 8 bits could be read
        file.seek(start)
        decoded = decode_plain(file, image.size, image.mode, most)
        decoded.format = image.format
        return decoded
    bands = {"L": 1, "I": 1, "RGB": 3}.get(image.mode)
    if codec != "ppm" or bands is None or (bands == 3 and most > 255):
        return image  # type: ignore[no-any-return]
    stored, full = (np.dtype(np.uint8), 255) if most < 256 else (np.dtype(">u2"), 65535)
    count = image.width * image.height * bands
    file.seek(start)
    content = file.read(count * stored.itemsize)
    if len(content) < count * stored.itemsize:
        raise OSError("image file is truncated")
    scaled = np.minimum(np.rint(np.arange(full + 1) / most * full), full)
    values = scaled.astype(stored.newbyteorder("="))[np.frombuffer(content, stored)]
    shape = (image.height, image.width, bands) if bands == 3 else (image.height, image.width)
    decoded = Image.fromarray(values.reshape(shape))
    decoded.format = image.format
    return decoded
