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
from blemish.experiments.networks.lite0 import Lite0
from blemish.experiments.networks.vgg import Pretraining, frozen_below, pretrained_trunk, random_trunk
from blemish.networks.cnn_blocks import conv
from blemish.networks.paper_cnn import TRUNKS
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


def _with_phi(trunk: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(trunk, conv(512, 1, 1))


def _small(trunk: Callable[[], nn.Sequential]) -> nn.Sequential:
    layers = list(trunk())
    channels = next(layer.out_channels for layer in reversed(layers) if isinstance(layer, nn.Conv2d))
    return nn.Sequential(*layers, conv(channels, 1, 1))


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
    **{name: untrained(partial(_small, trunk)) for name, trunk in TRUNKS.items()},
    "vgg11": _vgg11,
    "vgg11-f": _vgg11_frozen,
    "vgg11-nopt": untrained(lambda: _with_phi(random_trunk())),
    "lite0-f": _lite0_frozen,
}
