"""TIFF: which pages are images, and whether a page may be decoded by what its tags ask of the decoder."""

from collections.abc import Sequence
from itertools import islice
from typing import BinaryIO

from blemish.imaging.containers.tiff_tags import (
    HEIGHT,
    LISTS,
    OLD_SUBFILE_TYPE,
    STRIP_BYTES,
    SUB_PAGES,
    SUBFILE_TYPE,
    TILE_BYTES,
    WIDTH,
    Page,
    page_offsets,
    read_page,
)
from blemish.imaging.limits import (
    MAX_FRAMES,
    MAX_PIECES,
    SMALL_BYTES,
    SMALL_PIXELS,
    Contents,
    UnfitError,
    check_pixels,
    excess,
)

_MAX_BANDS = 64


def examine(file: BinaryIO, most_pixels: int) -> Contents:
    """See the package: the pages that are images, and whether the first of them may be decoded."""
    frames: list[int] = []
    offsets: list[int] = []
    first = None
    for number, offset in enumerate(page_offsets(file)):
        offsets.append(offset)
        page = read_page(file, offset, only=(SUBFILE_TYPE, OLD_SUBFILE_TYPE, SUB_PAGES))
        if number == 0:
            first = page
        if not page.reduced:
            frames.append(number)
        if len(frames) > MAX_FRAMES:
            break
    if not frames and first is not None and SUB_PAGES in first.counts:
        raise UnfitError(
            "a camera's raw file of which only a small preview can be read; develop it and save it as a TIFF or PNG"
        )
    frames = frames or [0]
    # libtiff reads the first page's tags whichever page is asked for.
    for number in {0, frames[0]}:
        check_frame(file, number, most_pixels, offsets)
    return Contents(frames[:MAX_FRAMES], complete=len(frames) <= MAX_FRAMES, offsets=offsets)


def check_frame(file: BinaryIO, number: int, most_pixels: int, offsets: Sequence[int] = ()) -> Page | None:
    """The page of this number; None where there is none.

    Args:
        file: open for reading.
        number: of the page, counted from 0.
        most_pixels: the largest image, height x width.
        offsets: where pages begin, as far as that is known: the others are searched for from the first.

    Raises:
        UnfitError: the page is not to be decoded.
    """
    offset = offsets[number] if number < len(offsets) else next(islice(page_offsets(file), number, None), None)
    if offset is None:
        return None
    page = read_page(file, offset)
    _check_page(file, page, most_pixels)
    return page


def _check_page(file: BinaryIO, page: Page, most_pixels: int) -> None:
    if not page.values.keys() >= {WIDTH, HEIGHT}:
        return  # the decoder says so
    width, height = page.size
    if width < 0 or height < 0:
        raise UnfitError("damaged: its size is negative; save it again")
    check_pixels(width, height, most_pixels)
    if not 0 < page.samples <= _MAX_BANDS:
        raise UnfitError(f"it has {page.samples:,} bands; save it as one band of grey or three of RGB")
    across, down = page.piece
    if across <= 0 or down <= 0:
        raise UnfitError("damaged: its strips or tiles have no size; save it again")
    columns, rows = -(-width // across), -(-height // down)
    planes = page.samples if page.in_planes else 1
    pieces = columns * rows * max(planes, 1)
    if max(pieces, *(page.counts.get(tag, 0) for tag in LISTS)) > MAX_PIECES:
        raise excess("strips or tiles in a TIFF", MAX_PIECES)
    if page.tiled:
        _check_tiles(page, columns, rows)
    _check_bytes(file, page, pieces)


def _check_tiles(page: Page, columns: int, rows: int) -> None:
    """What is decoded are whole tiles, however much smaller the image is."""
    (width, height), (across, down) = page.size, page.piece
    pixel_bytes = max(1, sum(page.bits) // 8)
    if page.in_planes:
        pixel_bytes = max(1, pixel_bytes // page.samples)
    tile_bytes, image_bytes = across * down * pixel_bytes, width * height * pixel_bytes
    padded = columns * across * rows * down
    if tile_bytes > max(SMALL_BYTES, 2 * image_bytes) or padded > max(SMALL_PIXELS, 4 * width * height):
        raise UnfitError(
            f"a tile of {down:,} x {across:,} pixels in an image of {height:,} x {width:,}; "
            "save it again in strips or smaller tiles"
        )


def _check_bytes(file: BinaryIO, page: Page, pieces: int) -> None:
    """Pieces that claim more than the file holds would have it read again for each of them."""
    place, end = file.tell(), file.seek(0, 2)
    file.seek(place)
    counts = page.values.get(TILE_BYTES if page.tiled else STRIP_BYTES, ())
    if not counts and pieces > 1 and page.compression != 1:
        raise UnfitError("damaged: it does not say how long its strips or tiles are; save it again")
    if len(counts) > 1 and sum(counts) > 4 * end:
        raise UnfitError("damaged, or truncated: its strips or tiles claim more bytes than the file has; save it again")
