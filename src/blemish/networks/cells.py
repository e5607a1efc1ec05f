"""A small network on a grid of features: what the FCDD objective trains beside the closed form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (2, 4)  # of the wide layers, 5 x 5 each


class CellNetwork(nn.Module):
    """A small network on a grid of features, trained with the FCDD objective: a logit a cell, high where anomalous.

    Args:
        channels: length C of the feature vectors.
        hidden: channels between its layers.
        wide: whether a cell sees 12 cells far, by depthwise convolutions, or 2 cells, by plain ones.
    """

    mean: Tensor  # (C, 1, 1) of the nominal inputs
    deviation: Tensor  # (C, 1, 1)
    centre: Tensor  # a usual logit of nominal cells
    spread: Tensor  # the unit in which logits are read

    def __init__(self, *, channels: int, hidden: int = 32, wide: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 1)
        around = [
            _Surroundings(hidden, dilation) if wide else nn.Conv2d(hidden, hidden, 3, padding=1)
            for dilation in DILATIONS
        ]
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.1),
            around[0],
            nn.LeakyReLU(0.1),
            around[1],
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, 1, 1),
        )
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))
        self.register_buffer("centre", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))

    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation of the inputs from nominal features (N, C, h, w)."""
        # In float64 and channel by channel: sums over millions of float16 values need the digits, not the memory.
        for channel in range(nominal.shape[1]):
            values = nominal[:, channel].double()
            self.mean[channel] = values.mean()
            self.deviation[channel] = values.std().clamp(min=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) of features (N, C, h, w)."""
        # Dividing by the deviation is part of the first layer, so that the features are gone over once less.
        weight = self.first.weight / self.deviation  # (hidden, C, 1, 1)
        return self.layers(F.conv2d(features - self.mean, weight, self.first.bias))[:, 0]

    def standing(self, features: Tensor) -> Tensor:
        """Logits (N, h, w) above the usual, in units of the spread."""
        return (self(features) - self.centre) / self.spread


class _Surroundings(nn.Module):
    """What lies around a cell, channel by channel, mixed and added to what the cell is.

    Args:
        channels: in and out.
        dilation: cells from one to the next of the 5 x 5 that are seen.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2 * dilation, dilation=dilation, groups=channels),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        return cells + self.layers(cells)
