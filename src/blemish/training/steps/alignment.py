"""Learning from good images whether parts lie in any direction on a plain background, and how to turn them upright.

A detector that knows where on the part it looks is far better than one that has to take a part in all directions, and
it needs far fewer images. It is tried on the silhouettes of the good images alone: if they are found, lie in
different directions and become alike once they are turned, parts are turned.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from blemish.datasets.pixels import Pixels, keep, kept_images
from blemish.datasets.sampling import evenly
from blemish.io.files import temporary_file
from blemish.networks.alignment import (
    N_ANGLES,
    N_RADII,
    Alignment,
    Frame,
    Silhouettes,
    centres_of,
    circle_offsets,
    polar,
    radii_of,
)
from blemish.training.config import AlignmentConfig

DEFAULTS = AlignmentConfig()

BATCH = 16  # images at a time
TEMPLATE_PART = 0.2  # of the template's largest weight, from which on it is the part


@dataclass(frozen=True)
class FittedAlignment:
    """How parts are turned upright, and where the part lies in the aligned picture: bool (H, W)."""

    alignment: Alignment
    foreground: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AlignmentDecision:
    """Whether parts are turned upright, and why.

    Attributes:
        fitted: how they are; None where they are not.
        reason: why, in words.
        figures: what was measured, by name: "contrast" in grey levels, "area" and "border" as shares of the image and
            of its border, "correlation" of the silhouettes as they lie, "correlation aligned" once they are turned, and
            "resultant length" of their directions, 1 where all are the same.
    """

    fitted: FittedAlignment | None
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


def decide_alignment(
    images: npt.NDArray[np.uint8], fit: Sequence[int], *, aspect: float = 1.0, config: AlignmentConfig = DEFAULTS
) -> AlignmentDecision:
    """Whether parts lie in different directions on a plain background and become alike once they are turned.

    Args:
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the good ones.
        aspect: how high a pixel is over how wide, see `Alignment`.
        config: the limits.
    """
    chosen = evenly(fit, config.images)
    size: tuple[int, int] = images.shape[1:3]
    if len(chosen) < 2:
        return AlignmentDecision(None, "one image shows one direction")
    figures: dict[str, float] = {}
    found, reason = _silhouettes(images, chosen, size, config, figures)
    if found is None:
        return AlignmentDecision(None, reason, figures)
    silhouettes, shapes = found
    centres = centres_of(shapes, silhouettes)
    radius = _radius(shapes, centres, silhouettes.shrink, aspect)
    circles = circle_offsets(radius, aspect=aspect)
    read = polar(shapes, centres, circles, silhouettes, aspect=aspect).reshape(-1, N_ANGLES, N_RADII)
    template, directions = _template(read, config)
    before, after, length = _agreement(read), _agreement(_turned(read, directions)), _resultant_length(directions)
    figures |= {"correlation": before, "correlation aligned": after, "resultant length": length}
    if after < config.min_correlation or 1 - after**2 > config.max_residual_variance * (1 - before**2):
        return AlignmentDecision(None, "turning does not make the parts alike", figures)
    if length > config.max_resultant_length:
        return AlignmentDecision(None, "parts lie nearly alike as they are", figures)
    template, frame = _framed(template, radius, size, aspect, config)
    alignment = Alignment(silhouettes, template, radius=radius, size=size, frame=frame, aspect=aspect)
    part = _part(alignment, shapes, config)
    return AlignmentDecision(
        FittedAlignment(alignment, part), "parts lie in any direction on a plain background", figures
    )


def align_images(pixels: Pixels, fitted: FittedAlignment, *, progress: Callable[[int, int], None]) -> Pixels:
    """The images with their parts upright, in a file on disk of their own; their masks are turned with them.

    Raises BlemishError when the disk cannot hold them.
    """
    alignment, poses = fitted.alignment, []
    with temporary_file() as file:
        for start in range(0, len(pixels.images), BATCH):
            batch = torch.from_numpy(np.array(pixels.images[start : start + BATCH]))
            with torch.inference_mode():
                poses.append(alignment.poses(batch))
                keep(file, alignment.to_canonical(batch, poses[-1]).round().byte().numpy())
            progress(start + len(batch), len(pixels.images))
        images = kept_images(file, pixels.images.shape)
    turned = torch.cat(poses)
    return replace(pixels, images=images, moved=lambda index, mask: alignment.canonical_mask(mask, turned[index]))


def _batches(images: npt.NDArray[np.uint8], chosen: Sequence[int]) -> Iterator[Tensor]:
    for start in range(0, len(chosen), BATCH):
        yield torch.from_numpy(images[list(chosen[start : start + BATCH])])


def _silhouettes(
    images: npt.NDArray[np.uint8],
    chosen: Sequence[int],
    size: tuple[int, int],
    config: AlignmentConfig,
    figures: dict[str, float],
) -> tuple[tuple[Silhouettes, Tensor] | None, str]:
    """Finds parts that lie within the image on a plain background, and their shapes (n, h, w); or why there are none.

    What is measured is added to the figures.
    """
    trial = Silhouettes(size, 1.0)
    high = torch.cat(
        [
            trial.differences(batch).flatten(1).quantile(config.contrast_quantile, dim=1)
            for batch in _batches(images, chosen)
        ]
    )
    contrast = float(high.median()) / 2
    figures["contrast"] = contrast
    if contrast < config.min_contrast:
        return None, "no part stands out from a plain background"
    silhouettes = Silhouettes(size, contrast)
    shapes = torch.cat([silhouettes(batch) for batch in _batches(images, chosen)])
    found = (shapes > 0).float()
    border = torch.cat([found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]], dim=1).mean(1).quantile(0.9)
    area = found.mean((1, 2)).median()
    figures |= {"area": float(area), "border": float(border)}
    if not border <= config.max_border:
        return None, "parts reach the border of the image, or the background is not plain"
    if not config.part_area[0] <= area <= config.part_area[1]:
        return None, "what stands out from the background is too small or too large for a part"
    return (silhouettes, shapes), ""


def _part(alignment: Alignment, shapes: Tensor, config: AlignmentConfig) -> npt.NDArray[np.bool_]:
    """Where the part lies in the aligned picture, with a margin, bool (H, W), by the silhouettes (n, h, w)."""
    shown = torch.zeros(alignment.size)
    for batch in shapes.split(BATCH):
        shown += (alignment.canonical_silhouettes(batch, alignment.poses_of(batch)) > 0).sum(0)
    part = (shown >= config.part_share * len(shapes)).numpy()
    margin = max(1, min(alignment.size) // config.margin)
    grown: npt.NDArray[np.bool_] = binary_dilation(part, iterations=margin)
    return grown


def _radius(shapes: Tensor, centres: Tensor, shrink: int, aspect: float) -> float:
    """Radius in widths of pixels about the centre within which nearly all of the usual part lies."""
    rows, columns = ((torch.arange(side) + 0.5) * shrink - 0.5 for side in shapes.shape[1:])
    down, right = rows[:, None] - centres[:, :1, None], columns[None] - centres[:, 1:, None]
    radii = torch.hypot(aspect * down, right)  # (n, h, w)
    return float((radii * (shapes > 0)).flatten(1).amax(1).median()) * 1.05


def _template(read: Tensor, config: AlignmentConfig) -> tuple[Tensor, Tensor]:
    """The mean (N_ANGLES, N_RADII) of silhouettes (n, N_ANGLES, N_RADII) all turned alike, and their turns (n,)."""
    best, template, directions = -1.0, read[0], torch.zeros(len(read), dtype=torch.int64)
    for start in evenly(range(len(read)), config.starts):
        mean, shifts = read[start], directions
        for _ in range(config.rounds):
            shifts = _shifts(read, mean)
            mean = _turned(read, shifts).mean(0)
        if (agreement := _agreement(_turned(read, shifts))) > best:
            best, template, directions = agreement, mean, shifts
    return template, directions


def _turned(read: Tensor, directions: Tensor) -> Tensor:
    """Silhouettes (n, N_ANGLES, N_RADII) turned back."""
    return torch.stack([one.roll(-int(by), 0) for one, by in zip(read, directions, strict=True)])


def _resultant_length(directions: Tensor) -> float:
    """Length of the mean of unit vectors in these directions (n,)."""
    angles = directions * (2 * torch.pi / N_ANGLES)
    return float(torch.hypot(angles.cos().mean(), angles.sin().mean()))


def _shifts(read: Tensor, template: Tensor) -> Tensor:
    """By how many directions each silhouette (n, N_ANGLES, N_RADII) is turned from a template's."""
    spectrum = torch.fft.rfft(read, dim=1) * torch.fft.rfft(template, dim=0).conj()
    return torch.fft.irfft(spectrum.sum(2), n=N_ANGLES, dim=1).argmax(1)


def _agreement(read: Tensor) -> float:
    """Median correlation of silhouettes (n, N_ANGLES, N_RADII) with the mean of the others."""
    flat = read.flatten(1)
    others = (flat.sum(0) - flat) / (len(flat) - 1)
    flat, others = (some - some.mean(1, keepdim=True) for some in (flat, others))
    return float(torch.cosine_similarity(flat, others).median())


def _framed(
    template: Tensor, radius: float, size: tuple[int, int], aspect: float, config: AlignmentConfig
) -> tuple[Tensor, Frame]:
    """The template turned so that the part fits into the smallest picture, and that picture's frame."""
    places = circle_offsets(radius, aspect=aspect).reshape(N_ANGLES, N_RADII, 2)
    weights = template / radii_of(places, aspect).sqrt()
    part = weights > TEMPLATE_PART * weights.max()
    best: tuple[float, int, Tensor] | None = None
    for step in range(N_ANGLES):
        inside = places[part.roll(step, 0)]
        low, high = inside.amin(0), inside.amax(0)
        need = float(((high - low) / torch.tensor(size)).max())
        if best is None or need < best[0] - 1e-3:
            best = need, step, (low + high) / 2
    assert best is not None
    need, step, middle = best
    zoom = min(max(need / config.fill, config.zoom[0]), config.zoom[1])
    return template.roll(step, 0), Frame(float(middle[0]), float(middle[1]), zoom)
