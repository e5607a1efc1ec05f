"""The decoders of the baseline autoencoders: from the encoder's vector back to the image.

Each goes through its encoder's layers backwards, with nearest upsampling where that pools.
"""

from itertools import pairwise

from torch import nn

from blemish.networks.cnn_blocks import BATCH_NORM_EPS


def decoder28() -> nn.Sequential:
    """Vectors (N, 48) to (N, 1, 28, 28) in 0..1."""
    return nn.Sequential(
        nn.Unflatten(1, (3, 4, 4)),
        nn.LeakyReLU(inplace=True),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(3, 4, 5),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(4, 8, 5, padding=3),  # 16 pixels to 14
        nn.Upsample(scale_factor=2),
        _deconv(8, 1, 5),
        nn.Sigmoid(),
    )


def decoder32() -> nn.Sequential:
    """Vectors (N, 64) to (N, 3, 32, 32)."""
    return nn.Sequential(
        *_unflattened(4, 4),
        *_activated_deconv(4, 128, 5),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(128, 64, 5),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(64, 32, 5),
        nn.Upsample(scale_factor=2),
        _deconv(32, 3, 5),
    )


def decoder32_lw3k() -> nn.Sequential:
    """Vectors (N, 64) to (N, 3, 32, 32), as wide as cnn32-lw3k."""
    return nn.Sequential(
        *_unflattened(4, 4),
        *_activated_deconv(4, 128, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(128, 256, 3),
        *_activated_deconv(256, 256, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(256, 128, 3),
        nn.Upsample(scale_factor=2),
        _deconv(128, 3, 3),
    )


def decoder224() -> nn.Sequential:
    """Vectors (N, 784) to (N, 3, 224, 224) in 0..1."""
    return nn.Sequential(
        *_unflattened(16, 7),
        *_activated_deconv(16, 64, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(64, 128, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(128, 128, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(128, 64, 3),
        *_activated_deconv(64, 32, 3),
        nn.Upsample(scale_factor=2),
        *_activated_deconv(32, 8, 5),
        nn.Upsample(scale_factor=2),
        _deconv(8, 3, 5),
        nn.Sigmoid(),
    )


def decoder_vgg11() -> nn.Sequential:
    """Vectors (N, 4096) to (N, 3, 224, 224), VGG11 turned round."""
    blocks: list[nn.Module] = []
    for widths in ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64)):
        blocks.append(nn.Upsample(scale_factor=2))
        for inputs, outputs in pairwise(widths):
            blocks += [_deconv(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(
        nn.BatchNorm1d(4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 512 * 7 * 7),
        nn.BatchNorm1d(512 * 7 * 7),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, (512, 7, 7)),
        *blocks,
        nn.Upsample(scale_factor=2),
        _deconv(64, 3, 3),
    )


def _unflattened(channels: int, side: int) -> tuple[nn.Module, ...]:
    return (
        nn.BatchNorm1d(channels * side * side, eps=BATCH_NORM_EPS),
        nn.Unflatten(1, (channels, side, side)),
        nn.LeakyReLU(inplace=True),
    )


def _deconv(inputs: int, outputs: int, kernel: int, *, padding: int | None = None) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel, padding=kernel // 2 if padding is None else padding)


def _activated_deconv(inputs: int, outputs: int, kernel: int, *, padding: int | None = None) -> tuple[nn.Module, ...]:
    norm = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
    return _deconv(inputs, outputs, kernel, padding=padding), norm, nn.LeakyReLU(inplace=True)
