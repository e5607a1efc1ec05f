"""PBM, PGM, PPM, PFM: a header in words, with comments of any length."""

from typing import BinaryIO

from blemish.imaging.limits import MAX_JUNK, Contents, check_pixels, excess

_WHITESPACE = b" \t\n\v\f\r"


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package."""
    file.seek(0)
    words = _words(file.read(MAX_JUNK))
    if len(words) < (3 if words[:1] in ([b"P1"], [b"P4"]) else 4):
        if len(file.read(1)):
            raise excess("bytes in the header of a PGM or PPM file", MAX_JUNK)
        return Contents()
    if words[1].isdigit() and words[2].isdigit() and max(len(words[1]), len(words[2])) <= 10:
        check_pixels(int(words[1]), int(words[2]), most_pixels)
    return Contents()


def _words(header: bytes) -> list[bytes]:
    """The first four words of a header, comments left out."""
    words: list[bytes] = []
    place = 0
    while len(words) < 4 and place < len(header):
        if header[place] in _WHITESPACE:
            place += 1
        elif header[place : place + 1] == b"#":
            ends = [end for end in (header.find(b"\n", place), header.find(b"\r", place)) if end >= 0]
            if not ends:
                break
            place = min(ends) + 1
        else:
            end = place
            while end < len(header) and header[end] not in _WHITESPACE and header[end : end + 1] != b"#":
                end += 1
            words.append(header[place:end])
            place = end
    return words
