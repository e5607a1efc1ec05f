"""TIFF: what of a page cannot be read, in words."""

from blemish.imaging.containers.tiff_tags import CMYK, FILL_ORDER, FLOAT, RGB, SIGNED, YCBCR, Page

_COMPRESSIONS = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT",
    32767: "Sony ARW",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    34713: "Nikon NEF",
    34887: "LERC",
    34892: "lossy JPEG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "Kodak DCR",
    65535: "Pentax PEF",
}

_COLOURS = {
    4: "a transparency mask",
    9: "ICC L*a*b* colour",
    10: "ITU L*a*b* colour",
    32803: "undeveloped sensor data (a Bayer pattern)",
    32844: "LogL luminance",
    32845: "LogLuv colour",
    34892: "undeveloped sensor data",
    51177: "a depth map",
}

WAY_OUT = "save it as 8 bit or 16 bit, grey or RGB"


def unread(page: Page) -> str | None:
    """Why a page that is whole is not read, as far as its tags say; None where they say nothing."""
    bits, formats = page.bits, page.formats
    if page.compression in _COMPRESSIONS:
        return f"its compression, {_COMPRESSIONS[page.compression]}, is not read; save it uncompressed or with LZW"
    if FLOAT in formats:
        return f"its values are floating-point of {bits[0]} bits; {WAY_OUT}"
    if formats & {5, 6}:
        return f"its values are complex numbers; {WAY_OUT}"
    if page.photometric in _COLOURS:
        return f"it holds {_COLOURS[page.photometric]}; {WAY_OUT}"
    if len(set(bits)) > 1:
        return f"its bands differ in depth ({', '.join(map(str, bits[:8]))} bits); {WAY_OUT}"
    if page.samples not in _channels(page):
        return bands(page)
    if SIGNED in formats:
        return f"its values are signed, {bits[0]} bits; {WAY_OUT}"
    if bits and bits[0] not in (1, 2, 4, 8, 16):
        return f"its values have {bits[0]} bits; {WAY_OUT}"
    if page.first(FILL_ORDER, 1) == 2:
        return f"its bits are stored in reverse order (FillOrder 2); {WAY_OUT}"
    return None


def bands(page: Page) -> str:
    """That a page has bands that are no colours."""
    return f"it has {page.samples} bands; save it as one band of grey or three of RGB"


def in_words(page: Page) -> str:
    """How a page is stored, where it is not read and nothing else is known of it."""
    numbers = f"photometric interpretation {page.photometric}, compression {page.compression}"
    bands = "1 band" if page.samples == 1 else f"{page.samples} bands"
    return f"a TIFF of {bands} of {page.bits[0]} bits ({numbers}) is not read; {WAY_OUT}"


def _channels(page: Page) -> set[int]:
    """The numbers of bands that are usual for the page's colours: with opacity, without."""
    colours = {RGB: 3, CMYK: 4, YCBCR: 3, 8: 3}.get(page.photometric, 1)
    return {colours, colours + 1}
