"""How a model reads images: settings that are the same in training and for every later image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What is fixed for all images of a model.

    Attributes:
        bits: depth of the values in 16-bit images, 8 to 16: a value becomes `value >> (bits - 8)`, at most 255.
        seen: whether the depth is known; False where all training images had 8 bits, so that it is assumed.
    """

    bits: int = 16
    seen: bool = True
