"""TIFF: what a page's tags ask of the decoder, which pages are images, and what of a page cannot be read."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from blemish.imaging.limits import (
    MAX_FRAMES,
    MAX_PIECES,
    MAX_TAGS,
    SMALL_BYTES,
    SMALL_PIXELS,
    Contents,
    UnfitError,
    check_pixels,
    excess,
)

SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 266, 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 317, 322, 323, 324, 325
SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT = 330, 338, 339

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, YCBCR = 0, 1, 2, 5, 6
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_REDUCED, _TRANSPARENCY_MASK = 1, 4  # bits of SUBFILE_TYPE
_MAX_BANDS = 64

# Number types and their codes in `struct`; the last is the offset of a page.
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q", 13: "I", 18: "Q"}
_COMPRESSIONS = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT",
    32767: "Sony ARW",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    34713: "Nikon NEF",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "Kodak DCR",
    65535: "Pentax PEF",
}
_COLOURS = {
    4: "a transparency mask",
    9: "ICC L*a*b* colour",
    10: "ITU L*a*b* colour",
    32803: "undeveloped sensor data (a Bayer pattern)",
    32844: "LogL luminance",
    32845: "LogLuv colour",
    34892: "undeveloped sensor data",
    51177: "a depth map",
}
WAY_OUT = "save it as 8 bit or 16 bit, grey or RGB"


@dataclass(frozen=True)
class Page:
    """The tags of one page that say how it is stored, defaults filled in.

    Attributes:
        little: whether the file is little-endian.
        values: the numbers of each tag that was read.
        counts: how many numbers each tag has.
    """

    little: bool
    values: dict[int, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def first(self, tag: int, default: int) -> int:
        """A tag's first number."""
        return self.values.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.first(WIDTH, 0), self.first(HEIGHT, 0)

    @property
    def samples(self) -> int:
        """Values a pixel."""
        return self.first(SAMPLES, self.counts.get(BITS, 1))

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each sample."""
        bits = self.values.get(BITS, (1,))
        return bits * self.samples if len(bits) == 1 else bits

    @property
    def formats(self) -> set[int]:
        """Kinds of the samples: unsigned, signed, floating-point."""
        return set(self.values.get(SAMPLE_FORMAT, (_UNSIGNED,)))

    @property
    def compression(self) -> int:
        """1 is none."""
        return self.first(COMPRESSION, 1)

    @property
    def photometric(self) -> int:
        """What values mean."""
        return self.first(PHOTOMETRIC, WHITE_IS_ZERO)

    @property
    def in_planes(self) -> bool:
        """Whether each sample is stored apart from the others."""
        return self.first(PLANAR, 1) == 2 and self.samples > 1

    @property
    def tiled(self) -> bool:
        """Whether it is stored in tiles, not in strips."""
        return TILE_WIDTH in self.values or TILE_OFFSETS in self.values

    @property
    def piece(self) -> tuple[int, int]:
        """(width, height) of a tile, or of a strip."""
        width, height = self.size
        if self.tiled:
            return self.first(TILE_WIDTH, 0), self.first(TILE_HEIGHT, 0)
        return width, min(self.first(ROWS_PER_STRIP, height), height)

    @property
    def reduced(self) -> bool:
        """Whether it is a smaller copy or a mask of another page, and no image of its own."""
        kind = self.first(SUBFILE_TYPE, 0)
        return bool(kind & (_REDUCED | _TRANSPARENCY_MASK)) or self.first(OLD_SUBFILE_TYPE, 1) == 2


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package: the pages that are images, and whether the first of them may be decoded."""
    frames: list[int] = []
    offsets: list[int] = []
    first = None
    for number, offset in enumerate(_offsets(file)):
        offsets.append(offset)
        page = read_page(file, offset, only=(SUBFILE_TYPE, OLD_SUBFILE_TYPE, SUB_PAGES))
        if number == 0:
            first = page
        if not page.reduced:
            frames.append(number)
        if len(frames) > MAX_FRAMES:
            break
    if not frames and first is not None and SUB_PAGES in first.counts:
        raise UnfitError(
            "a camera's raw file of which only a small preview can be read; develop it and save it as a TIFF or PNG"
        )
    frames = frames or [0]
    # libtiff reads the first page's tags whichever page is asked for.
    for number in {0, frames[0]}:
        check_frame(file, number, most_pixels, offsets)
    return Contents(frames[:MAX_FRAMES], complete=len(frames) <= MAX_FRAMES, offsets=offsets)


def check_frame(file: BinaryIO, number: int, most_pixels: int, offsets: Sequence[int] = ()) -> Page | None:
    """The page of this number; None where there is none.

    Args:
        file: open for reading.
        number: of the page, counted from 0.
        most_pixels: the largest image, height x width.
        offsets: where pages begin, as far as that is known: the others are searched for from the first.

    Raises:
        UnfitError: the page is not to be decoded.
    """
    offset = offsets[number] if number < len(offsets) else next(islice(_offsets(file), number, None), None)
    if offset is None:
        return None
    page = read_page(file, offset)
    _check_page(file, page, most_pixels)
    return page


def _offsets(file: BinaryIO) -> Iterator[int]:
    """Where the pages begin. Each page is looked at when it is asked for."""
    file.seek(0)
    head = file.read(16)
    if len(head) < 8:
        return
    order = _order(head)
    big = 43 in head[2:4]
    offset_code, count_code, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (offset,) = struct.unpack_from(order + offset_code, head.ljust(16, b"\0"), 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen and offset < 1 << 63:
        seen.add(offset)
        yield offset
        file.seek(offset)
        count = _unpack(file, order + count_code)
        if count is None or count > MAX_TAGS:
            return
        file.seek(count * entry, 1)
        offset = _unpack(file, order + offset_code) or 0


def read_page(file: BinaryIO, offset: int, *, only: Sequence[int] | None = None) -> Page:
    """The page whose tags begin at `offset`. Raises UnfitError for tags that no decoder should be given."""
    file.seek(0)
    head = file.read(4)
    order, big = _order(head), 43 in head[2:4]
    page = Page(order == "<")
    file.seek(offset)
    count = _unpack(file, order + ("Q" if big else "H"))
    if count is None:
        return page
    if count > MAX_TAGS:
        raise excess("tags on a page of a TIFF", MAX_TAGS)
    entry, room = ("HHQ8s", 8) if big else ("HHI4s", 4)
    size = struct.calcsize(order + entry)
    entries = file.read(count * size)
    if len(entries) < count * size and only is None:
        raise UnfitError("damaged, or truncated inside its tags; copy or save it again")
    for tag, kind, length, data in struct.iter_unpack(order + entry, entries[: len(entries) // size * size]):
        if tag not in (only or _READ_TAGS) or kind not in _NUMBERS:
            if tag in _SIZES and kind not in _NUMBERS:
                raise UnfitError("damaged: a size in it is no whole number; save it again")
            continue
        values = _values(file, order, kind, length, data[:room])
        if tag in page.values and page.values[tag] != values:
            raise UnfitError("damaged: it says twice and differently how it is stored; save it again")
        if values:
            page.values[tag], page.counts[tag] = values, length
    return page


_SIZES = {WIDTH, HEIGHT, BITS, SAMPLES, ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, STRIP_OFFSETS}
_READ_TAGS = _SIZES | {
    SUBFILE_TYPE, OLD_SUBFILE_TYPE, COMPRESSION, PHOTOMETRIC, FILL_ORDER, ORIENTATION, STRIP_BYTES, PLANAR, PREDICTOR,
    TILE_BYTES, SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT,
}  # fmt: skip
_LISTS = {STRIP_OFFSETS, TILE_OFFSETS, STRIP_BYTES, TILE_BYTES}


def _values(file: BinaryIO, order: str, kind: int, length: int, data: bytes) -> tuple[int, ...]:
    """A tag's numbers. Raises UnfitError where there are more than pieces can be."""
    code = _NUMBERS[kind]
    size = struct.calcsize(order + code) * length
    if length > 4 * MAX_PIECES:  # four planes
        raise excess("strips or tiles in a TIFF", MAX_PIECES)
    if size > len(data):
        (offset,) = struct.unpack(order + ("Q" if len(data) == 8 else "I"), data)
        if offset >= 1 << 63:
            return ()
        place = file.tell()
        file.seek(offset)
        data = file.read(size)
        file.seek(place)
    if len(data) < size:
        return ()
    return struct.unpack(f"{order}{length}{code}", data[:size])


def _check_page(file: BinaryIO, page: Page, most_pixels: int) -> None:
    if not page.values.keys() >= {WIDTH, HEIGHT}:
        return  # the decoder says so
    width, height = page.size
    if width < 0 or height < 0:
        raise UnfitError("damaged: its size is negative; save it again")
    check_pixels(width, height, most_pixels)
    if not 0 < page.samples <= _MAX_BANDS:
        raise UnfitError(f"it has {page.samples:,} bands; save it as one band of grey or three of RGB")
    across, down = page.piece
    if across <= 0 or down <= 0:
        raise UnfitError("damaged: its strips or tiles have no size; save it again")
    columns, rows = -(-width // across), -(-height // down)
    planes = page.samples if page.in_planes else 1
    pieces = columns * rows * max(planes, 1)
    if max(pieces, *(page.counts.get(tag, 0) for tag in _LISTS)) > MAX_PIECES:
        raise excess("strips or tiles in a TIFF", MAX_PIECES)
    if page.tiled:
        _check_tiles(page, columns, rows)
    _check_bytes(file, page, pieces)


def _check_tiles(page: Page, columns: int, rows: int) -> None:
    """What is decoded are whole tiles, however much smaller the image is."""
    (width, height), (across, down) = page.size, page.piece
    pixel_bytes = max(1, sum(page.bits) // 8)
    if page.in_planes:
        pixel_bytes = max(1, pixel_bytes // page.samples)
    tile_bytes, image_bytes = across * down * pixel_bytes, width * height * pixel_bytes
    padded = columns * across * rows * down
    if tile_bytes > max(SMALL_BYTES, 2 * image_bytes) or padded > max(SMALL_PIXELS, 4 * width * height):
        raise UnfitError(
            f"a tile of {down:,} x {across:,} pixels in an image of {height:,} x {width:,}; "
            "save it again in strips or smaller tiles"
        )


def _check_bytes(file: BinaryIO, page: Page, pieces: int) -> None:
    """Pieces that claim more than the file holds would have it read again for each of them."""
    place, end = file.tell(), file.seek(0, 2)
    file.seek(place)
    counts = page.values.get(TILE_BYTES if page.tiled else STRIP_BYTES, ())
    if not counts and pieces > 1 and page.compression != 1:
        raise UnfitError("damaged: it does not say how long its strips or tiles are; save it again")
    if len(counts) > 1 and sum(counts) > 4 * end:
        raise UnfitError("damaged, or truncated: its strips or tiles claim more bytes than the file has; save it again")


def unread(page: Page) -> str | None:
    """Why a page that is whole is not read, as far as its tags say; None where they say nothing."""
    bits, formats = page.bits, page.formats
    if page.compression in _COMPRESSIONS:
        return f"its compression, {_COMPRESSIONS[page.compression]}, is not read; save it uncompressed or with LZW"
    if _FLOAT in formats:
        return f"its values are floating-point of {bits[0]} bits; {WAY_OUT}"
    if formats & {5, 6}:
        return f"its values are complex numbers; {WAY_OUT}"
    if page.photometric in _COLOURS:
        return f"it holds {_COLOURS[page.photometric]}; {WAY_OUT}"
    if len(set(bits)) > 1:
        return f"its bands differ in depth ({', '.join(map(str, bits[:8]))} bits); {WAY_OUT}"
    if page.samples not in _channels(page):
        return bands(page)
    if _SIGNED in formats:
        return f"its values are signed, {bits[0]} bits; {WAY_OUT}"
    if bits and bits[0] not in (1, 2, 4, 8, 16):
        return f"its values have {bits[0]} bits; {WAY_OUT}"
    if page.first(FILL_ORDER, 1) == 2:
        return f"its bits are stored in reverse order (FillOrder 2); {WAY_OUT}"
    return None


def bands(page: Page) -> str:
    """That a page has bands that are no colours."""
    return f"it has {page.samples} bands; save it as one band of grey or three of RGB"


def in_words(page: Page) -> str:
    """How a page is stored, where it is not read and nothing else is known of it."""
    numbers = f"photometric interpretation {page.photometric}, compression {page.compression}"
    bands = "1 band" if page.samples == 1 else f"{page.samples} bands"
    return f"a TIFF of {bands} of {page.bits[0]} bits ({numbers}) is not read; {WAY_OUT}"


def _channels(page: Page) -> set[int]:
    """The numbers of bands that are usual for the page's colours: with opacity, without."""
    colours = {RGB: 3, CMYK: 4, YCBCR: 3, 8: 3}.get(page.photometric, 1)
    return {colours, colours + 1}


def _order(head: bytes) -> str:
    return ">" if head[:2] == b"MM" else "<"


def _unpack(file: BinaryIO, code: str) -> int | None:
    content = file.read(struct.calcsize(code))
    if len(content) < struct.calcsize(code):
        return None
    value: int = struct.unpack(code, content)[0]
    return value
