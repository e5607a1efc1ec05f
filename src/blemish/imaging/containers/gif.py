"""GIF: comments and extensions before the first frame, frames larger than the canvas, the number of frames."""

from typing import BinaryIO

from blemish.imaging.limits import MAX_BLOCKS, MAX_FRAMES, MAX_JUNK, Contents, check_pixels, excess

_MAX_DATA_BLOCKS = 4_000_000  # of all frames, a gigabyte of them: beyond it frames are not counted


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package. Every frame may widen the canvas."""
    file.seek(6)
    screen = file.read(7)
    if len(screen) < 7:
        return Contents()
    width, height = _pair(screen)
    _skip_palette(file, screen[4])
    frames = blocks = extensions = junk = 0
    while frames <= MAX_FRAMES and blocks < _MAX_DATA_BLOCKS:
        kind = file.read(1)
        if kind in (b"", b";"):
            break
        if kind == b",":
            place = file.read(9)
            if len(place) < 9:
                break
            left, top = _pair(place)
            across, down = _pair(place[4:])
            width, height = max(width, left + across), max(height, top + down)
            if not frames:
                check_pixels(width, height, most_pixels)
            elif width * height > most_pixels:  # the frames up to here can be read
                break
            _skip_palette(file, place[8])
            file.seek(1, 1)
            blocks += _skip_blocks(file, _MAX_DATA_BLOCKS - blocks)
            frames += 1
        elif kind == b"!":
            file.seek(1, 1)
            extensions += 1 + _skip_blocks(file, MAX_BLOCKS)
            if extensions > MAX_BLOCKS:
                raise excess("blocks of comments and extensions in a GIF", MAX_BLOCKS)
        else:
            junk += 1
            if junk > MAX_JUNK:
                raise excess("bytes between the blocks of a GIF", MAX_JUNK)
    if not frames:
        return Contents()
    return Contents(range(min(frames, MAX_FRAMES)), complete=frames <= MAX_FRAMES)


def _skip_blocks(file: BinaryIO, most: int) -> int:
    """The number of data blocks up to an empty one, at most one more than `most`."""
    for count in range(most + 1):
        length = file.read(1)
        if length in (b"", b"\0"):
            return count
        file.read(length[0])
    return most + 1


def _skip_palette(file: BinaryIO, flags: int) -> None:
    if flags & 128:
        file.seek(3 << ((flags & 7) + 1), 1)


def _pair(content: bytes) -> tuple[int, int]:
    return int.from_bytes(content[:2], "little"), int.from_bytes(content[2:4], "little")
