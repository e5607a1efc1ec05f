"""BMP: the size, and the bytes of one that is run-length-coded."""

from typing import BinaryIO

from blemish.imaging.limits import MAX_CODED, Contents, UnfitError, check_pixels

_HEAD = 34
_RUN_LENGTH = (1, 2)  # of 8 bits, of 4


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package. Uncompressed, its pixels bound the work; a code may move to and fro without an end."""
    file.seek(0)
    head = file.read(_HEAD)
    head = head[14:] if head[:2] == b"BM" else head[: _HEAD - 14]
    if len(head) >= 12 and head[:4] != b"\x0c\0\0\0":
        width, height = (abs(int.from_bytes(head[at : at + 4], "little", signed=True)) for at in (4, 8))
        check_pixels(width, height, most_pixels)
        if int.from_bytes(head[16:20], "little") in _RUN_LENGTH and file.seek(0, 2) > MAX_CODED:
            raise UnfitError(f"a run-length-coded BMP of more than {MAX_CODED >> 20} MB is not read; save it as a PNG")
    return Contents()
