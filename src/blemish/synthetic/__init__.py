"""Artificial anomalies and outlier photographs for training: numpy, scipy and Pillow only, no torch.

`confetti` is the paper's anomaly, `perlin` is DRAEM's, and `registry` finds them by name. `augment` and
`defect_transplant` make more of labelled defects. `outlier_exposure` samples a folder of unrelated images. Every random
function takes a `numpy.random.Generator`, so a seed fixes it all.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Synthetic:
    """An artificial anomaly: `image` uint8 (H, W, 3) and `mask` bool (H, W), true where it was changed."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    @classmethod
    def from_change(cls, original: NDArray[np.uint8], image: NDArray[np.uint8]) -> Self:
        """Pair `image` with the mask of the pixels that differ from `original` in any channel."""
        return cls(image=image, mask=(image != original).any(axis=2))


def require_rgb(image: NDArray[np.uint8]) -> None:
    """Raise ValueError unless `image` is uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an RGB image, uint8 (H, W, 3), but got {image.dtype} {image.shape}")


def unchanged(image: NDArray[np.uint8], rng: np.random.Generator) -> Synthetic:
    """No anomaly at all: the synthetic anomaly "none"."""
    return Synthetic(image, np.zeros(image.shape[:2], dtype=bool))
