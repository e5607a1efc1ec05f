"""JPEG: the number of scans, and pictures behind the first one (MPO)."""

import re
from dataclasses import dataclass
from typing import BinaryIO

from blemish.imaging.limits import (
    MAX_EXIF_SEGMENTS,
    MAX_JUNK,
    MAX_SCANNED,
    MAX_SCANS,
    MAX_SEGMENTS,
    Contents,
    UnfitError,
    check_pixels,
    excess,
)

_START_OF_SCAN, _END, _EXIF, _INDEX = 0xDA, 0xD9, 0xE1, 0xE2
_BARE = {0x01, *range(0xD0, 0xD9), *range(0xF0, 0xFE)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_UNREAD = {0xC3: "a lossless JPEG", 0xCB: "a lossless JPEG"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"
)
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # one that ends the data of a scan
_BLOCK = 65_536
_BASELINE = "save it again as a baseline JPEG or as a PNG"


@dataclass
class _Frame:
    marker: int = 0
    width: int = 0
    height: int = 0
    components: int = 0


def examine(file: BinaryIO, most_pixels: int, start: int = 0) -> Contents:
    """See the package; `start` is where in the file the picture begins."""
    file.seek(start + 2)
    frame, segments, exif, junk, index = _Frame(), 0, 0, 0, None
    while True:
        byte = file.read(1)
        if byte == b"\xff":
            while (byte := file.read(1)) == b"\xff":
                junk += 1
                _refuse_junk(junk)
        elif byte:
            junk += 1
            _refuse_junk(junk)
            continue
        if not byte or byte[0] == _END:
            return Contents()
        marker = byte[0]
        segments += 1
        if segments > MAX_SEGMENTS:
            raise excess("segments in a JPEG's header", MAX_SEGMENTS)
        if marker in _BARE or marker == 0:
            continue
        if marker == _START_OF_SCAN:
            break
        place = file.tell() + 2
        payload = _segment(file, keep=marker in _FRAMES or marker in (_EXIF, _INDEX))
        if payload is None:
            return Contents()
        if marker in _FRAMES:
            frame = _read_frame(marker, payload, most_pixels)
        elif payload.startswith(b"MPF\0"):
            index = place + 4
        elif payload.startswith(b"Exif\0\0"):
            exif += 1
            if exif > MAX_EXIF_SEGMENTS:
                raise excess("segments of EXIF in a JPEG", MAX_EXIF_SEGMENTS)
    first = _segment(file, keep=True)
    if first and (frame.marker in _PROGRESSIVE or first[0] < frame.components):
        _refuse_many_scans(file, frame.width * frame.height)
    return Contents(index=index)


def size(file: BinaryIO, start: int) -> tuple[int, int] | None:
    """(width, height) of the picture that begins at `start`; None where none does."""
    file.seek(start)
    if file.read(2) != b"\xff\xd8":
        return None
    for _ in range(MAX_SEGMENTS):
        head = file.read(2)
        if len(head) < 2 or head[0] != 0xFF or head[1] == _START_OF_SCAN:
            return None
        if head[1] in _BARE:
            continue
        payload = _segment(file, keep=head[1] in _FRAMES)
        if payload is None:
            return None
        if head[1] in _FRAMES and len(payload) >= 5:
            return int.from_bytes(payload[3:5]), int.from_bytes(payload[1:3])
    return None


def _segment(file: BinaryIO, *, keep: bool) -> bytes | None:
    """What follows a marker, past which the file then stands; None where it ends before."""
    head = file.read(2)
    length = int.from_bytes(head) - 2
    if len(head) < 2 or length < 0:
        return None
    if keep:
        payload = file.read(length)
        return payload if len(payload) == length else None
    file.seek(length, 1)
    return b""


def _read_frame(marker: int, payload: bytes, most_pixels: int) -> _Frame:
    if len(payload) < 6:
        return _Frame(marker)
    bits, components = payload[0], payload[5]
    frame = _Frame(marker, int.from_bytes(payload[3:5]), int.from_bytes(payload[1:3]), components)
    check_pixels(frame.width, frame.height, most_pixels)
    if marker in _UNREAD:
        raise UnfitError(f"{_UNREAD[marker]} is not read; save it as a PNG or TIFF")
    if bits != 8:
        raise UnfitError(f"a JPEG of {bits} bits a value is not read; save it as a PNG or TIFF of 16 bits")
    if components not in (1, 3, 4):
        raise UnfitError(f"a JPEG of {components} components is not read; save it as a PNG")
    return frame


def _refuse_many_scans(file: BinaryIO, pixels: int) -> None:
    """Follows the scans behind the first one's header to the end of the picture."""
    scans, segments = 1, 0
    while (marker := _next_marker(file)) is not None and marker != _END:
        segments += 1
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise excess("scans in a JPEG", MAX_SCANS, _BASELINE)
        if scans * pixels > MAX_SCANNED:
            raise excess(f"scans in a JPEG of {pixels:,} pixels", MAX_SCANNED // pixels, _BASELINE)
        if segments > MAX_SEGMENTS:
            raise excess("segments in a JPEG", MAX_SEGMENTS)
        if marker not in _BARE and _segment(file, keep=False) is None:
            return


def _next_marker(file: BinaryIO) -> int | None:
    """The next marker in the data of a scan, behind which the file then stands."""
    place, block = file.tell(), file.read(_BLOCK)
    while len(block) > 1:
        if found := _MARKER.search(block):
            file.seek(place + found.end())
            return block[found.end() - 1]
        place += len(block) - 1  # its last byte may begin a marker
        file.seek(place)
        block = file.read(_BLOCK)
    return None


def _refuse_junk(count: int) -> None:
    if count > MAX_JUNK:
        raise excess("bytes between the segments of a JPEG", MAX_JUNK)
