"""AVIF: the size that the coded pictures claim, which need not be the size that the file claims."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from blemish.imaging.limits import MAX_SEGMENTS, Contents, UnfitError, check_pixels, excess

_SEQUENCE_HEADER = 1  # a kind of unit in a coded picture


class _DamagedError(Exception):
    """What is left to the decoder."""


@dataclass
class _Bits:
    """Reads bit by bit, the highest first."""

    content: bytes
    place: int = 0

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        value = 0
        for _ in range(count):
            if self.place >= 8 * len(self.content):
                raise _DamagedError
            value = value << 1 | self.content[self.place // 8] >> (7 - self.place % 8) & 1
            self.place += 1
        return value

    def skip_variable(self) -> None:
        """A number of variable length (uvlc)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros >= 32:
                return
        self.read(zeros)


@dataclass
class _Item:
    kind: bytes = b""
    inside: bool = False  # its bytes are in the header's own data
    extents: list[tuple[int, int]] = field(default_factory=list)


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package."""
    end = file.seek(0, 2)
    meta = b""
    for kind, start, length in _boxes(file, end):
        if kind == b"moov":
            raise UnfitError("an AVIF with several frames is not read; save its frames as images")
        if kind == b"meta" and not meta:
            file.seek(start)
            meta = file.read(length)
    try:
        _check_items(file, meta, end, most_pixels)
    except (_DamagedError, IndexError) as error:
        raise UnfitError("damaged, or truncated inside its header; copy or save it again") from error
    return Contents()


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    place = 0
    for _ in range(MAX_SEGMENTS):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, start = int.from_bytes(head[:4]), head[4:8], place + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16]), place + 16
        length = end - place if length == 0 else length
        if length < start - place or length >= 1 << 62:
            return
        yield kind, start, min(place + length, end) - start
        place += length
    raise excess("boxes in an AVIF file", MAX_SEGMENTS)


def _inner(content: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(MAX_SEGMENTS):
        if place + 8 > len(content):
            return
        length, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        if length < 8:
            raise _DamagedError
        yield kind, content[place + 8 : place + length]
        place += length
    raise excess("boxes in an AVIF file", MAX_SEGMENTS)


def _check_items(file: BinaryIO, meta: bytes, end: int, most_pixels: int) -> None:
    boxes = dict(_inner(meta, 4))
    items: dict[int, _Item] = {}
    _read_kinds(boxes.get(b"iinf", b""), items)
    _read_places(boxes.get(b"iloc", b""), items)
    for kind, content in _inner(boxes.get(b"iprp", b""), 0):
        for inner, size in _inner(content, 0) if kind == b"ipco" else ():
            if inner == b"ispe":
                check_pixels(int.from_bytes(size[4:8]), int.from_bytes(size[8:12]), most_pixels)
    if not any(item.kind == b"av01" for item in items.values()):
        raise UnfitError("a HEIF file without an AVIF picture is not read; save it as a JPEG or PNG")
    total = read = 0
    for item in items.values():
        if item.kind != b"av01":
            continue
        read += sum(length for _, length in item.extents)
        if read > 2 * end:
            raise UnfitError("damaged: its pictures claim more bytes than the file has; save it again")
        coded = b"".join(_extent(file, boxes.get(b"idat", b""), item.inside, *extent) for extent in item.extents)
        total += _largest(coded, most_pixels)
    if total > 4 * most_pixels:
        raise UnfitError(f"{total:,} pixels in all its parts, above the limit of {4 * most_pixels:,}; shrink it")


def _extent(file: BinaryIO, own: bytes, inside: bool, place: int, length: int) -> bytes:
    if inside:
        return own[place : place + length] if length else own[place:]
    if place >= 1 << 62:
        raise _DamagedError
    file.seek(place)
    return file.read(length) if length else file.read()


def _read_kinds(content: bytes, items: dict[int, _Item]) -> None:
    start = 6 if content[:1] == b"\0" else 8
    for kind, entry in _inner(content, start):
        if kind == b"infe" and entry[0] in (2, 3):
            wide = 2 if entry[0] == 2 else 4
            number = int.from_bytes(entry[4 : 4 + wide])
            items.setdefault(number, _Item()).kind = entry[6 + wide : 10 + wide]


def _read_places(content: bytes, items: dict[int, _Item]) -> None:
    bits = _Bits(content)
    version = bits.read(8)
    bits.read(24)
    offset, length, base, index = (bits.read(4) for _ in range(4))
    count = bits.read(32 if version == 2 else 16)
    if count > MAX_SEGMENTS:
        raise excess("pictures in an AVIF file", MAX_SEGMENTS)
    several = 0
    for _ in range(count):
        number = bits.read(32 if version == 2 else 16)
        method = bits.read(16) & 15 if version in (1, 2) else 0
        bits.read(16)
        start = bits.read(8 * base)
        item = items.setdefault(number, _Item())
        if method > 1:
            raise UnfitError("an AVIF whose pictures are put together is not read; save it again")
        item.inside = method == 1
        extents = bits.read(16)
        several += extents
        if several > MAX_SEGMENTS:
            raise excess("parts of pictures in an AVIF file", MAX_SEGMENTS)
        for _ in range(extents):
            if version in (1, 2):
                bits.read(8 * index)
            place = start + bits.read(8 * offset)
            item.extents.append((place, bits.read(8 * length)))


def _largest(coded: bytes, most_pixels: int) -> int:
    """The pixels of the largest picture that a coded picture's headers announce."""
    most = place = units = 0
    while place < len(coded):
        units += 1
        if units > MAX_SEGMENTS:
            raise excess("units in a picture of an AVIF file", MAX_SEGMENTS)
        head = coded[place]
        place += 2 if head & 4 else 1
        length = len(coded) - place
        if head & 2:
            length, place = _leb128(coded, place)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            width, height, room = _size(_Bits(coded[place : place + length]))
            check_pixels(width, height, most_pixels)
            if room > 4 * most_pixels:
                raise UnfitError(f"pictures of up to {room:,} pixels, above the limit of {most_pixels:,}; shrink it")
            most = max(most, width * height)
        place += length
    return most


def _leb128(coded: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        byte = coded[place]
        place += 1
        value |= (byte & 127) << shift
        if not byte & 128:
            return value, place
    raise _DamagedError


def _size(bits: _Bits) -> tuple[int, int, int]:
    """(width, height) of a sequence header, and the most pixels that a picture after it may claim."""
    bits.read(4)  # profile, still
    reduced = bits.read(1)
    if reduced:
        bits.read(5)
    else:
        delays = models = 0
        if bits.read(1):  # timing
            bits.read(64)
            if bits.read(1):
                bits.skip_variable()
            models = bits.read(1)
            if models:
                delays = bits.read(5) + 1
                bits.read(42)
        shown = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if models and bits.read(1):
                bits.read(2 * delays + 1)
            if shown and bits.read(1):
                bits.read(4)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(across) + 1, bits.read(down) + 1
    return width, height, width * height if reduced else 1 << (across + down)
