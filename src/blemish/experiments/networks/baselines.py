"""The networks of the paper's baselines, each under the name of the FCDD network it is compared with.

HSC (hypersphere classification) ends in a vector (N, D). The autoencoder has the HSC network as its encoder and
mirrors it in its decoder, with nearest upsampling before transposed convolutions of stride 1. The networks of the
receptive-field study have no baselines.

As in the authors' code, the autoencoder for cnn28-w is that of cnn28: their published figures are of this narrow one.
Unlike there, cnn224-w has baselines: those of cnn224.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import nn

from blemish.experiments.networks.decoders import decoder28, decoder32, decoder32_lw3k, decoder224, decoder_vgg11
from blemish.experiments.networks.fcdd import Builder, choose, untrained
from blemish.experiments.networks.lite0 import HIDDEN, Lite0Features, hidden_layers
from blemish.experiments.networks.vgg import Pretraining, frozen_below, pretrained_embedding, random_embedding
from blemish.networks.cnn_blocks import BATCH_NORM_EPS, activated, overlapping_pool

LITE0_EMBEDDING = 64


def build_hsc(
    name: str, *, weights: Path | None = None, download: bool = False, update_bn_stats: bool = False
) -> nn.Module:
    """The HSC network that goes with an FCDD network: float32 (N, C, H, W) to vectors (N, D).

    The images must have the size that the network was made for: 28, 32 or 224 pixels, as its name says or VGG11's.

    Args:
        name: one of `HSC_NETWORKS`.
        weights: see `blemish.experiments.networks.fcdd.build`, as are the others.
        download: let the weights be fetched where no file is given.
        update_bn_stats: what batch normalisation does in frozen layers.

    Raises:
        BlemishError: an unknown name, or weights that cannot be had or do not fit.
    """
    return choose(HSC_NETWORKS, name)(Pretraining(weights, download, update_bn_stats))


def build_autoencoder(
    name: str, *, weights: Path | None = None, download: bool = False, update_bn_stats: bool = False
) -> nn.Module:
    """The autoencoder that goes with an FCDD network: float32 (N, C, H, W) to its reconstruction (N, C, H, W).

    Those of cnn28 and cnn224 end in a sigmoid, and so want images scaled to 0..1; the others end linear.

    Args:
        name: one of `AUTOENCODERS`.
        weights: see `blemish.experiments.networks.fcdd.build`, as are the others; they are the encoder's.
        download: let the weights be fetched where no file is given.
        update_bn_stats: what batch normalisation does in frozen layers.

    Raises:
        BlemishError: an unknown name, or weights that cannot be had or do not fit.
    """
    return choose(AUTOENCODERS, name)(Pretraining(weights, download, update_bn_stats))


def _hsc28(first: int, second: int) -> nn.Sequential:
    return nn.Sequential(
        *activated(1, first, 5),
        nn.MaxPool2d(2),
        *activated(first, second, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * 7 * 7, 48),
    )


def _hsc32() -> nn.Sequential:
    return nn.Sequential(
        *activated(3, 32, 5),
        nn.MaxPool2d(2),
        *activated(32, 64, 5),
        nn.MaxPool2d(2),
        *activated(64, 128, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *_activated_linear(128 * 4 * 4, 512),
        nn.Linear(512, 64),
    )


def _hsc32_lw3k() -> nn.Sequential:
    return nn.Sequential(
        *activated(3, 128, 3),
        nn.MaxPool2d(2),
        *activated(128, 256, 3),
        *activated(256, 256, 3),
        nn.MaxPool2d(2),
        *activated(256, 128, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *_activated_linear(128 * 4 * 4, 512),
        nn.Linear(512, 64),
    )


def _hsc224() -> nn.Sequential:
    return nn.Sequential(
        *activated(3, 8, 5),
        overlapping_pool(),
        *activated(8, 32, 5),
        overlapping_pool(),
        *activated(32, 64, 3),
        *activated(64, 128, 3),
        overlapping_pool(),
        *activated(128, 128, 3),
        overlapping_pool(),
        *activated(128, 64, 3),
        overlapping_pool(),
        nn.Flatten(),
        *_activated_linear(64 * 7 * 7, 1536),
        nn.Linear(1536, 784),
    )


def _hsc_vgg11_frozen(pretraining: Pretraining) -> nn.Module:
    network = pretrained_embedding(pretraining)
    network.features = frozen_below(network.features, update_bn_stats=pretraining.update_bn_stats)
    return network


def _hsc_lite0_frozen(pretraining: Pretraining) -> nn.Sequential:
    features = Lite0Features(update_bn_stats=pretraining.update_bn_stats)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(features, *hidden_layers(features.channels), *pool, nn.Linear(HIDDEN, LITE0_EMBEDDING))


def _activated_linear(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, eps=BATCH_NORM_EPS), nn.LeakyReLU(inplace=True)


HSC_NETWORKS: Mapping[str, Builder] = {
    "cnn28": untrained(partial(_hsc28, 8, 4)),
    "cnn28-w": untrained(partial(_hsc28, 128, 64)),
    "cnn32-lw3k": untrained(_hsc32_lw3k),
    "cnn32": untrained(_hsc32),
    "cnn32-s": untrained(_hsc32),
    "cnn224": untrained(_hsc224),
    "cnn224-w": untrained(_hsc224),
    "vgg11": pretrained_embedding,
    "vgg11-f": _hsc_vgg11_frozen,
    "vgg11-nopt": untrained(random_embedding),
    "lite0-f": _hsc_lite0_frozen,
}


def _autoencoder(encoder: str, decoder: Callable[[], nn.Module]) -> Builder:
    return lambda pretraining: nn.Sequential(HSC_NETWORKS[encoder](pretraining), decoder())


AUTOENCODERS: Mapping[str, Builder] = {
    "cnn28": _autoencoder("cnn28", decoder28),
    "cnn28-w": _autoencoder("cnn28", decoder28),
    "cnn32-lw3k": _autoencoder("cnn32-lw3k", decoder32_lw3k),
    "cnn32": _autoencoder("cnn32", decoder32),
    "cnn32-s": _autoencoder("cnn32-s", decoder32),
    "cnn224": _autoencoder("cnn224", decoder224),
    "cnn224-w": _autoencoder("cnn224-w", decoder224),
    "vgg11": _autoencoder("vgg11", decoder_vgg11),
    "vgg11-f": _autoencoder("vgg11-f", decoder_vgg11),
    "vgg11-nopt": _autoencoder("vgg11-nopt", decoder_vgg11),
    # Frozen features of another task have lost what a decoder needs, so that this one is trained from random weights.
    "lite0-f": _autoencoder("cnn224", decoder224),
}
