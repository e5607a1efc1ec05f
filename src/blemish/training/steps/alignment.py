"""Learning from good images whether parts lie in any direction on a plain background, and how to turn them upright.

A detector that knows where on the part it looks is far better than one that has to take a part in all directions, and
it needs far fewer images. It is tried on the silhouettes of the good images alone: if they are found, lie in
different directions and become alike once they are turned, parts are turned.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from blemish.datasets.pixels import Pixels, keep, kept_images
from blemish.datasets.sampling import evenly
from blemish.io.files import temporary_file
from blemish.networks.alignment import (
    CIRCLES,
    DIRECTIONS,
    Alignment,
    Frame,
    Silhouettes,
    centres_of,
    circle_places,
    polar,
    radii_of,
)

MOST = 240  # images looked at
FEWEST = 2
BATCH = 16
HIGH = 0.98  # a part is on more of the image than the rest of 1: its contrast is that quantile of the differences
MIN_CONTRAST = 8.0  # grey levels
AREA = (0.01, 0.5)  # of the image, that a part may cover
AT_BORDER = 0.1  # of the image's border, that parts may touch
ALIKE = 0.8  # correlation of a turned silhouette with the template
TOGETHER = 0.8  # length of the mean direction, 1 where all are the same: above it parts lie nearly alike as they are
UNEXPLAINED = 0.5  # what turning leaves of the silhouettes' variation, for it to be worth while
STARTS, ROUNDS = 5, 8  # images tried as the first template, and rounds of turning all to their mean
FILL = 0.85  # of the upright picture's side, for the part
ZOOMS = (0.5, 1.25)
PART = 0.5  # a pixel belongs to the part if it does in as many images
MARGIN = 48  # of the side: how much farther the part is taken to reach


@dataclass(frozen=True)
class FittedAlignment:
    """How parts are turned upright, and where the part lies in the upright picture: bool (H, W)."""

    alignment: Alignment
    part: npt.NDArray[np.bool_]


def fit_alignment(images: npt.NDArray[np.uint8], fit: Sequence[int], *, aspect: float = 1.0) -> FittedAlignment | None:
    """How to turn the parts upright; None where there is nothing to turn, or no part is found on a plain background.

    Args:
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the good ones.
        aspect: how high a pixel is over how wide, see `Alignment`.
    """
    chosen = evenly(fit, MOST)
    size: tuple[int, int] = images.shape[1:3]
    found = _silhouettes(images, chosen, size) if len(chosen) >= FEWEST else None
    if found is None:
        return None
    silhouettes, shapes = found
    centres = centres_of(shapes, silhouettes)
    reach = _reach(shapes, centres, silhouettes.shrink, aspect)
    circles = circle_places(reach, aspect=aspect)
    read = polar(shapes, centres, circles, silhouettes, aspect=aspect).reshape(-1, DIRECTIONS, CIRCLES)
    template, directions = _template(read)
    before, after = _agreement(read), _agreement(_turned(read, directions))
    if after < ALIKE or 1 - after**2 > UNEXPLAINED * (1 - before**2) or _together(directions) > TOGETHER:
        return None
    template, frame = _framed(template, reach, size, aspect)
    alignment = Alignment(silhouettes, template, reach=reach, size=size, frame=frame, aspect=aspect)
    shown = torch.zeros(size)
    for some in shapes.split(BATCH):
        shown += (alignment.upright_silhouettes(some, alignment.poses_of(some)) > 0).sum(0)
    part = (shown >= PART * len(chosen)).numpy()
    margin = max(1, min(size) // MARGIN)
    return FittedAlignment(alignment, binary_dilation(part, iterations=margin))


def turn(pixels: Pixels, upright: FittedAlignment, *, progress: Callable[[int, int], None]) -> Pixels:
    """The images with their parts upright, in a file on disk of their own; their masks are turned with them.

    Raises BlemishError when the disk cannot hold them.
    """
    alignment, poses = upright.alignment, []
    with temporary_file() as file:
        for start in range(0, len(pixels.images), BATCH):
            batch = torch.from_numpy(np.array(pixels.images[start : start + BATCH]))
            with torch.inference_mode():
                poses.append(alignment.poses(batch))
                keep(file, alignment.upright(batch, poses[-1]).round().byte().numpy())
            progress(start + len(batch), len(pixels.images))
        images = kept_images(file, pixels.images.shape)
    turned = torch.cat(poses)
    return replace(pixels, images=images, moved=lambda index, mask: alignment.upright_mask(mask, turned[index]))


def _batches(images: npt.NDArray[np.uint8], chosen: Sequence[int]) -> Iterator[Tensor]:
    for start in range(0, len(chosen), BATCH):
        yield torch.from_numpy(images[list(chosen[start : start + BATCH])])


def _silhouettes(
    images: npt.NDArray[np.uint8], chosen: Sequence[int], size: tuple[int, int]
) -> tuple[Silhouettes, Tensor] | None:
    """Finds parts that lie within the image on a plain background, and their shapes (n, h, w); None: there are none."""
    trial = Silhouettes(size, 1.0)
    high = torch.cat([trial.differences(some).flatten(1).quantile(HIGH, dim=1) for some in _batches(images, chosen)])
    contrast = float(high.median()) / 2
    if contrast < MIN_CONTRAST:
        return None
    silhouettes = Silhouettes(size, contrast)
    shapes = torch.cat([silhouettes(some) for some in _batches(images, chosen)])
    found = (shapes > 0).float()
    border = torch.cat([found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]], dim=1).mean(1)
    area = found.mean((1, 2))
    inside = bool(border.quantile(0.9) <= AT_BORDER)
    return (silhouettes, shapes) if inside and AREA[0] <= area.median() <= AREA[1] else None


def _reach(shapes: Tensor, centres: Tensor, shrink: int, aspect: float) -> float:
    """Radius in widths of pixels about the centre within which nearly all of the usual part lies."""
    rows, columns = ((torch.arange(side) + 0.5) * shrink - 0.5 for side in shapes.shape[1:])
    down, right = rows[:, None] - centres[:, :1, None], columns[None] - centres[:, 1:, None]
    radii = torch.hypot(aspect * down, right)  # (n, h, w)
    return float((radii * (shapes > 0)).flatten(1).amax(1).median()) * 1.05


def _template(read: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (DIRECTIONS, CIRCLES) of silhouettes (n, DIRECTIONS, CIRCLES) all turned alike, and their turns (n,)."""
    best, template, directions = -1.0, read[0], torch.zeros(len(read), dtype=torch.int64)
    for start in evenly(range(len(read)), STARTS):
        mean, shifts = read[start], directions
        for _ in range(ROUNDS):
            shifts = _shifts(read, mean)
            mean = _turned(read, shifts).mean(0)
        if (agreement := _agreement(_turned(read, shifts))) > best:
            best, template, directions = agreement, mean, shifts
    return template, directions


def _turned(read: Tensor, directions: Tensor) -> Tensor:
    """Silhouettes (n, DIRECTIONS, CIRCLES) turned back."""
    return torch.stack([one.roll(-int(by), 0) for one, by in zip(read, directions, strict=True)])


def _together(directions: Tensor) -> float:
    angles = directions * (2 * torch.pi / DIRECTIONS)
    return float(torch.hypot(angles.cos().mean(), angles.sin().mean()))


def _shifts(read: Tensor, template: Tensor) -> Tensor:
    """By how many directions each silhouette (n, DIRECTIONS, CIRCLES) is turned from a template's."""
    spectrum = torch.fft.rfft(read, dim=1) * torch.fft.rfft(template, dim=0).conj()
    return torch.fft.irfft(spectrum.sum(2), n=DIRECTIONS, dim=1).argmax(1)


def _agreement(read: Tensor) -> float:
    """Median correlation of silhouettes (n, DIRECTIONS, CIRCLES) with the mean of the others."""
    flat = read.flatten(1)
    others = (flat.sum(0) - flat) / (len(flat) - 1)
    flat, others = (some - some.mean(1, keepdim=True) for some in (flat, others))
    return float(torch.cosine_similarity(flat, others).median())


def _framed(template: Tensor, reach: float, size: tuple[int, int], aspect: float) -> tuple[Tensor, Frame]:
    """The template turned so that the part fits into the smallest picture, and that picture's frame."""
    places = circle_places(reach, aspect=aspect).reshape(DIRECTIONS, CIRCLES, 2)
    weights = template / radii_of(places, aspect).sqrt()
    part = weights > 0.2 * weights.max()
    best: tuple[float, int, Tensor] | None = None
    for step in range(DIRECTIONS):
        inside = places[part.roll(step, 0)]
        low, high = inside.amin(0), inside.amax(0)
        need = float(((high - low) / torch.tensor(size)).max())
        if best is None or need < best[0] - 1e-3:
            best = need, step, (low + high) / 2
    assert best is not None
    need, step, middle = best
    zoom = min(max(need / FILL, ZOOMS[0]), ZOOMS[1])
    return template.roll(step, 0), Frame(float(middle[0]), float(middle[1]), zoom)
