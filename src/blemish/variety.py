"""Whether good images differ as wholes: each with a texture, an exposure or a subject of its own.

Screws, and crops of one cloth, differ in details: what one part of an image shows beyond what its place always shows
tells nothing of the other parts. Of magnetic tiles, of which every one is ground in its own way and lit in its own way,
or of photographs of ships, one part tells a good deal about all others. That is what is measured: the correlation of
parts of one image that lie apart. How bright an image is they have in common, too, but a lamp that flickers is no look
of an image's own: all are brought to one light first.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

PARTS = 4  # along each side; in images with a short side, as many wide cells along the long one make a part
ENOUGH = 0.13  # of wide cells: screws have -.07 to .07, magnetic tiles .16 to .21
FEWEST = 8  # images; of fewer nothing is said
SMALLEST = 8  # wide cells along a side, 128 px: along a shorter one every cell sees most of the image
FEWEST_IN_A_ROW = 8  # parts along the long side of an image with such a short one
MOST = 48  # images looked at


def in_one_light(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images (N, H, W, 3), each made as bright in the mean as the middle one of them, as by another exposure time."""
    means = images.mean((1, 2, 3), keepdims=True, dtype=np.float32)
    factors = np.median(means) / np.maximum(means, 1)
    return np.clip(np.rint(images * factors), 0, 255).astype(np.uint8)


def common_share(features: Tensor) -> float:
    """The share of parts' variance that all parts of an image have in common, about -.1 to 1.

    Parts are a sixteenth of the image each, or pieces of a long one, see `parts_of`, and pairs count that do not touch.
    A pair's share is its covariance over the mean of its variances. Shares are pooled over pairs, so that places where
    images hardly vary, such as a plain background, hardly count, and averaged over channels.

    Args:
        features: (N, C, h, w) of two or more nominal images.
    """
    layout = parts_of(tuple(features.shape[2:])) or (PARTS, PARTS)
    deviations = features - features.mean(0)
    parts = F.adaptive_avg_pool2d(deviations, layout).flatten(2)  # (N, C, P)
    covariance = parts.permute(1, 2, 0) @ parts.permute(1, 0, 2) / (len(parts) - 1)  # (C, P, P)
    variance = covariance.diagonal(dim1=1, dim2=2)  # (C, P)
    apart = [pair for pair in combinations(range(layout[0] * layout[1]), 2) if _apart(*pair, columns=layout[1])]
    first, second = (list(side) for side in zip(*apart, strict=True))
    common = covariance[:, first, second].sum(1)  # (C,)
    whole = (variance[:, first] + variance[:, second]).sum(1) / 2
    varies = whole > 0
    return float((common[varies] / whole[varies]).mean()) if varies.any() else 0.0


def parts_of(grid: tuple[int, ...]) -> tuple[int, int] | None:
    """How many parts along each side an image on such a grid of wide cells has; None where it is too small to tell.

    Four by four; a row along the long side where the other one is short. A part of 64 x 1024 px is as large as one of
    256 x 256.
    """
    rows, columns = grid
    if min(rows, columns) >= SMALLEST:
        return PARTS, PARTS
    along = min(PARTS**2, max(rows, columns) // PARTS)
    if along < FEWEST_IN_A_ROW:
        return None
    return (along, 1) if rows > columns else (1, along)


def can_tell(images: int, grid: tuple[int, int]) -> bool:
    """Whether so many images on such a grid of wide cells are enough to tell."""
    return images >= FEWEST and parts_of(grid) is not None


def differ_as_wholes(features: Tensor) -> bool:
    """Whether nominal images of these features of wide cells (N, C, h, w) do, as far as can be told."""
    images, _, rows, columns = features.shape
    return can_tell(images, (rows, columns)) and common_share(features) > ENOUGH


def _apart(one: int, other: int, *, columns: int) -> bool:
    """Whether two parts, numbered row by row, do not touch."""
    down, right = abs(one // columns - other // columns), abs(one % columns - other % columns)
    return max(down, right) > 1
