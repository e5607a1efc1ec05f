"""Scars: small artificial defects that keep the image's own texture plausible, unlike confetti.

Four kinds, after ideas of CutPaste (Li et al. 2021), DRAEM (Zavrtanik et al. 2021) and NSA (Schlüter et al. 2022).
Lengths in pixels are for a short side of 256 and scale with it. A grey image stays grey, whatever the source: colour
would be a cue that no real defect gives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

from blemish.synthetic import Synthetic, require_rgb

REFERENCE_SIDE = 256
VISIBLE_CHANGE = 3
"""Grey levels: pixels of which no channel would change by more are left alone; the mask holds what shows."""

# A defect on a smaller share of the image, or of a fainter mean change in grey levels, is drawn again.
_MIN_AREA, _MIN_MEAN_CHANGE = 0.0003, 8.0
_ATTEMPTS = 10
_SUPERSAMPLING = 4

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Site = tuple[int, int]


@dataclass(frozen=True)
class Patch:
    """What a kind lays over an image: a window, its content (h, w, 3) in grey levels and opacity (h, w)."""

    rows: slice
    cols: slice
    content: Floats
    alpha: Floats


Kind = Callable[[Pixels, np.random.Generator, Site, Pixels], Patch]
"""(image (H, W, 3), rng, site (row, col), source (H, W, 3)) -> the patch to lay over it at the site."""


def cut_paste(image: Pixels, rng: np.random.Generator, site: Site, source: Pixels) -> Patch:
    """Copy a rectangle of the source, rotated, recoloured, with a feathered edge.

    0.1 to 4 % of the image's area, aspect 0.2 to 5, both log-uniform.
    """
    height, width = image.shape[:2]
    area = _log_uniform(rng, 0.001, 0.04) * height * width
    aspect = _log_uniform(rng, 0.2, 5)
    patch_height, patch_width = min(np.sqrt(area * aspect), height), min(np.sqrt(area / aspect), width)
    from_row = rng.uniform(patch_height / 2, height - patch_height / 2)
    from_col = rng.uniform(patch_width / 2, width - patch_width / 2)

    rows, cols = _window(image, site, np.hypot(patch_height, patch_width) / 2)
    down, right = _offsets(rows, cols, site)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = right * cos + down * sin, down * cos - right * sin  # (h, w) in the rectangle's own axes
    to_edge = np.minimum(patch_width / 2 - abs(along), patch_height / 2 - abs(across))
    feather = rng.uniform(0.5, 3) * _scale(image)
    alpha = np.clip(to_edge / feather, 0, 1).astype(np.float32)

    # Where the window's corner lies from the site; Pillow's coordinates are those of pixel edges.
    corner_x, corner_y = cols.start - site[1] - 0.5, rows.start - site[0] - 0.5
    to_source_x = (cos, sin, from_col + cos * corner_x + sin * corner_y)
    to_source_y = (-sin, cos, from_row - sin * corner_x + cos * corner_y)
    turned = Image.fromarray(source).transform(
        alpha.shape[::-1],
        Image.Transform.AFFINE,
        (*to_source_x, *to_source_y),
        Image.Resampling.BILINEAR,
    )
    return Patch(rows, cols, _recoloured(np.asarray(turned, np.float32), alpha, rng), alpha)


def scratch(image: Pixels, rng: np.random.Generator, site: Site, source: Pixels) -> Patch:
    """Draw a smooth stroke, 1 to 5 px wide, 15 to 90 grey levels darker or brighter, half transparent.

    It always shows at the site: if that pixel has no room for the change, the sign is turned. The source is
    not used.
    """
    length = _log_uniform(rng, 6, 160) * _scale(image)
    width = max(1.0, _log_uniform(rng, 1, 5) * _scale(image))
    down, right = _stroke(rng, length)
    rows, cols = _window(image, site, max(abs(down).max(), abs(right).max()) + width)

    # A disc stamped at each point gives it its own strength; drawn large and shrunk, the edge is antialiased.
    size = _SUPERSAMPLING * (cols.stop - cols.start), _SUPERSAMPLING * (rows.stop - rows.start)
    canvas = Image.new("L", size)
    draw = ImageDraw.Draw(canvas)
    ripple = 0.25 * np.sin(np.linspace(0, rng.uniform(0, 30), len(down)))
    strengths = np.clip(rng.uniform(0.5, 1) + ripple, 0.4, 1)
    lefts = right + (site[1] + 0.5 - cols.start - width / 2)
    tops = down + (site[0] + 0.5 - rows.start - width / 2)
    for left, top, strength in zip(lefts, tops, strengths, strict=True):
        box = [_SUPERSAMPLING * edge for edge in (left, top, left + width, top + width)]
        draw.ellipse(box, fill=round(255 * strength))
    alpha = np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / np.float32(255)

    change = rng.uniform(15, 90) * rng.choice((-1, 1))
    if not 0 <= image[site].mean() + change <= 255:
        change = -change
    return Patch(rows, cols, image[rows, cols].astype(np.float32) + np.float32(change), alpha)


def blend(image: Pixels, rng: np.random.Generator, site: Site, source: Pixels) -> Patch:
    """Let the source show through a ragged hole, opacity 0.3 to 1; the image itself is shuffled first.

    The hole is where smooth noise with a hill at the site is highest: 0.3 to 10 % of the area, log-uniform.
    """
    area = _log_uniform(rng, 0.003, 0.1) * image.shape[0] * image.shape[1]  # pixels
    rows, cols = _window(image, site, 2 * np.sqrt(area))
    down, right = _offsets(rows, cols, site)
    relief = _smooth_noise((down.size, right.size), rng) + 3 * np.exp(-(down**2 + right**2) / area)  # (h, w)
    level = np.quantile(relief, max(0.0, 1 - area / relief.size))
    alpha = np.float32(rng.uniform(0.3, 1)) * np.clip((relief - level) / 0.1, 0, 1)
    texture = _shuffled(image, rng) if source is image else source
    return Patch(rows, cols, texture[rows, cols].astype(np.float32), alpha.astype(np.float32))


def smear(image: Pixels, rng: np.random.Generator, site: Site, source: Pixels) -> Patch:
    """Push the texture aside, or blur it, in a soft disc of radius 5 to 25 px; the source is not used."""
    radius = max(2.0, _log_uniform(rng, 5, 25) * _scale(image))
    rows, cols = _window(image, site, radius)
    down, right = _offsets(rows, cols, site)
    disc = np.clip(1 - (down**2 + right**2) / radius**2, 0, 1)  # (h, w), 1 at the site, 0 on the rim
    window = image[rows, cols].astype(np.float32)
    if rng.random() < 0.5:
        sigma = rng.uniform(0.15, 0.5) * radius
        return Patch(rows, cols, gaussian_filter(window, sigma=(sigma, sigma, 0)), np.sqrt(disc))
    angle, push = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2) * radius
    from_row = np.arange(disc.shape[0])[:, None] - push * np.sin(angle) * disc**2
    from_col = np.arange(disc.shape[1])[None, :] - push * np.cos(angle) * disc**2
    channels = [
        map_coordinates(window[..., channel], (from_row, from_col), order=1, mode="nearest") for channel in range(3)
    ]
    return Patch(rows, cols, np.stack(channels, axis=-1), (disc > 0).astype(np.float32))


KINDS: tuple[Kind, ...] = (cut_paste, scratch, blend, smear)


def scar(
    image: Pixels,
    rng: np.random.Generator,
    *,
    source: Pixels | None = None,
    where: NDArray[np.bool_] | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> Synthetic:
    """Add one defect of a random kind to `image`, uint8 (H, W, 3), at a random true pixel of `where` (H, W).

    `source`, of the image's shape, lends its texture: another nominal image, an outlier photograph, or (None)
    the image itself. The mask, all pixels that differ, is never empty: a kind that does not show, such as a
    blur of a smooth place, is tried at other sites, then a scratch is drawn. ValueError: the shapes disagree.
    """
    require_rgb(image)
    if source is not None and source.shape != image.shape:
        raise ValueError(f"the source has shape {source.shape} and the image {image.shape}; make them the same")
    if where is not None and (where.shape != image.shape[:2] or not where.any()):
        raise ValueError(f"`where` needs shape {image.shape[:2]} and a true pixel, but has shape {where.shape}")
    grey = bool((image == image[..., :1]).all())
    if source is None:
        source = image
    elif grey:
        source = _in_grey(source)
    sites = np.arange(image[..., 0].size) if where is None else np.flatnonzero(where)

    kind = kinds[int(rng.integers(len(kinds)))]
    for _ in range(_ATTEMPTS):
        patch = kind(image, rng, _pick_site(image, sites, rng), source)
        result, mean_change = _lay_over(image, patch, grey=grey)
        if result.mask.mean() >= _MIN_AREA and mean_change >= _MIN_MEAN_CHANGE:
            return result
    patch = scratch(image, rng, _pick_site(image, sites, rng), source)
    return _lay_over(image, patch, grey=grey)[0]


def _lay_over(image: Pixels, patch: Patch, *, grey: bool) -> tuple[Synthetic, float]:
    """Lay the patch over a copy of the image where it shows; also return the mean change there in levels."""
    under = image[patch.rows, patch.cols].astype(np.float32)
    content = patch.content[..., :1] if grey else patch.content  # only recolouring can have parted the channels
    mixed = np.rint(np.clip(under + patch.alpha[..., None] * (content - under), 0, 255))  # (h, w, 3)
    change = abs(mixed - under).max(axis=2)  # (h, w)
    shows = change > VISIBLE_CHANGE
    changed, mask = image.copy(), np.zeros(image.shape[:2], bool)
    changed[patch.rows, patch.cols][shows] = mixed[shows]
    mask[patch.rows, patch.cols] = shows
    return Synthetic(image=changed, mask=mask), float(change[shows].mean()) if shows.any() else 0.0


def _pick_site(image: Pixels, sites: NDArray[np.intp], rng: np.random.Generator) -> Site:
    row, col = divmod(int(sites[rng.integers(sites.size)]), image.shape[1])
    return row, col


def _window(image: Pixels, site: Site, reach: float) -> tuple[slice, slice]:
    """Return the rows and columns within `reach` pixels of the site, cut at the border."""
    half = int(np.ceil(reach))
    rows, cols = (
        slice(max(0, middle - half), min(extent, middle + half + 1))
        for middle, extent in zip(site, image.shape[:2], strict=True)
    )
    return rows, cols


def _offsets(rows: slice, cols: slice, site: Site) -> tuple[Floats, Floats]:
    """Return the distances from the site, down (h, 1) and to the right (1, w)."""
    down = np.arange(rows.start - site[0], rows.stop - site[0], dtype=np.float32)
    right = np.arange(cols.start - site[1], cols.stop - site[1], dtype=np.float32)
    return down[:, None], right[None, :]


def _stroke(rng: np.random.Generator, length: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a smooth curve whose middle is the origin: its rows and columns (n,), half a pixel apart."""
    along = np.linspace(-0.5, 0.5, 2 * int(np.ceil(length)) + 1)  # odd, so that one point is the middle
    bend, wave, frequency, phase = (
        rng.normal(0, 0.8),
        rng.normal(0, 0.5),
        rng.uniform(2, 10),
        rng.uniform(0, 6.28),
    )
    heading = rng.uniform(0, 2 * np.pi) + bend * along + wave * np.sin(frequency * along + phase)
    step, middle = length / (along.size - 1), along.size // 2
    down, right = np.cumsum(step * np.sin(heading)), np.cumsum(step * np.cos(heading))
    return down - down[middle], right - right[middle]


def _smooth_noise(size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return Perlin-like noise (h, w) of variance 1: enlarged grids of 4 to 32 Gaussian cells a side."""
    noise = np.zeros(size, np.float32)
    for cells, weight in ((4, 1.0), (8, 0.6), (16, 0.35), (32, 0.2)):
        octave = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        noise += weight * np.asarray(octave.resize(size[::-1], Image.Resampling.BICUBIC))
    noise /= noise.std()
    return noise


def _shuffled(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shuffle eight bands of rows and eight of columns."""
    rows, cols = (
        np.concatenate([bands[band] for band in rng.permutation(len(bands))])
        for bands in (np.array_split(np.arange(extent), 8) for extent in image.shape[:2])
    )
    shuffled: Pixels = image[np.ix_(rows, cols)]
    return shuffled


def _recoloured(pixels: Floats, alpha: Floats, rng: np.random.Generator) -> Floats:
    """Change contrast (0.7 to 1.3), brightness (+-25 grey levels) and, less, the colour balance (+-8)."""
    mean = np.average(pixels.mean(axis=2), weights=alpha)
    shift = rng.uniform(-25, 25) + rng.uniform(-8, 8, size=3)
    recoloured: Floats = ((pixels - mean) * rng.uniform(0.7, 1.3) + mean + shift).astype(np.float32)
    return recoloured


def _in_grey(image: Pixels) -> Pixels:
    luminance = np.asarray(Image.fromarray(image).convert("L"))
    return np.repeat(luminance[..., None], 3, axis=2)


def _scale(image: Pixels) -> float:
    return float(min(image.shape[:2]) / REFERENCE_SIDE)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
