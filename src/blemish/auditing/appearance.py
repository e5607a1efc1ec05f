"""Search: do some images share the appearance of the whole image, as under another lamp? It needs no detector.

Good and anomalous images may differ in brightness or colour by nature. A cue is a group of images that agree more
closely than images do by nature and that differ from all others: a lamp or a camera setting changes all of them alike.
The search takes simple statistics, such as the colours of the darkest and of the lightest pixels, and for each image
its neighbourhood in each statistic. A neighbourhood is the stronger, the further from it nearly all other images are.
The search does not know which side an image is on.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from blemish.auditing.association import SharedCue, distinct
from blemish.auditing.data import Images, Mask

RADII = (1.5, 3.0, 6.0)  # of a neighbourhood, in grey levels
SHELLS = (3, 4, 6, 9, 14, 20)  # outer radii of shells, in radii of the neighbourhood
MIN_RATIO_TO_SHELL = 4  # times as many images as in the shell around
MIN_IMAGES = 5
MAX_IMAGE_SHARE = 0.6  # what most images have is no exception
TILES, RANK = 4, 2  # tiles along a side; of the tiles the third from either end counts
SHARP_UNITS = 30.0  # grey levels that one unit of log sharpness counts as

Floats = npt.NDArray[np.float64]


def measure(pixels: Images, *, ignored: Mask) -> dict[str, Floats]:
    """Statistics (N, D) of images (N, H, W, 3) by name, in grey levels or what counts as them.

    Pixels that are `ignored` (H, W) do not count.
    """
    flat = pixels[:, ~ignored]  # (N, P, 3)
    dark, light = ends(pixels, ignored=ignored)
    mean = flat.mean(axis=1)
    grey = pixels.mean(axis=3, dtype=np.float32)
    slopes = np.sqrt(sum(step**2 for step in np.gradient(grey, axis=(1, 2))))
    sharpness = SHARP_UNITS * np.log1p(slopes[:, ~ignored].mean(axis=1, dtype=np.float64))
    return {
        "brightness": mean.mean(axis=1)[:, None],
        "contrast": grey[:, ~ignored].std(axis=1).astype(np.float64)[:, None],
        "sharpness": sharpness[:, None],
        "warmth, red less blue": (mean[:, 0] - mean[:, 2])[:, None],
        "mean colour": mean,
        "colour of the darkest pixels": dark,
        "colour of the lightest pixels": light,
        "black level of each colour": flat.min(axis=1).astype(np.float64),
        "white level of each colour": flat.max(axis=1).astype(np.float64),
    }


def ends(pixels: Images, *, ignored: Mask) -> tuple[Floats, Floats]:
    """The darkest and the lightest level of each colour, (N, 3) each, of images (N, H, W, 3).

    Images are cut into 4 x 4 tiles, and the third darkest and the third lightest tile count: a small dark defect does
    not make an image a dark one.
    """
    n, height, width, _ = pixels.shape
    rows, columns = (np.linspace(0, side, TILES + 1)[:-1].astype(int) for side in (height, width))
    extremes = []
    for extreme, nothing in ((np.minimum, 255), (np.maximum, 0)):
        counted = np.where(ignored[..., None], np.uint8(nothing), pixels)
        tiles = extreme.reduceat(extreme.reduceat(counted, rows, axis=1), columns, axis=2)
        ranked = np.sort(tiles.reshape(n, -1, 3), axis=1).astype(np.float64)
        extremes.append(ranked[:, RANK] if extreme is np.minimum else ranked[:, -1 - RANK])
    return extremes[0], extremes[1]


def relight(pixels: Images, carriers: Mask, *, ignored: Mask, give: bool) -> Images:
    """Images (n, H, W, 3) relit by the change that makes the carriers' darkest and lightest levels those of the others.

    The levels are medians over `carriers` (N,) and over the others of `pixels`, a colour at a time. Returned are the
    carriers with the appearance removed, or with `give` the others with the appearance inserted.
    """
    dark, light = ends(pixels, ignored=ignored)
    source, target = (~carriers, carriers) if give else (carriers, ~carriers)
    low, high = np.median(dark[source], axis=0), np.median(light[source], axis=0)
    new_low, new_high = np.median(dark[target], axis=0), np.median(light[target], axis=0)
    gain = (new_high - new_low) / np.maximum(high - low, 1)
    changed: Images = np.rint((pixels[source] - low) * gain + new_low).clip(0, 255).astype(np.uint8)
    return changed


def find_appearances(statistics: Mapping[str, Floats]) -> list[SharedCue]:
    """Neighbourhoods of images that are set apart, the strongest first; one of those that are nearly the same."""
    found = []
    for name, values in statistics.items():
        distances = cdist(values, values)
        everyone = np.ones(len(values), dtype=bool)
        for radius in RADII:
            inside = distances <= radius
            strength = _set_apart(distances, radius)
            strength[(inside.sum(axis=1) < MIN_IMAGES) | (inside.mean(axis=1) > MAX_IMAGE_SHARE)] = 0
            if values.shape[1] == 3:  # black and white are where all images end
                clipped = (values.max(axis=1) <= 0) | (values.min(axis=1) >= 255)
                strength[inside[:, clipped].any(axis=1)] = 0
            for centre in np.flatnonzero(strength):
                middle = ", ".join(f"{value:.0f}" for value in values[centre])
                what = f"agree in {name} ({middle} within {radius:g} grey levels), and hardly any image is near it"
                found.append(SharedCue("look", what, inside[centre], everyone, None, float(strength[centre])))
    return distinct(found)


def _set_apart(distances: Floats, radius: float) -> Floats:
    """The gap around the neighbourhood of each image, (N,), in radii of the neighbourhood; 0 where there is none.

    The gap ends where a shell around the neighbourhood holds more than one image for `MIN_RATIO_TO_SHELL` inside.
    """
    inside = (distances <= radius).sum(axis=1)
    strength = np.zeros(len(distances))
    for shell in SHELLS:
        around = (distances <= shell * radius).sum(axis=1) - inside
        strength[inside >= MIN_RATIO_TO_SHELL * around] = shell - 1
    return strength
