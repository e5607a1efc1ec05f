"""PNG: the number of chunks and of compressed texts, and the frames of an APNG."""

from typing import BinaryIO

from blemish.imaging.limits import MAX_CHUNKS, MAX_COMPRESSED_TEXTS, MAX_FRAMES, Contents, check_pixels, excess

_COMPRESSED = {b"iCCP", b"zTXt", b"iTXt"}


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package."""
    file.seek(8)
    chunks = texts = frames = 0
    animated = pixels_begun = default_apart = False
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise excess("chunks in a PNG", MAX_CHUNKS)
        if kind == b"IEND":
            break
        if kind == b"IHDR":
            header = file.read(8)
            check_pixels(int.from_bytes(header[:4]), int.from_bytes(header[4:]), most_pixels)
            length -= len(header)
        elif kind in _COMPRESSED:
            texts += 1
            if texts > MAX_COMPRESSED_TEXTS:
                raise excess("compressed texts in a PNG", MAX_COMPRESSED_TEXTS)
        elif kind == b"acTL":
            animated = animated or not pixels_begun
        elif kind == b"IDAT":
            default_apart = default_apart or (not pixels_begun and not frames)
            pixels_begun = True
        elif kind == b"fcTL":
            frames += 1
        file.seek(length + 4, 1)
    if not animated or not frames:
        return Contents()
    count = frames + default_apart
    return Contents(range(min(count, MAX_FRAMES)), complete=count <= MAX_FRAMES)
