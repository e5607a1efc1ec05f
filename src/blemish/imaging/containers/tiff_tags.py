"""TIFF: the tags of a page, and where pages begin."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from blemish.imaging.limits import MAX_PIECES, MAX_TAGS, UnfitError, excess

SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 266, 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 317, 322, 323, 324, 325
SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT = 330, 338, 339

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, YCBCR = 0, 1, 2, 5, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_REDUCED, _TRANSPARENCY_MASK = 1, 4  # bits of SUBFILE_TYPE
# Number types and their codes in `struct`; the last is the offset of a page.
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q", 13: "I", 18: "Q"}


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
        return set(self.values.get(SAMPLE_FORMAT, (UNSIGNED,)))

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


def page_offsets(file: BinaryIO) -> Iterator[int]:
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

LISTS = {STRIP_OFFSETS, TILE_OFFSETS, STRIP_BYTES, TILE_BYTES}


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


def _order(head: bytes) -> str:
    return ">" if head[:2] == b"MM" else "<"


def _unpack(file: BinaryIO, code: str) -> int | None:
    content = file.read(struct.calcsize(code))
    if len(content) < struct.calcsize(code):
        return None
    value: int = struct.unpack(code, content)[0]
    return value
