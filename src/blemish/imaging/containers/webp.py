"""WebP: the size of the canvas, for which the decoder reserves memory when it opens a file; the number of frames."""

from typing import BinaryIO

from blemish.imaging.limits import MAX_CHUNKS, MAX_FRAMES, Contents, check_pixels, excess


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package."""
    file.seek(12)
    chunks = frames = 0
    while len(head := file.read(8)) == 8:
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise excess("chunks in a WebP file", MAX_CHUNKS)
        start = file.tell()
        if (size := _size(kind, file.read(min(length, 10)))) is not None:
            check_pixels(*size, most_pixels)
        frames += kind == b"ANMF"
        file.seek(start + length + length % 2)
    frames = max(frames, 1)
    return Contents(range(min(frames, MAX_FRAMES)), complete=frames <= MAX_FRAMES)


def _size(kind: bytes, start: bytes) -> tuple[int, int] | None:
    """(width, height) that a chunk names; None where it names none."""
    if kind == b"VP8X" and len(start) >= 10:
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if kind == b"VP8 " and len(start) >= 10:
        return int.from_bytes(start[6:8], "little") & 0x3FFF, int.from_bytes(start[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and len(start) >= 5:
        bits = int.from_bytes(start[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
