"""The fully convolutional networks of the FCDD paper (Liznerski et al. 2021, appendix), by name.

Every one maps images (N, C, H, W) to phi (N, 1, u, v), and A = sqrt(phi^2 + 1) - 1 is the anomaly map. The last layer
is a 1 x 1 convolution to one channel, whose bias is the centre of the hypersphere. Weights are PyTorch's random ones,
but for VGG11 with ImageNet's.

| data | network | input | grid | parameters |
|---|---|---|---|---|
| Fashion-MNIST | cnn28-w | 1 x 28 x 28 | 7 x 7 | 413,441 |
| CIFAR-10 | cnn32-lw3k | 3 x 32 x 32 | 8 x 8 | 1,185,281 |
| ImageNet-30, Pascal VOC | vgg11-nopt | 3 x 224 x 224 | 28 x 28 | 4,504,833 |
| MVTec AD | vgg11-f | 3 x 224 x 224 | 28 x 28 | 4,504,833, of which 3,542,529 trained |

The authors' cnn32-lw3k counts 1,185,537: it defines a batch normalisation of 256 parameters that is never used.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import nn

from blemish.errors import BlemishError
from blemish.experiments.networks.blocks import activated, conv, overlapping_pool
from blemish.experiments.networks.lite0 import Lite0
from blemish.experiments.networks.vgg import Pretraining, frozen_below, pretrained_trunk, random_trunk
from blemish.networks.receptive_field import ReceptiveField, receptive_fields

Builder = Callable[[Pretraining], nn.Module]


def build(
    name: str, *, weights: Path | None = None, download: bool = False, update_bn_stats: bool = False
) -> nn.Module:
    """A network of the paper, or of this package in its place: float32 (N, C, H, W) to phi (N, 1, u, v).

    Args:
        name: one of `NETWORKS`.
        weights: a file of torchvision's ImageNet weights, for vgg11 and vgg11-f; the others do without.
        download: let those weights be fetched where no file is given.
        update_bn_stats: whether batch normalisation in frozen layers follows the training images, as in the authors'
            code, or keeps its pretrained statistics. Only vgg11-f and lite0-f have frozen layers.

    Raises:
        BlemishError: an unknown name, or weights that cannot be had or do not fit.
    """
    return choose(NETWORKS, name)(Pretraining(weights, download, update_bn_stats))


def field(network: nn.Module, size: tuple[int, int]) -> ReceptiveField:
    """The receptive field of the cells of phi, for images of `size` = (height, width)."""
    if isinstance(network, Lite0):
        return network.field(size)
    (phi,) = receptive_fields(network, size)
    return phi


def choose(builders: Mapping[str, Builder], name: str) -> Builder:
    """The builder of that name.

    Raises:
        BlemishError: there is none.
    """
    if name not in builders:
        raise BlemishError(f"there is no network {name!r} here: choose one of {', '.join(builders)}")
    return builders[name]


def _cnn28(first: int, second: int) -> nn.Sequential:
    return nn.Sequential(
        *activated(1, first, 5),
        nn.MaxPool2d(2),
        conv(first, second, 5),
        nn.MaxPool2d(2),
        conv(second, 1, 1),
    )


def _cnn32_lw3k() -> nn.Sequential:
    return nn.Sequential(
        *activated(3, 128, 3),
        nn.MaxPool2d(2),
        *activated(128, 256, 3),
        *activated(256, 256, 3),
        nn.MaxPool2d(2),
        conv(256, 128, 3),
        conv(128, 1, 1),
    )


def _cnn32(widths: tuple[int, int, int], kernels: tuple[int, int, int]) -> nn.Sequential:
    first, second, third = widths
    return nn.Sequential(
        *activated(3, first, kernels[0]),
        nn.MaxPool2d(2),
        *activated(first, second, kernels[1]),
        nn.MaxPool2d(2),
        conv(second, third, kernels[2]),
        conv(third, 1, 1),
    )


def _cnn224(widths: tuple[int, int, int, int, int], kernels: tuple[int, int, int, int, int]) -> nn.Sequential:
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
        conv(fifth, 1, 1),
    )


def _with_phi(trunk: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(trunk, conv(512, 1, 1))


def _vgg11(pretraining: Pretraining) -> nn.Sequential:
    return _with_phi(pretrained_trunk(pretraining))


def _vgg11_frozen(pretraining: Pretraining) -> nn.Sequential:
    trunk = pretrained_trunk(pretraining)
    return _with_phi(frozen_below(trunk, update_bn_stats=pretraining.update_bn_stats))


def _lite0_frozen(pretraining: Pretraining) -> Lite0:
    return Lite0(update_bn_stats=pretraining.update_bn_stats)


def untrained(network: Callable[[], nn.Module]) -> Builder:
    """The builder of a network that starts from random weights and so needs no others."""
    return lambda _: network()


NETWORKS: Mapping[str, Builder] = {
    "cnn28": untrained(partial(_cnn28, 8, 16)),
    "cnn28-w": untrained(partial(_cnn28, 128, 128)),
    "cnn32-lw3k": untrained(_cnn32_lw3k),
    "cnn32": untrained(partial(_cnn32, (32, 64, 128), (5, 5, 5))),
    "cnn32-s": untrained(partial(_cnn32, (32, 64, 128), (3, 3, 3))),
    "cnn224": untrained(partial(_cnn224, (8, 32, 64, 128, 128), (5, 5, 3, 3, 3))),
    "cnn224-w": untrained(partial(_cnn224, (32, 128, 256, 256, 128), (5, 5, 3, 3, 3))),
    "vgg11": _vgg11,
    "vgg11-f": _vgg11_frozen,
    "vgg11-nopt": untrained(lambda: _with_phi(random_trunk())),
    "lite0-f": _lite0_frozen,
    # The study of receptive fields ("vark": a kernel that varies): the first layer's kernel, or that of all.
    **{f"vark32-{k}": untrained(partial(_cnn32, (128, 256, 128), (k, 3, 3))) for k in range(3, 19, 2)},
    **{f"vark224-{k}": untrained(partial(_cnn224, (32, 128, 256, 256, 128), (k, k, k, k, k))) for k in range(3, 15, 2)},
}
