"""A small network that the FCDD objective trains to tell known anomalies from nominal images, on frozen features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.upsampling import ToGrid

DILATIONS = (2, 4)  # of the layers that look around
KERNEL_SIZE = 5  # cells a side of what a cell's surroundings consist of
NEGATIVE_SLOPE = 0.1  # of the leaky units


class DefectBranch(nn.Module):
    """e >= 0 of the extractor's maps, high where they look like known defects.

    The maps are brought to the grid of the anomaly map. In the mean of a finer map's cells both sides of a line cancel
    out, so their range is seen, too.

    Args:
        pyramid: makes the maps.
        maps: of how many, the finest first, it sees.
        hidden: channels between the layers of its classifier.

    Attributes:
        classifier: is trained; see `CellClassifier`.
    """

    logit_centre: Tensor  # the median logit of nominal cells
    logit_scale: Tensor  # the unit of logits

    def __init__(self, pyramid: FeaturePyramid, *, maps: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("logit_centre", torch.tensor(0.0))
        self.register_buffer("logit_scale", torch.tensor(1.0))
        fields, grid = pyramid.fields[:maps], pyramid.field.grid
        self.maps = len(fields)
        self.to_grid = ToGrid(fields, pyramid.field)
        self.sides = [_cells_within(field.grid, grid) for field in fields]
        channels = sum(
            channels * (1 + (side > 1)) for channels, side in zip(pyramid.channels, self.sides, strict=False)
        )
        self.classifier = CellClassifier(channels, hidden=hidden)

    def inputs(self, maps: Sequence[Tensor]) -> Tensor:
        """What the classifier sees of the extractor's maps: (N, C, h, w)."""
        maps = maps[: self.maps]
        ranges = [_range(one, side) for one, side in zip(maps, self.sides, strict=True) if side > 1]
        return torch.cat([*self.to_grid(maps), *ranges], dim=1)

    def standardized_logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (N, h, w) of the extractor's maps, less `logit_centre`, over `logit_scale`."""
        return (self.classifier(self.inputs(maps)) - self.logit_centre) / self.logit_scale

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """e >= 0 (N, h, w) of the extractor's maps: nothing that looks nominal lowers the anomaly map."""
        return self.standardized_logits(maps).clamp(min=0)


class CellClassifier(nn.Module):
    """A few layers that look at a cell and its surroundings: a logit a cell, high where anomalous.

    Args:
        channels: C of the inputs.
        hidden: channels between the layers.
    """

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.first = Standardised(channels, hidden)
        self.layers = nn.Sequential(
            nn.LeakyReLU(NEGATIVE_SLOPE),
            DepthwiseResidualBlock(hidden, DILATIONS[0]),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            DepthwiseResidualBlock(hidden, DILATIONS[1]),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(hidden, 1, 1),
        )

    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation of the inputs from those of nominal images (N, C, h, w)."""
        self.first.standardise_by(nominal)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, h, w) of inputs (N, C, h, w)."""
        logits: Tensor = self.layers(self.first(inputs))
        return logits[:, 0]


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


class DepthwiseResidualBlock(nn.Module):
    """What lies around a cell, channel by channel, mixed and added to what the cell is.

    Args:
        channels: in and out.
        dilation: cells from one to the next of the KERNEL_SIZE x KERNEL_SIZE that are seen.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Dilated(
                channels, channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2 * dilation, dilation=dilation, groups=channels
            ),
            nn.LeakyReLU(NEGATIVE_SLOPE),
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


def _cells_within(fine: tuple[int, int], grid: tuple[int, int]) -> int:
    """How many cells of a fine grid fill the side of one of another; 1 where they do not."""
    side = fine[0] // grid[0]
    return side if side > 1 and fine == (side * grid[0], side * grid[1]) else 1


def _range(fine: Tensor, side: int) -> Tensor:
    """The largest less the smallest of each side x side cells: (N, C, side * h, side * w) to (N, C, h, w)."""
    return F.max_pool2d(fine, side) + F.max_pool2d(-fine, side)
