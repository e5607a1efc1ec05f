"""Pages of a TIFF that Pillow reads wrongly or not at all are brought to a form that it reads right."""

import io
import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from blemish.imaging.containers import tiff, tiff_support, tiff_tags
from blemish.imaging.containers.tiff_tags import Page
from blemish.imaging.limits import UnfitError

_LOSSLESS = {1, 5, 8, 32773, 32946}  # compressions that keep each plane by itself: none, LZW, Deflate, PackBits
_SHORT, _LONG = 3, 4
_PREMULTIPLIED, _OPACITY = 1, 2  # kinds of EXTRA_SAMPLES
_KEPT = (tiff_tags.COMPRESSION, tiff_tags.FILL_ORDER, tiff_tags.ORIENTATION, tiff_tags.PREDICTOR)


class Pages:
    """The pages of a TIFF, opened one by one; in ascending order none is searched for from the first.

    Args:
        file: open for reading; it stays open as long as a page is not decoded.
        offsets: where pages begin, as far as that is known.
        most_pixels: the largest image, height x width.
    """

    def __init__(self, file: BinaryIO, offsets: Sequence[int], most_pixels: int) -> None:
        self._file = file
        self._offsets = offsets
        self._most_pixels = most_pixels
        self._image: Image.Image | None = None  # Pillow's, at the page that it was asked for last

    def open(self, number: int) -> Image.Image:
        """One page, counted from 0, right or not at all; it is good until the next page is opened.

        Raises UnfitError, and what Pillow raises of damaged files.
        """
        file = self._file
        file.seek(0)
        head = file.read(4)
        if head == b"MM\0+":
            raise UnfitError("a BigTIFF with big-endian numbers is not read; save it as a usual TIFF")
        page = tiff.check_frame(file, number, self._most_pixels, self._offsets) or Page(little=True)
        wrong = needs_correction(page)
        try:
            if wrong:
                image = _corrected(file, page)
                image.format = "TIFF"
                return image
            image = self._by_pillow(number)
            if tiff_support.unread(page) is None:
                return image
            image.load()
        except MemoryError:
            raise
        except UnidentifiedImageError as error:
            if not page.values.keys() >= {tiff_tags.WIDTH, tiff_tags.HEIGHT}:
                raise
            raise UnfitError(tiff_support.unread(page) or tiff_support.in_words(page)) from error
        except Exception as error:  # whatever its parser stumbles over
            if (reason := tiff_support.unread(page)) is None:
                raise
            raise UnfitError(reason) from error
        self._image = None
        return self._by_pillow(number)

    def _by_pillow(self, number: int) -> Image.Image:
        image, self._image = self._image, None  # where it raises, the next page is opened afresh
        if image is None or number <= image.tell():
            self._file.seek(0)
            image = Image.open(self._file, formats=("TIFF",))
        if number:
            image.seek(number)
        self._image = image
        return image


def needs_correction(page: Page) -> bool:
    """Whether Pillow's pixels of a page that `tiff.check_frame` gave would be wrong; False where there are none.

    Raises UnfitError where the page is not to be decoded, or cannot be corrected.
    """
    if not page.values:
        return False
    bits, unsigned = set(page.bits), page.formats == {tiff_tags.UNSIGNED}
    if page.formats == {tiff_tags.SIGNED} and bits == {8}:
        raise UnfitError(f"its values are signed, 8 bits; {tiff_support.WAY_OUT}")
    if page.in_planes and page.photometric in (tiff_tags.WHITE_IS_ZERO, tiff_tags.BLACK_IS_ZERO) and page.samples > 2:
        raise UnfitError(tiff_support.bands(page))  # of planes of grey Pillow takes the first and drops the others
    if page.in_planes and unsigned and bits <= {8, 16}:
        if page.compression in _LOSSLESS and _colours(page) is not None:
            return True
        if bits != {8}:
            raise UnfitError("its bands are stored one after another (planar) with 16 bits; save it interleaved")
    grey = page.samples == 1 and unsigned and page.photometric in (tiff_tags.WHITE_IS_ZERO, tiff_tags.BLACK_IS_ZERO)
    if not grey or page.compression not in _LOSSLESS:
        if grey and bits == {16} and page.photometric == tiff_tags.WHITE_IS_ZERO:
            raise UnfitError(
                f"a negative (WhiteIsZero) of 16 bits in this compression is not read; {tiff_support.WAY_OUT}"
            )
        return False
    if bits == {16} and page.photometric == tiff_tags.WHITE_IS_ZERO:
        return True
    return bits == {12} and (page.photometric == tiff_tags.WHITE_IS_ZERO or not page.little)


def _colours(page: Page) -> int | None:
    """How many bands make the colours of a page in planes; None where it is not known what they mean."""
    grey_bits = {8}
    needed = {tiff_tags.RGB: 3, tiff_tags.CMYK: 4}.get(page.photometric)
    if needed is None and page.photometric == tiff_tags.BLACK_IS_ZERO and set(page.bits) == grey_bits:
        needed = 1 if page.values.get(tiff_tags.EXTRA_SAMPLES) else None
    return needed if needed is not None and page.samples >= needed else None


def _corrected(file: BinaryIO, page: Page) -> Image.Image:
    """A page in planes or of a negative, as an image that is right."""
    if not page.in_planes:
        values = np.asarray(_plane(file, page, 0)).astype(np.uint16)
        if page.photometric == tiff_tags.WHITE_IS_ZERO:
            values = ((1 << page.bits[0]) - 1 - values).astype(np.uint16)
        return Image.fromarray(values)
    colours = _colours(page)
    assert colours is not None
    extras = page.values.get(tiff_tags.EXTRA_SAMPLES, ())
    # Like Pillow of interleaved files: a fourth band that is not explained is opacity.
    kind = extras[0] if extras else _OPACITY if page.samples == colours + 1 == 4 else 0
    opaque = kind not in (_PREMULTIPLIED, _OPACITY) or page.photometric == tiff_tags.CMYK
    planes = [_plane(file, page, number) for number in range(colours if opaque else colours + 1)]
    if page.bits[0] == 16:
        stacked = np.stack([np.asarray(plane).astype(np.uint16) for plane in planes], axis=2)
        return Image.open(io.BytesIO(_interleaved(stacked, page.photometric, None if opaque else kind)))
    if opaque:
        return planes[0] if colours == 1 else Image.merge({3: "RGB", 4: "CMYK"}[colours], planes)
    letter = "a" if kind == _PREMULTIPLIED else "A"
    image = Image.merge(("L" if colours == 1 else "RGB") + "A", planes)
    if letter == "A":
        return image
    return Image.frombytes(image.mode[:-1] + "a", image.size, image.tobytes()).convert(image.mode)


def _plane(file: BinaryIO, page: Page, number: int) -> Image.Image:
    """One band of a page as a grey image, upright: its strips or tiles are put into a file of their own."""
    (width, height), (across, down) = page.size, page.piece
    pieces = -(-width // across) * -(-height // down)
    offsets = page.values.get(tiff_tags.TILE_OFFSETS if page.tiled else tiff_tags.STRIP_OFFSETS, ())
    counts = page.values.get(tiff_tags.TILE_BYTES if page.tiled else tiff_tags.STRIP_BYTES, ())
    mine = slice(number * pieces, (number + 1) * pieces)
    offsets, counts = offsets[mine], counts[mine]
    if len(offsets) != pieces or len(counts) != pieces or min(*offsets, *counts, 0) < 0:
        raise OSError("image file is truncated")
    contents = []
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        contents.append(file.read(count))
        if len(contents[-1]) < count:
            raise OSError("image file is truncated")
    tags: dict[int, tuple[int, ...]] = {
        tiff_tags.WIDTH: (width,),
        tiff_tags.HEIGHT: (height,),
        tiff_tags.BITS: (page.bits[number],),
        tiff_tags.PHOTOMETRIC: (tiff_tags.BLACK_IS_ZERO,),
        tiff_tags.SAMPLES: (1,),
    }
    tags |= {tag: page.values[tag][:1] for tag in _KEPT if tag in page.values}
    tags |= (
        {tiff_tags.TILE_WIDTH: (across,), tiff_tags.TILE_HEIGHT: (down,)}
        if page.tiled
        else {tiff_tags.ROWS_PER_STRIP: (down,)}
    )
    # Packed 12-bit values know no order of bytes, and Pillow reads them in one of the two.
    order = "<" if page.little or page.bits[number] == 12 else ">"
    image = Image.open(io.BytesIO(_write(contents, tags, order=order, tiled=page.tiled)), formats=("TIFF",))
    image.load()
    return image


def _interleaved(values: npt.NDArray[np.uint16], photometric: int, extra: int | None) -> bytes:
    """An uncompressed TIFF of 16-bit values (H, W, C)."""
    height, width, channels = values.shape
    tags: dict[int, tuple[int, ...]] = {
        tiff_tags.WIDTH: (width,),
        tiff_tags.HEIGHT: (height,),
        tiff_tags.BITS: (16,) * channels,
        tiff_tags.COMPRESSION: (1,),
        tiff_tags.PHOTOMETRIC: (photometric,),
        tiff_tags.SAMPLES: (channels,),
        tiff_tags.ROWS_PER_STRIP: (height,),
    }
    if extra is not None:
        tags[tiff_tags.EXTRA_SAMPLES] = (extra,)
    return _write([values.astype("<u2").tobytes()], tags, order="<", tiled=False)


def _write(pieces: list[bytes], tags: dict[int, tuple[int, ...]], *, order: str, tiled: bool) -> bytes:
    """A TIFF with one page of these strips or tiles."""
    places, end = [], 8
    for piece in pieces:
        places.append(end)
        end += len(piece) + len(piece) % 2
    tags = tags | {
        tiff_tags.TILE_OFFSETS if tiled else tiff_tags.STRIP_OFFSETS: tuple(places),
        tiff_tags.TILE_BYTES if tiled else tiff_tags.STRIP_BYTES: tuple(map(len, pieces)),
    }
    entries, beside = [], b""
    after = end + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        short = tag in (
            tiff_tags.BITS,
            tiff_tags.COMPRESSION,
            tiff_tags.PHOTOMETRIC,
            tiff_tags.SAMPLES,
            tiff_tags.EXTRA_SAMPLES,
            *_KEPT,
        )
        data = struct.pack(f"{order}{len(values)}{'H' if short else 'I'}", *values)
        if len(data) > 4:
            place, beside = after + len(beside), beside + data
            data = struct.pack(order + "I", place)
        entries.append(struct.pack(order + "HHI", tag, _SHORT if short else _LONG, len(values)) + data.ljust(4, b"\0"))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", end)
    padded = (piece + b"\0" * (len(piece) % 2) for piece in pieces)
    page = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return b"".join([head, *padded, page, beside])
