"""Heatmaps: an anomaly map drawn over its image, on one fixed colour scale for each detector."""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.errors import BlemishError
from blemish.imaging.colormap import COLOURS
from blemish.imaging.regions import Contour, Region, find_regions, outlines
from blemish.imaging.resizing import resize_mask, upscale
from blemish.imaging.results import SIGNATURE

# The threshold is the middle of every colour scale: the same colour means the same decision in every picture.
THRESHOLD_INDEX = 128
POSITIONS = np.linspace(0, 1, 256)
# What nominal images reach stays invisible, just below the threshold there is a tint, and a defect glows.
OPACITY = np.interp(POSITIONS, [0.25, 0.5, 0.7, 1.0], [0.0, 0.25, 0.7, 0.85])
# The colours as they look on a mid-grey photograph (256, 3): what a legend has to show.
LEGEND = (COLOURS * OPACITY[:, None] + 128 * (1 - OPACITY[:, None])).round().astype(np.uint8)

FOUND = (255, 255, 255)
ANNOTATED = (64, 224, 255)
HATCH = 12  # pixels between the stripes over what does not count
PANEL = (22, 22, 26)
FAINT = (170, 170, 178)
MIN_PICTURE = 256
PNG_RGB, PNG_FILTER_UP, PNG_LEVEL = 2, 2, 1  # level 6 takes five times as long for a seventh fewer bytes


@dataclass(frozen=True)
class HeatmapScale:
    """The colour scale of one detector, the same for all images, in units of the anomaly map.

    ``low`` is a typical value on nominal images, ``high`` the value from which on colours no longer change.
    Raises BlemishError unless low < threshold < high.
    """

    low: float
    high: float
    threshold: float

    def __post_init__(self) -> None:
        if not self.low < self.threshold < self.high:
            raise BlemishError(
                f"a heatmap scale needs low < threshold < high, not {self.low:g}, {self.threshold:g} and "
                f"{self.high:g}: choose a threshold inside the scale or widen the scale"
            )


def colourise(anomaly_map: NDArray[Any], scale: HeatmapScale) -> NDArray[np.uint8]:
    """An anomaly map (H, W) as opaque colours (H, W, 3)."""
    colours: NDArray[np.uint8] = COLOURS[_positions(anomaly_map, scale)]
    return colours


def overlay(
    image: Image.Image,
    anomaly_map: NDArray[Any],
    scale: HeatmapScale,
    *,
    mask: NDArray[np.bool_] | None = None,
    regions: Sequence[Region] | None = None,
    ignored: NDArray[np.bool_] | None = None,
    colour_bar: bool = True,
) -> Image.Image:
    """The photograph in grey under its heatmap, anomalous regions outlined, a colour bar at the right.

    ``anomaly_map`` may be of any size. ``regions`` are those of ``find_regions`` at the image's own size,
    found here when not given. ``mask`` (H, W) is the annotated defect, drawn as a second outline; ``ignored``
    (H, W), where the image does not count, is darkened under stripes. The picture
    has the image's size, or 256 pixels along the longer side when that is smaller, and its top left corner.

    Raises BlemishError when the mask is not of the image's size.
    """
    size = (image.height, image.width)
    if mask is not None and mask.shape != size:
        raise BlemishError(f"the mask is {mask.shape} and the image {size}: resize the mask to the image")
    if regions is None:
        regions = find_regions(anomaly_map, scale.threshold, size=size)
    zoom = max(1.0, MIN_PICTURE / max(size))
    picture = _blend(image, anomaly_map, scale, (round(size[0] * zoom), round(size[1] * zoom)))
    if ignored is not None:
        _hatch(picture, ignored)
    if mask is not None:
        _draw_contours(picture, outlines(mask), ANNOTATED, zoom)
    _draw_contours(picture, (region.contour for region in regions), FOUND, zoom)
    return _beside_colour_bar(picture, scale) if colour_bar else picture


def encode_png(picture: Image.Image) -> bytes:
    """An RGB picture as a PNG file that says it is a result.

    Each row is stored as its difference from the one above. Pillow tries five such filters on every row: that
    takes twice as long as all the rest, and saves a photograph nothing.
    """
    pixels = np.asarray(picture).reshape(picture.height, 3 * picture.width)
    rows = np.empty((picture.height, 1 + 3 * picture.width), dtype=np.uint8)
    rows[:, 0] = PNG_FILTER_UP
    rows[:, 1:] = pixels
    rows[1:, 1:] -= pixels[:-1]
    header = struct.pack(">IIBBBBB", *picture.size, 8, PNG_RGB, 0, 0, 0)
    words = b"Software\0" + SIGNATURE.encode("latin-1")
    chunks = ((b"IHDR", header), (b"tEXt", words), (b"IDAT", zlib.compress(rows.data, PNG_LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def short(score: float) -> str:
    """A score with three significant digits and never an exponent: "0.0123", "2.2", "12,346"."""
    if abs(score) >= 1000:
        return f"{score:,.0f}"
    return np.format_float_positional(score, precision=3, fractional=False, trim="-")


def _positions(anomaly_map: NDArray[Any], scale: HeatmapScale) -> NDArray[np.uint8]:
    """Places 0..255 on the colour scale: straight from low to threshold, and from threshold to high."""
    below = (anomaly_map - scale.low) * (THRESHOLD_INDEX / (scale.threshold - scale.low))
    above = (anomaly_map - scale.threshold) * ((255 - THRESHOLD_INDEX) / (scale.high - scale.threshold))
    places: NDArray[Any] = below.clip(0, THRESHOLD_INDEX) + above.clip(0, 255 - THRESHOLD_INDEX)
    return places.astype(np.uint8)


def _blend(image: Image.Image, anomaly_map: NDArray[Any], scale: HeatmapScale, size: tuple[int, int]) -> Image.Image:
    # Only the heatmap has colours: on a grey photograph no coloured part is taken for an anomaly.
    photograph = image.convert("L")
    if photograph.size != size[::-1]:
        photograph = photograph.resize(size[::-1], Image.Resampling.BICUBIC)
    positions = Image.fromarray(_positions(upscale(anomaly_map, size), scale))
    opacity = positions.point((OPACITY * 255).round().astype(int).tolist())
    positions.putpalette(COLOURS.tobytes())
    return Image.composite(positions.convert("RGB"), photograph.convert("RGB"), opacity)


def _hatch(picture: Image.Image, ignored: NDArray[np.bool_]) -> None:
    """Darkens what does not count, with diagonal stripes."""
    where = resize_mask(ignored, picture.size[::-1], rule="nearest")
    rows, columns = np.ogrid[: picture.height, : picture.width]
    stripes = (rows + columns) % HATCH < 2
    opacity = where * np.where(stripes, 230, 130).astype(np.uint8)
    picture.paste(PANEL, (0, 0), Image.fromarray(opacity))


def _draw_contours(
    picture: Image.Image, contours: Iterable[Contour], colour: tuple[int, int, int], zoom: float
) -> None:
    """Draws closed lines with a dark rim, which keeps them visible on light and on hot ground alike."""
    lines = [(np.array(contour) + 0.5) * zoom for contour in contours]
    if not lines:
        return
    width = max(1.5, min(picture.size) / 256)
    points = np.concatenate(lines)
    left, top = (int(v) for v in points.min(axis=0) - width - 4)
    right, bottom = (int(v) for v in points.max(axis=0) + width + 4)
    # Pillow draws without antialiasing: at twice the size and averaged, the lines come out smooth.
    core, rim = (Image.new("L", (2 * (right - left), 2 * (bottom - top))) for _ in range(2))
    for line in lines:
        closed = np.concatenate([line, line[:2]]) - (left, top)
        path = (2 * closed).ravel().tolist()
        ImageDraw.Draw(rim).line(path, fill=150, width=round(2 * width + 4))
        ImageDraw.Draw(core).line(path, fill=255, width=round(2 * width))
    picture.paste((0, 0, 0), (left, top), rim.reduce(2))
    picture.paste(colour, (left, top), core.reduce(2))


def _beside_colour_bar(picture: Image.Image, scale: HeatmapScale) -> Image.Image:
    bar = _colour_bar(scale, max(picture.height, MIN_PICTURE // 2), min(picture.size))
    canvas = Image.new("RGB", (picture.width + bar.width, bar.height), PANEL)
    canvas.paste(picture, (0, 0))
    canvas.paste(bar, (picture.width, 0))
    return canvas


@lru_cache(maxsize=8)
def _colour_bar(scale: HeatmapScale, height: int, picture_side: int) -> Image.Image:
    """The legend: colours as on mid-grey, low and high at the ends, the threshold marked in the middle."""
    em = max(11, picture_side // 30)
    font = ImageFont.load_default(em)  # Pillow carries one, so none is looked for on the machine
    labels = [(short(scale.high), FAINT), (f"> {short(scale.threshold)}", FOUND), (short(scale.low), FAINT)]
    left, right, margin = em * 3 // 4, em * 2, em
    text_x = right + em * 3 // 4
    width = text_x + max(round(font.getlength(text)) for text, _ in labels) + em * 3 // 4 + 1

    bar = Image.new("RGB", (width, height), PANEL)
    ramp = Image.fromarray(LEGEND[::-1, None])  # one pixel wide, high at the top
    bar.paste(ramp.resize((right - left, height - 2 * margin), Image.Resampling.BILINEAR), (left, margin))

    draw = ImageDraw.Draw(bar)
    middle = height / 2
    thickness = max(2, em // 7)
    draw.line([(left - em / 4, middle), (right + em / 2, middle)], fill=FOUND, width=thickness)
    for (text, colour), y in zip(labels, (margin, middle, height - margin), strict=True):
        draw.text((text_x, y), text, font=font, fill=colour, anchor="lm")
    # The threshold's label in bold, and a line that makes "at least" of its ">": the font has no sign for that.
    draw.text((text_x + 1, middle), labels[1][0], font=font, fill=FOUND, anchor="lm")
    _, _, end, bottom = draw.textbbox((text_x, middle), ">", font=font, anchor="lm")
    draw.line([(text_x + 1, bottom + 1), (end, bottom + 1)], fill=FOUND, width=max(1, em // 11))
    return bar
