"""The small convolutional networks of the FCDD paper (Liznerski et al. 2021), which start from random weights.

Each maps images to features (N, C, u, v); a 1 x 1 convolution above them gives phi, see `networks.fcdd_head`. In the
study of receptive fields ("vark": a kernel that varies) the number is the side of the first kernel, or of all kernels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.networks.cnn_blocks import activated, conv, overlapping_pool
from blemish.networks.extractor import STRIDES, FeatureExtractor, Size
from blemish.networks.receptive_field import ReceptiveField, receptive_fields


def cnn28(first: int, second: int) -> nn.Sequential:
    """For Fashion-MNIST: grey images (N, 1, H, W) to (N, second, H / 4, W / 4)."""
    return nn.Sequential(*activated(1, first, 5), nn.MaxPool2d(2), conv(first, second, 5), nn.MaxPool2d(2))


def cnn32_lw3k() -> nn.Sequential:
    """For CIFAR-10, wide: (N, 3, H, W) to (N, 128, H / 4, W / 4)."""
    return nn.Sequential(
        *activated(3, 128, 3),
        nn.MaxPool2d(2),
        *activated(128, 256, 3),
        *activated(256, 256, 3),
        nn.MaxPool2d(2),
        conv(256, 128, 3),
    )


def cnn32(widths: tuple[int, int, int], kernels: tuple[int, int, int]) -> nn.Sequential:
    """For CIFAR-10: (N, 3, H, W) to (N, widths[2], H / 4, W / 4)."""
    first, second, third = widths
    return nn.Sequential(
        *activated(3, first, kernels[0]),
        nn.MaxPool2d(2),
        *activated(first, second, kernels[1]),
        nn.MaxPool2d(2),
        conv(second, third, kernels[2]),
    )


def cnn224(widths: tuple[int, int, int, int, int], kernels: tuple[int, int, int, int, int]) -> nn.Sequential:
    """For photographs: (N, 3, H, W) to (N, widths[4], H / 8, W / 8)."""
    first, second, third, fourth, fifth = widths
    return nn.Sequential(
        *activated(3, first, kernels[0]),
        overlapping_pool(),
        *activated(first, second, kernels[1]),
        overlapping_pool(),
        *activated(second, third, kernels[2]),
        *activated(third, fourth, kernels[3]),
        overlapping_pool(),
        conv(fourth, fifth, kernels[4]),
    )


TRUNKS: Mapping[str, Callable[[], nn.Sequential]] = {
    "cnn28": partial(cnn28, 8, 16),
    "cnn28-w": partial(cnn28, 128, 128),
    "cnn32-lw3k": cnn32_lw3k,
    "cnn32": partial(cnn32, (32, 64, 128), (5, 5, 5)),
    "cnn32-s": partial(cnn32, (32, 64, 128), (3, 3, 3)),
    "cnn224": partial(cnn224, (8, 32, 64, 128, 128), (5, 5, 3, 3, 3)),
    "cnn224-w": partial(cnn224, (32, 128, 256, 256, 128), (5, 5, 3, 3, 3)),
    **{f"vark32-{k}": partial(cnn32, (128, 256, 128), (k, 3, 3)) for k in range(3, 19, 2)},
    **{f"vark224-{k}": partial(cnn224, (32, 128, 256, 256, 128), (k, k, k, k, k)) for k in range(3, 15, 2)},
}


class PaperCNN(FeatureExtractor):
    """One of `TRUNKS` as a feature extractor with one map, of images of any size.

    Grey levels become -1..1. Networks for grey images take the mean of the colours.

    Args:
        name: a key of `TRUNKS`.
        strides: does not count: a network has its own.
        weights, download: are refused: there are none.
        pretrained: does not count either.

    Raises:
        BlemishError: weights are asked for.
    """

    pretrained: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...] = STRIDES,
        weights: str | Path | None = None,
        download: bool = False,
        pretrained: bool = True,
    ) -> None:
        super().__init__(name)
        if weights is not None or download:
            raise BlemishError(f"{name} starts from random weights: leave out weights and download")
        self.name = name
        self.trunk = TRUNKS[name]()
        convolutions = [layer for layer in self.trunk if isinstance(layer, nn.Conv2d)]
        self.grey = convolutions[0].in_channels == 1
        self.channels = (convolutions[-1].out_channels,)
        self.multiple = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.trunk)
        self.strides = (self.multiple,)

    @classmethod
    def handles(cls, name: str) -> bool:
        """Whether it is a key of `TRUNKS`."""
        return name in TRUNKS

    @classmethod
    def similar(cls, name: str) -> list[str]:
        """Those that begin alike."""
        return [one for one in TRUNKS if one[:3] == name[:3]][:5]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """One map (N, C, H / stride, W / stride) of float pixels (N, 3, H, W) in 0..255."""
        levels = pixels / 127.5 - 1
        return [self.trunk(levels.mean(1, keepdim=True) if self.grey else levels)]

    def fields(self, size: Size) -> list[ReceptiveField]:
        """The tiles of the map's cells."""
        return [field.tiles() for field in receptive_fields(self.trunk, size)]
