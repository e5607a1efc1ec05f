"""TIFF files written by hand from the specification, in all the ways that no single program writes."""

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

CODES = {1: "B", 2: "c", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 16: "Q"}


@dataclass
class Page:
    """One page: pixels (H, W, C), or `data` for its strips as they are, and the tags that say how they are stored."""

    pixels: np.ndarray
    bits: int = 8
    photometric: int = 1
    planar: bool = False
    compression: int = 1
    predictor: int = 1
    fill_order: int = 1
    sample_format: int = 1
    extra: tuple[int, ...] = ()
    rows: int | None = None
    tile: tuple[int, int] | None = None  # (width, height)
    data: list[bytes] | None = None
    tags: dict[int, tuple[int, tuple]] = field(default_factory=dict)  # number: (type, values); over all others
    without: tuple[int, ...] = ()


def write_tiff(*pages, order="<", big=False):
    """A whole file."""
    mark = b"II" if order == "<" else b"MM"
    start = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    out = bytearray(mark + start)
    link = (8, "Q") if big else (4, "I")
    for page in pages:
        place = _append(out, page, order, big)
        struct.pack_into(order + link[1], out, link[0], place)
        link = (len(out) - (8 if big else 4), link[1])
    return bytes(out)


def _append(out, page, order, big):
    places = []
    pieces = _pieces(page, order) if page.data is None else page.data
    for piece in pieces:
        out += b"\0" * (len(out) % 2)
        places.append(len(out))
        out += piece
    height, width, samples = page.pixels.shape
    pointer, size = ("Q", 8) if big else ("I", 4)
    offsets, counts = (324, 325) if page.tile else (273, 279)
    tags = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (page.bits,) * samples),
        259: (3, (page.compression,)),
        262: (3, (page.photometric,)),
        266: (3, (page.fill_order,)),
        277: (3, (samples,)),
        284: (3, (2 if page.planar else 1,)),
        317: (3, (page.predictor,)),
        339: (3, (page.sample_format,) * samples),
        offsets: (16 if big else 4, tuple(places)),
        counts: (16 if big else 4, tuple(map(len, pieces))),
    }
    if page.tile:
        tags |= {322: (4, (page.tile[0],)), 323: (4, (page.tile[1],))}
    else:
        tags |= {278: (4, (page.rows or height,))}
    if page.extra:
        tags[338] = (3, page.extra)
    tags = {number: tag for number, tag in (tags | page.tags).items() if number not in page.without}
    entries = b""
    for number, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
        if len(content) > size:
            out += b"\0" * (len(out) % 2)
            place = len(out)
            out += content
            content = struct.pack(order + pointer, place)
        entries += struct.pack(order + "HH" + pointer, number, kind, len(values)) + content.ljust(size, b"\0")
    out += b"\0" * (len(out) % 2)
    place = len(out)
    out += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(size)
    return place


def _pieces(page, order):
    planes = np.split(page.pixels, page.pixels.shape[2], axis=2) if page.planar else [page.pixels]
    cut = []
    for plane in planes:
        height, width, channels = plane.shape
        if page.tile:
            across, down = page.tile
            padded = np.zeros((-(-height // down) * down, -(-width // across) * across, channels), plane.dtype)
            padded[:height, :width] = plane
            for top in range(0, height, down):
                cut += [padded[top : top + down, left : left + across] for left in range(0, width, across)]
        else:
            rows = page.rows or height
            cut += [plane[top : top + rows] for top in range(0, height, rows)]
    return [_encode(piece, page, order) for piece in cut]


def _encode(pixels, page, order):
    if page.predictor == 2:
        pixels = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))
        if pixels.dtype.kind == "i":
            pixels = pixels % (1 << page.bits)
    if page.bits in (8, 16, 32, 64):
        kind = {1: "u", 2: "i", 3: "f", 6: "c"}[page.sample_format]
        content = pixels.astype(f"{order}{kind}{page.bits // 8}").tobytes()
    else:
        content = b"".join(_packed(row.ravel(), page.bits) for row in pixels)
    if page.compression == 8:
        content = _reversed(zlib.compress(content)) if page.fill_order == 2 else zlib.compress(content)
    elif page.fill_order == 2:
        content = _reversed(content)
    return content


def _packed(values, bits):
    text = "".join(format(int(value), f"0{bits}b") for value in values)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def _reversed(content):
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in content)
