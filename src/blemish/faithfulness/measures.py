"""Measures of one heatmap, whatever made it: a number for each pixel, higher where it marks more."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from blemish.evaluation.metrics import area_under
from blemish.faithfulness.inpainting import Pixels, inpaint

Map = npt.NDArray[np.float32]  # (H, W)
Mask = npt.NDArray[np.bool_]  # (H, W)
Scoring = Callable[[Pixels], npt.NDArray[np.float32]]  # uint8 (N, H, W, 3) to scores (N,)
Removing = Callable[[Pixels, Mask], Pixels]
Explaining = Callable[[Pixels], Map]
Explainer = Callable[[Pixels, Pixels], Map]
"""An attribution method: an image and what a nominal one would show, uint8 (H, W, 3), to a heatmap (H, W)."""

# Defects cover about one pixel in a hundred. Beyond, as for photographs of objects, the area would tell what becomes of
# an image whose ground is patched: to an anomaly detector the patches are what is anomalous.
FRACTIONS = np.linspace(0, 0.01, 21)
SHIFTS = ((0, 1), (3, -2))  # pixels down and to the right


def deletion_auc(score: Scoring, pixels: Pixels, remove: Removing, heatmap: Map) -> float:
    """How much of the score is left when the most marked pixels are removed; lower is more faithful.

    The area under r(f) = s(image with the share f removed) / s(image) by the trapezoidal rule, f = 0, 0.05, ... 1 % of
    all pixels, divided by 0.01 (after Petsiuk, Das and Saenko 2018, "RISE", who go to 100 %). Pixels go in the order
    of the map, highest first, equal ones in a fixed random order. 1 means that removing them changes nothing; above 1,
    what was filled in looks more anomalous than what it replaced.

    Args:
        score: scores (N,), above 0, of images (N, H, W, 3).
        pixels: uint8 (H, W, 3).
        remove: gives an image (H, W, 3) without what is marked (H, W).
        heatmap: (H, W).
    """
    removals = np.stack([remove(pixels, marked) for marked in _most_marked(heatmap)])  # (21, H, W, 3)
    return _area(score(removals) / score(pixels[None]))


def insertion_auc(score: Scoring, pixels: Pixels, fill: Pixels, heatmap: Map) -> float:
    """How much of the score comes with the most marked pixels, set into `fill`; higher is more faithful.

    As `deletion_auc`, with r(f) = s(`fill` with the share f of the image inpainted) / s(image).
    """
    insertions = np.stack([inpaint(fill, pixels, marked) for marked in _most_marked(heatmap)])
    return _area(score(insertions) / score(pixels[None]))


def pointing_game(heatmap: Map, mask: Mask) -> float:
    """Whether the highest pixel lies in the mask: 1 or 0, or the share that does of several equally high.

    Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", without their tolerance of 15 pixels.
    """
    return float(mask[heatmap == heatmap.max()].mean())


def mass_inside(heatmap: Map, mask: Mask, *, level: float) -> float:
    """Share of the map's mass above its nominal level that lies in the mask, 0..1; 0 where nothing is above it.

    The mass of a pixel is max(0, map - level). Without the level the many slightly raised pixels of an ordinary
    surface would outweigh any small defect.
    """
    mass = np.maximum(heatmap - level, 0, dtype=np.float64)
    total = mass.sum()
    return float(mass[mask].sum() / total) if total > 0 else 0.0


def shift_correlation(explain: Explaining, pixels: Pixels, heatmap: Map) -> float:
    """How alike the map stays when the image moves by 1 to 4 pixels, -1..1; 1 is a map that moves along exactly.

    The mean over SHIFTS of Pearson's correlation between `heatmap` and the shifted image's map moved back, over the
    pixels that both show. 0 where a map is constant.
    """
    return float(np.mean([_correlation(*_aligned(heatmap, explain(shift(pixels, by)), by)) for by in SHIFTS]))


def shift(pixels: Pixels, by: tuple[int, int]) -> Pixels:
    """The image (H, W, 3) moved down and to the right by whole pixels; its border is repeated into the gap."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - by[0], 0, height - 1)
    columns = np.clip(np.arange(width) - by[1], 0, width - 1)
    return pixels[np.ix_(rows, columns)]


def _most_marked(heatmap: Map) -> Iterator[Mask]:
    """More and more of the most marked pixels, 21 masks (H, W)."""
    chance = np.random.default_rng(0).random(heatmap.size)
    order = np.lexsort((chance, -heatmap.ravel()))
    rank = np.empty(heatmap.size, dtype=np.int64)
    rank[order] = np.arange(heatmap.size)
    for count in np.round(FRACTIONS * heatmap.size):
        yield (rank < count).reshape(heatmap.shape)


def _area(curve: npt.NDArray[np.float32]) -> float:
    return area_under(FRACTIONS, curve.astype(np.float64), end=FRACTIONS[-1])


def _aligned(before: Map, after: Map, by: tuple[int, int]) -> tuple[Map, Map]:
    """Both maps over the pixels that both images show."""
    height, width = before.shape
    down, right = by
    kept = before[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    moved = after[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    return kept, moved


def _correlation(before: Map, after: Map) -> float:
    if before.min() == before.max() or after.min() == after.max():
        return 0.0
    return float(np.corrcoef(before.ravel(), after.ravel())[0, 1])
