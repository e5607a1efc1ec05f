"""The paper's pictures: test images in columns, and below each what every method makes of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.io.text import printable

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 24), (110, 110, 118)
GAP = 3  # pixels between tiles; between the nominal and the anomalous half `HALVES_GAP`
HALVES_GAP = 18


def pick(
    anomalous: NDArray[np.bool_],
    kinds: Sequence[str],
    *,
    nominal: int,
    anomalous_count: int,
    seed: int,
) -> list[int]:
    """Test images to show, drawn at random and not by how well they turned out.

    The kinds of anomaly take turns, so that a common one does not crowd out the rest. Where there are fewer
    images than asked for, all are taken.

    Args:
        anomalous: bool (T,).
        kinds: (T,) class or defect type.
        nominal: nominal images to show.
        anomalous_count: anomalous images to show.

    Returns:
        Indices: first the nominal images, then the anomalous ones, as drawn; the same for every method.
    """
    shuffled = np.random.default_rng(seed).permutation(len(anomalous))
    taken: Counter[str] = Counter()
    turns = []  # of every shuffled image: how many of its kind came before it
    for index in shuffled:
        turns.append(taken[kinds[index]])
        taken[kinds[index]] += 1
    in_turn = shuffled[np.argsort(turns, kind="stable")]
    chosen: list[int] = []
    for drawn in (in_turn[~anomalous[in_turn]][:nominal], in_turn[anomalous[in_turn]][:anomalous_count]):
        chosen += drawn.tolist()
    return chosen


def heat_colours(
    maps: Sequence[NDArray[Any]], *, scale: Literal["local", "global"], quantile: float
) -> list[NDArray[np.float64]]:
    """Each map's places 0..1 on the colour scale: less the minimum, over the `quantile` of the values, clamped.

    "local" takes both from each map itself, "global" from all maps together, which keeps them comparable.
    """
    pooled = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    places = []
    for anomaly_map in maps:
        values = pooled if scale == "global" else anomaly_map
        low = float(values.min())
        # The k-th smallest value, not one between two; where that is the minimum, all above it is at the top.
        span = max(float(np.quantile(values, quantile, method="inverted_cdf")) - low, float(np.finfo(np.float32).tiny))
        places.append(((anomaly_map.astype(np.float64) - low) / span).clip(0, 1))
    return places


def combined_picture(
    rows: Mapping[str, Sequence[NDArray[Any]]],
    *,
    kinds: Sequence[str],
    nominal: int,
    scale: Literal["local", "global"],
    quantile: float,
    captions: tuple[str, str] = ("nominal", "anomalous"),
    tile: int = 128,
) -> Image.Image:
    """Columns of test images with their heatmaps and masks below, the rows labelled at the left.

    Args:
        rows: label -> an array for each column: uint8 (H, W) or (H, W, 3) is a photograph, bool (H, W) a mask,
            floats (H, W) a heatmap, coloured blue to red as in the paper (see `heat_colours`).
        kinds: class or defect type of each column, written above it.
        nominal: how many columns, the first ones, are nominal.
        scale: "local" colours every heatmap by itself, "global" those of a row together.
        quantile: of the heatmaps' values, the end of the colour scale.
        captions: above the nominal columns and above the anomalous ones.
        tile: longer side in pixels of every picture; a column has the proportions of its first row.
    """
    em = max(11, tile // 9)
    font = ImageFont.truetype(FONTS / "DejaVuSans.ttf", em)
    bold = ImageFont.truetype(FONTS / "DejaVuSans-Bold.ttf", em)
    left = max(round(bold.getlength(label)) for label in rows) + 2 * em
    top = 4 * em
    split = HALVES_GAP if 0 < nominal < len(kinds) else 0
    xs = [left + i * (tile + GAP) + (split if i >= nominal else 0) for i in range(len(kinds))]
    canvas = Image.new("RGB", (xs[-1] + tile + em, top + len(rows) * (tile + GAP) - GAP + em), PAPER)
    draw = ImageDraw.Draw(canvas)
    for is_nominal, columns in groupby(range(len(kinds)), key=lambda i: i < nominal):
        group = list(columns)
        start, end = xs[group[0]], xs[group[-1]] + tile
        draw.text(((start + end) / 2, 1.2 * em), captions[0 if is_nominal else 1], INK, bold, anchor="mm")
        draw.line([(start, 2.1 * em), (end - 1, 2.1 * em)], fill=INK, width=1)
        for i in group:
            draw.text((xs[i] + tile / 2, 3 * em), _fitted(printable(kinds[i]), font, tile), FAINT, font, anchor="mm")
    sizes = [_inside(tile, *array.shape[:2]) for array in next(iter(rows.values()))]
    for j, (label, arrays) in enumerate(rows.items()):
        y = top + j * (tile + GAP)
        draw.text((left - em, y + tile / 2), label, INK, bold, anchor="rm")
        for x, picture in zip(xs, _tiles(arrays, sizes, scale=scale, quantile=quantile), strict=True):
            canvas.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
    return canvas


def _tiles(
    arrays: Sequence[NDArray[Any]],
    sizes: Sequence[tuple[int, int]],
    *,
    scale: Literal["local", "global"],
    quantile: float,
) -> list[Image.Image]:
    """One row's arrays as pictures of these sizes (width, height)."""
    resampling, coloured = Image.Resampling.LANCZOS, False
    if arrays[0].dtype == np.bool_:
        resampling, arrays = Image.Resampling.BOX, [array.astype(np.uint8) * 255 for array in arrays]
    elif arrays[0].dtype != np.uint8:
        # Values are resized, then coloured: a mixture of two of jet's colours need not be one of them.
        resampling, coloured = Image.Resampling.BILINEAR, True
        arrays = [places.astype(np.float32) for places in heat_colours(arrays, scale=scale, quantile=quantile)]
    tiles = [Image.fromarray(array).resize(size, resampling) for array, size in zip(arrays, sizes, strict=True)]
    return [_jet(places) for places in tiles] if coloured else tiles


def _jet(places: Image.Image) -> Image.Image:
    return Image.fromarray(matplotlib.colormaps["jet"](np.asarray(places), bytes=True)[..., :3])


def _inside(tile: int, height: int, width: int) -> tuple[int, int]:
    """The (width, height) of a picture whose longer side is `tile`."""
    ratio = tile / max(height, width)
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut to the width."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
