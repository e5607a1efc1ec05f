"""The network size for a set of images: their own aspect ratio, and as many pixels as a square of 256.

A whole image is resized to network size. In a square, a long narrow image is squashed: details along its long side are
lost, and rotated parts no longer look alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

SIDE = 256  # of a square: the network has as many pixels, whatever its shape
MULTIPLE = 32  # keeps every depth's grid whole and the head's blocks even
MIN_SIDE = 64  # pixels along a side: below, stride 32 has less than two cells along it
MIDDLE = (0.1, 0.9)  # quantiles of the images' shapes between which the network's is chosen
MAX_SAME_SHAPE = 1.1  # shapes whose ratios of height to width differ by no more than this factor count as one
MAX_ALIKE = 0.9  # share of images of one shape for all to be called so
DISTORTED = 1.2  # stretched by more than this factor, images are said to be; rounding stretches by 1.17 at most
UNDISTORTED = 0.02  # a pixel that is square but for so much counts as square

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class Shape:
    """The shape that a set of images has.

    Attributes:
        ratio: the height over the width of a network for them.
        ratios: those of each image.
    """

    ratio: float = 1.0
    ratios: tuple[float, ...] = ()

    @classmethod
    def of(cls, sizes: Sequence[Size]) -> "Shape":
        """Of images of these sizes (height, width).

        Images of one shape have that one. Of several, the one nearest to a square is taken that lies within the middle
        four fifths of them: a few odd images change nothing, and where some are upright and others lie, none of the two
        is squashed for the other.
        """
        if not sizes:
            return cls()
        ratios = [height / width for height, width in sizes]
        # Those of single images, not between two, so that images of one shape have exactly that shape.
        low, high = np.quantile(ratios, MIDDLE, method="inverted_cdf")
        return cls(float(np.clip(1.0, low, high)), tuple(ratios))

    @property
    def is_one(self) -> bool:
        """Whether nearly all images have it."""
        alike = sum(_factor(ratio, self.ratio) <= MAX_SAME_SHAPE for ratio in self.ratios)
        return alike >= MAX_ALIKE * len(self.ratios)

    def network_size(self, multiple: int = MULTIPLE) -> Size:
        """The size (height, width) in multiples of 32, 64 at least, that comes nearest to the ratio and to 256 x 256.

        Rounding that distorts counts twice as much as that which makes the network larger or smaller. Networks that
        take no multiples of 32 have multiples of `multiple` instead.
        """
        step = multiple if MULTIPLE % multiple else MULTIPLE
        sides = range(-(-MIN_SIDE // step) * step, SIDE**2 // MIN_SIDE + 1, step)
        return min(product(sides, sides), key=self._misfit)

    def pixel_aspect(self, size: Size) -> float:
        """How high a pixel of these images at network size is, over how wide; 1 where they are of several shapes."""
        aspect = self.ratio * size[1] / size[0]
        return aspect if self.is_one and abs(math.log(aspect)) > UNDISTORTED else 1.0

    def remark(self, size: Size) -> str | None:
        """In a sentence, which images a network of that size distorts, and what helps; None where it distorts none."""
        height, width = size
        distorted = sum(_factor(ratio, height / width) > DISTORTED for ratio in self.ratios)
        if not distorted:
            return None
        if not self.is_one:
            return (
                f"images have several shapes, {_shape(min(self.ratios))} to {_shape(max(self.ratios))} (height : "
                f"width), and all are brought to {height} x {width}: {distorted:,} of {len(self.ratios):,} are "
                "distorted; a model for each shape sees them as they are"
            )
        best = self.network_size()
        if _factor(self.ratio, height / width) <= DISTORTED:
            what = f"{distorted:,} of {len(self.ratios):,} images have another shape and are"
            return f"{what} distorted to {height} x {width}: crop them alike"
        what = f"images are {_shape(self.ratio)} (height : width) and are squashed to {height} x {width}"
        if _factor(self.ratio, best[0] / best[1]) > DISTORTED:
            return f"{what}: cut such long ones into pieces"
        return f"{what}: a size of {best[0]}x{best[1]} keeps their shape"

    def _misfit(self, size: Size) -> tuple[float, float, int]:
        height, width = size
        shape, pixels = math.log(height / width / self.ratio), math.log(height * width / SIDE**2)
        return round(2 * shape**2 + pixels**2, 9), round(abs(shape), 9), height * width


def other_shape(size: Size, ratio: float) -> str | None:
    """In words, that an image (height, width) is of another shape than the images learned from; None where it is not.

    `ratio` is theirs, height over width.
    """
    own = size[0] / size[1]
    if _factor(own, ratio) <= DISTORTED:
        return None
    return (
        f"its shape is {_shape(own)} (height : width), that of the images that the model was trained on "
        f"{_shape(ratio)}: it is distorted, and the promised false-alarm rate does not hold for it"
    )


def _factor(one: float, other: float) -> float:
    """How many times larger the larger of two ratios is."""
    return max(one / other, other / one)


def _shape(ratio: float) -> str:
    """Such as "1 : 1.78", "16 : 1" or "1 : 5,000"."""
    longer = max(ratio, 1 / ratio)
    words = f"{longer:,.0f}" if longer >= 100 else f"{longer:.3g}"
    return f"{words} : 1" if ratio >= 1 else f"1 : {words}"
