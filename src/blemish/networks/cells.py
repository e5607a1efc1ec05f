"""Small networks on a grid of features: what the FCDD objective trains beside the closed form."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (2, 4)  # of the layers that look around
SEEN = 5  # cells a side of what a cell's surroundings consist of
SLOPE = 0.1  # of the leaky units


class CellNetwork(nn.Module):
    """A few layers on features that stay as they are: a logit a cell, high where anomalous, and how it is read.

    It is trained with the FCDD objective.

    Args:
        channels: length C of the feature vectors.
        hidden: channels between its layers.
        wide: whether a cell sees 12 cells far, by depthwise convolutions, or 2 cells, by plain ones.
    """

    centre: Tensor  # a usual logit of nominal cells
    spread: Tensor  # the unit in which logits are read

    def __init__(self, *, channels: int, hidden: int = 32, wide: bool = False) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))
        self.first = Standardised(channels, hidden)
        around = [
            Surroundings(hidden, dilation) if wide else nn.Conv2d(hidden, hidden, 3, padding=1)
            for dilation in DILATIONS
        ]
        self.layers = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            around[0],
            nn.LeakyReLU(SLOPE),
            around[1],
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(hidden, 1, 1),
        )

    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation of the inputs from nominal features (N, C, h, w)."""
        self.first.standardise_by(nominal)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) of features (N, C, h, w)."""
        return self.layers(self.first(features))[:, 0]

    def sees(self, grid: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Its inputs (N, C, h, w), out of what `FeatureGrid.with_maps` makes of images."""
        return grid

    def standing(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) above the usual, in units of the spread."""
        return (self(features) - self.centre) / self.spread


class Standardised(nn.Module):
    """A 1 x 1 convolution of features that are brought to mean 0 and deviation 1 before.

    Args:
        channels: in.
        hidden: out.
    """

    mean: Tensor  # (C, 1, 1) of the nominal inputs
    deviation: Tensor  # (C, 1, 1)

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, hidden, 1)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation from nominal features (N, C, h, w)."""
        # In float64 and channel by channel: sums over millions of float16 values need the digits, not the memory.
        for channel in range(nominal.shape[1]):
            values = nominal[:, channel].double()
            self.mean[channel] = values.mean()
            self.deviation[channel] = values.std().clamp(min=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to (N, hidden, h, w)."""
        # Dividing by the deviation is part of the layer, so that the features are gone over once less.
        weight = self.layer.weight / self.deviation  # (hidden, C, 1, 1)
        return F.conv2d(features - self.mean, weight, self.layer.bias)


class Surroundings(nn.Module):
    """What lies around a cell, channel by channel, mixed and added to what the cell is.

    Args:
        channels: in and out.
        dilation: cells from one to the next of the SEEN x SEEN that are seen.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Dilated(channels, channels, SEEN, padding=SEEN // 2 * dilation, dilation=dilation, groups=channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        return cells + self.layers(cells)


class Dilated(nn.Conv2d):
    """A convolution over cells d apart, as the d x d ordinary ones over every d-th cell while it learns.

    That is the same, and processors without AVX-512 learn more than twice as fast by it. Where d does not divide
    the sides of a map it learns as it scores.
    """

    def forward(self, cells: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        apart = self.dilation[0]
        rows, columns = cells.shape[-2:]
        if not self.training or rows % apart or columns % apart:
            return super().forward(cells)
        # The channels of a cell are taken along as they lie, side by side in memory.
        every = cells.permute(0, 2, 3, 1).unflatten(2, (-1, apart)).unflatten(1, (-1, apart))  # (N, h/d, d, w/d, d, C)
        every = every.permute(2, 4, 0, 1, 3, 5)  # (d, d, N, h/d, w/d, C)
        seen = F.conv2d(
            every.flatten(0, 2).permute(0, 3, 1, 2),
            self.weight,
            self.bias,
            padding=self.kernel_size[0] // 2,
            groups=self.groups,
        )
        back = seen.permute(0, 2, 3, 1).unflatten(0, every.shape[:3]).permute(2, 3, 0, 4, 1, 5)
        return back.reshape(len(cells), rows, columns, -1).permute(0, 3, 1, 2)
