"""JPEG 2000: what tiles, precincts, code blocks and layers make of an image, all of which the decoder sets up first."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from blemish.imaging.limits import (
    MAX_LAYERS,
    MAX_PIECES,
    MAX_SEGMENTS,
    MAX_TILES,
    Contents,
    UnfitError,
    check_pixels,
    excess,
)

_MAX_PARTS = 2_000_000  # code blocks, or packets: a hundred bytes each
_SIZE, _CODING, _COMPONENT_CODING, _TILE, _DATA, _END = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


@dataclass(frozen=True)
class _Image:
    width: int
    height: int
    components: int
    tiles: int


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package."""
    start = _codestream(file)
    if start is None:
        return Contents()
    file.seek(start + 2)
    image: _Image | None = None
    for _ in range(MAX_SEGMENTS):
        marker, content = _segment(file)
        if marker == _SIZE:
            image = _read_size(content, most_pixels)
        elif marker in (_CODING, _COMPONENT_CODING) and image is not None:
            _check_coding(image, marker, content)
        elif marker == _TILE and image is not None:
            _check_tiles(file, image, content)
            return Contents()
        elif marker in (None, _END):
            return Contents()
    raise excess("segments in the header of a JPEG 2000 image", MAX_SEGMENTS)


def _codestream(file: BinaryIO) -> int | None:
    """Where the coded image begins: at the start of the file, or in a box."""
    file.seek(0)
    if file.read(4) == b"\xff\x4f\xff\x51":
        return 0
    place = 0
    for _ in range(MAX_SEGMENTS):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return None
        length, kind, start = int.from_bytes(head[:4]), head[4:8], place + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16]), place + 16
        if kind == b"jp2c":
            return start
        if length < 8 or length >= 1 << 62:
            return None
        place += length
    raise excess("boxes in a JPEG 2000 file", MAX_SEGMENTS)


def _segment(file: BinaryIO) -> tuple[int | None, bytes]:
    """The next marker and what it holds, at most 4 KB of it; None where the file ends."""
    head = file.read(2)
    if len(head) < 2:
        return None, b""
    marker = int.from_bytes(head)
    if marker in (_DATA, _END):
        return marker, b""
    length = int.from_bytes(file.read(2)) - 2
    if length < 0:
        return None, b""
    content = file.read(length)
    return marker, content


def _read_size(content: bytes, most_pixels: int) -> _Image | None:
    if len(content) < 36:
        return None
    right, bottom, left, top, across, down, tiles_left, tiles_top = struct.unpack_from(">8I", content, 2)
    components = int.from_bytes(content[34:36])
    check_pixels(max(0, right - left), max(0, bottom - top), most_pixels)
    if not 1 <= components <= 4:
        raise UnfitError(f"it has {components:,} bands; save it as one band of grey or three of RGB")
    if not across or not down:
        raise UnfitError("damaged: its tiles have no size; save it again")
    tiles = -(-(right - tiles_left) // across) * -(-(bottom - tiles_top) // down)
    if tiles > MAX_TILES:
        raise excess("tiles in a JPEG 2000 image", MAX_TILES)
    return _Image(right - left, bottom - top, components, tiles)


def _check_coding(image: _Image, marker: int, content: bytes) -> None:
    """How components are coded: by default, or one of them."""
    skipped = 5 if marker == _CODING else 2
    if len(content) < skipped + 5:
        return
    layers = int.from_bytes(content[2:4]) if marker == _CODING else 1
    if layers > MAX_LAYERS:
        raise excess("layers in a JPEG 2000 image", MAX_LAYERS)
    flags = content[0] if marker == _CODING else content[1]
    levels, wide, high = content[skipped : skipped + 3]
    precincts = content[skipped + 5 :] if flags & 1 else b""
    pixels = image.width * image.height * image.components
    if min(levels, 33) > 32 or max(wide, high) > 10:
        return  # the decoder says so
    blocks = pixels >> (wide + 2 + high + 2)
    packets = 0
    for level in range(levels + 1):
        power = precincts[level] if level < len(precincts) else 0xFF
        shrunk = levels - level
        width, height = -(-image.width >> shrunk), -(-image.height >> shrunk)
        packets += image.components * (
            -(-width // (1 << (power & 15))) * -(-height // (1 << (power >> 4))) + image.tiles
        )
    if max(blocks, packets * layers) > _MAX_PARTS:
        raise excess("code blocks or packets in a JPEG 2000 image", _MAX_PARTS)


def _check_tiles(file: BinaryIO, image: _Image, content: bytes) -> None:
    """Follows the headers of all parts of tiles, which may be coded in ways of their own."""
    for _ in range(MAX_PIECES):
        start = file.tell() - 12  # of the marker of this part
        length = int.from_bytes(content[2:6])
        for _ in range(MAX_SEGMENTS):
            marker, inner = _segment(file)
            if marker in (_CODING, _COMPONENT_CODING):
                _check_coding(image, marker, inner)
            elif marker in (None, _DATA, _END):
                break
        if not length:  # the last one: to the end of the file
            return
        file.seek(max(start + length, file.tell()))
        marker, content = _segment(file)
        if marker != _TILE:
            return
    raise excess("parts of tiles in a JPEG 2000 image", MAX_PIECES)
