"""Defect transplants: the defect of one image, cut out by its mask and pasted into another where it fits."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from blemish.synthetic import Synthetic, require_rgb
from blemish.synthetic.augment import Pose


def transplant(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    target: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    pose: Pose,
    margin: int,
    ring: int,
    feather: float,
    places: int,
) -> Synthetic | None:
    """Sets the defect of `image` into `target`, turned as the pose says.

    Of several random places it goes where its surroundings look most like the target's, and takes on the target's
    brightness there, so that neither place nor seam shows that it was moved.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W), true on the defect.
        target: uint8 (H, W, 3), a nominal image.
        rng: decides the places.
        pose: of the defect.
        margin: pixels around the mask that come along.
        ring: pixels around those whose agreement decides where the defect fits.
        feather: standard deviation of the seam in pixels.
        places: how many places are tried.

    Returns:
        The target with the defect, and its mask; None where the turned defect left the image or fills all of it.

    Raises:
        ValueError: shapes that disagree.
    """
    require_rgb(image)
    if image.shape != target.shape or mask.shape != image.shape[:2]:
        raise ValueError(f"image {image.shape}, mask {mask.shape} and target {target.shape} must have one size")
    turned, core = pose.apply(image), pose.apply_to_mask(mask)
    if not core.any():
        return None
    window = _window(core, margin + ring + 1)
    content, core = turned[window].astype(np.float32), core[window]
    cut = binary_dilation(core, iterations=margin)
    around = binary_dilation(cut, iterations=ring) & ~cut
    place = _best_place(content, around, target, rng, places)
    if place is None:
        return None
    under = target[place].astype(np.float32)
    alpha = gaussian_filter(cut.astype(np.float32), feather, mode="constant")[..., None]
    matched = content + (under[around].mean(0) - content[around].mean(0))
    result, result_mask = target.copy(), np.zeros(mask.shape, dtype=bool)
    result[place] = np.rint((under + alpha * (matched - under)).clip(0, 255))
    result_mask[place] = core
    return Synthetic(image=result, mask=result_mask)


def _window(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns of the mask's box and a margin, cut at the border."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), min(mask.shape[0], rows[-1] + 1 + margin)),
        slice(max(0, columns[0] - margin), min(mask.shape[1], columns[-1] + 1 + margin)),
    )


def _best_place(
    content: NDArray[np.float32],
    ring: NDArray[np.bool_],
    target: NDArray[np.uint8],
    rng: np.random.Generator,
    tries: int,
) -> tuple[slice, slice] | None:
    """The place (rows, columns) in the target whose pixels under the ring differ least from the content's."""
    if not ring.any():
        return None  # the defect fills its window: there is nothing to fit it by
    height, width = ring.shape
    wanted = content[ring]
    places = []
    for _ in range(tries):
        top = int(rng.integers(target.shape[0] - height + 1))
        left = int(rng.integers(target.shape[1] - width + 1))
        place = slice(top, top + height), slice(left, left + width)
        places.append((float(np.abs(target[place][ring] - wanted).mean()), top, left, place))
    return min(places)[-1]
