"""The layers of which the paper's small networks are made."""

from torch import nn

BATCH_NORM_EPS = 1e-4  # of the small networks; VGG11 has PyTorch's 1e-5


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def activated(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    """Convolution, batch normalisation, leaky ReLU: the block of the small networks."""
    return conv(inputs, outputs, kernel), nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS), nn.LeakyReLU(inplace=True)


def overlapping_pool() -> nn.MaxPool2d:
    """The halving pool of the small 224-pixel networks."""
    return nn.MaxPool2d(3, stride=2, padding=1)
