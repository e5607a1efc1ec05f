"""PBM, PGM and PPM in text: numbers between white space, with comments, in time that grows with the file alone."""

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.imaging.limits import MAX_BLOCKS, excess

_SPACE = b" \t\n\v\f\r"
_COMMENT = re.compile(rb"#[^\n\r]*[\n\r]?")
_BLOCK = 1 << 22
_MAX_DIGITS = 10  # digits
_NO_NUMBER = re.compile(rb"[^0-9\s]")


def decode_plain(file: BinaryIO, size: tuple[int, int], mode: str, most: int) -> Image.Image:
    """The pixels behind a header that is read, as Pillow's decoder has them.

    Args:
        file: stands behind the header.
        size: (width, height).
        mode: Pillow's: 1 of a PBM; L, I or RGB.
        most: the largest value that the header names.

    Raises:
        ValueError: what is no number, or is too large.
        OSError: there are fewer values than pixels.
        UnfitError: there are more than 100,000 comments.
    """
    width, height = size
    count = width * height * (3 if mode == "RGB" else 1)
    full = 65535 if mode == "I" else 255
    values = np.empty(count, np.uint16 if mode == "I" else np.uint8)
    filled = 0
    for numbers in _bits(file) if mode == "1" else _numbers(file):
        numbers = numbers[: count - filled]
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() <= most:
            raise ValueError(f"a value outside 0 to {most}")
        scaled = (1 - numbers) * full if mode == "1" else np.rint(numbers / most * full)
        values[filled : filled + len(numbers)] = scaled
        filled += len(numbers)
        if filled == count:
            break
    if filled < count:
        raise OSError("image file is truncated")
    pixels = values.reshape((height, width, 3) if mode == "RGB" else (height, width))
    return Image.fromarray(pixels).convert("1") if mode == "1" else Image.fromarray(pixels)


def _bits(file: BinaryIO) -> Iterator[npt.NDArray[np.int64]]:
    for text in _without_comments(file):
        yield np.frombuffer(text.translate(None, _SPACE), np.uint8).astype(np.int64) - ord("0")


def _numbers(file: BinaryIO) -> Iterator[npt.NDArray[np.int64]]:
    begun = b""  # a number that may go on in the next block
    for text in _without_comments(file):
        text = begun + text
        whole = max(text.rfind(b"%c" % code) for code in _SPACE) + 1
        text, begun = text[:whole], text[whole:]
        if len(begun) > _MAX_DIGITS:
            raise ValueError("a number too long")
        yield _parsed(text)
    yield _parsed(begun)


def _parsed(text: bytes) -> npt.NDArray[np.int64]:
    if _NO_NUMBER.search(text):
        raise ValueError("no number")
    if not text.strip():
        return np.empty(0, np.int64)
    return np.fromstring(text.decode("ascii"), np.int64, sep=" ")


def _without_comments(file: BinaryIO) -> Iterator[bytes]:
    """The file's text in blocks. A comment ends with its line, and as in Pillow it separates nothing."""
    inside, comments = False, 0
    while block := file.read(_BLOCK):
        if inside:
            block = b"#" + block
        comments += block.count(b"#")
        if comments > MAX_BLOCKS:
            raise excess("comments in a PGM or PPM file", MAX_BLOCKS)
        inside = block.rfind(b"#") > max(block.rfind(b"\n"), block.rfind(b"\r"))
        yield _COMMENT.sub(b"", block)
