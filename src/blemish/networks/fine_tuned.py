"""Evidence that has the backbone's last stages for itself and fine-tunes them on the labelled defects.

The closed form keeps the stages as they came, so that what it knows of good images, and of defects that no label
shows, is not touched.
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.networks.cells import SLOPE, LogitNetwork, Standardised, Surroundings
from blemish.networks.features import FeatureGrid

DILATIONS = (1, 2)  # on the deep grid, which is twice as coarse: as many pixels as `CellNetwork` sees
BATCH = 32  # images a pass, to standardise


class FineTuned(LogitNetwork):
    """A logit a cell from the shallow features of the grid, as they are, and from stages that learn.

    Batch normalisation keeps the statistics it came with: a few defects have none worth having.

    Args:
        stages: make a deeper map out of the backbone's map at the grid's stride; they are trained.
        enlarge: brings the deeper map to the grid.
        shallow: the grid's first channels, which the network sees.
        middle: channels of the map that the stages take.
        deep: channels of the map that they make.
        place: of the map that the stages take, among the backbone's.
        hidden: channels between its layers.
    """

    batch = 8  # as many images in all as others learn from, in twice as many steps

    def __init__(
        self, stages: nn.Module, *, enlarge: nn.Module, shallow: int, middle: int, deep: int, place: int, hidden: int
    ) -> None:
        super().__init__()
        self.place = place
        self.channels = (shallow, middle)
        self.stages = stages
        self.deep = Standardised(deep, hidden)
        self.around = nn.ModuleList(Surroundings(hidden, dilation) for dilation in DILATIONS)
        self.enlarge = enlarge
        self.shallow = Standardised(shallow, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 1, 1)

    @classmethod
    def of(cls, features: FeatureGrid, *, hidden: int) -> Self | None:
        """With a copy of the stages behind the grid's stride; None where the backbone cannot be cut there.

        The copy does without the last of several residual blocks: it is a fifth of the time, and what fine-tuning is
        worth is hardly less without it.
        """
        backbone, place = features.backbone, features.backbone.strides.index(features.stride)
        stages = backbone.behind(features.stride)
        if not stages:
            return None
        if isinstance(stages[-1], nn.Sequential) and len(stages[-1]) > 1:
            stages[-1] = stages[-1][:-1]
        return cls(
            stages,
            enlarge=features.resamples[-1],
            shallow=sum(backbone.channels[: place + 1]),
            middle=backbone.channels[place],
            deep=backbone.channels[-1],
            place=place,
            hidden=hidden,
        )

    def sees(self, grid: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The grid's shallow channels, then the backbone's map: (N, shallow + middle, h, w)."""
        if not maps:
            raise ValueError("stages that are fine-tuned need the backbone's maps: see FeatureGrid.with_maps")
        return torch.cat([grid[:, : self.channels[0]], maps[self.place]], dim=1)

    @torch.no_grad()
    def standardise_by(self, nominal: Tensor) -> None:
        """Takes mean and deviation of shallow and deep features from what is seen of nominal images."""
        shallow, middle = nominal.split(self.channels, dim=1)
        self.shallow.standardise_by(shallow)
        batches = (some.to(self.last.weight) for some in middle.split(BATCH))
        self.deep.standardise_by(torch.cat([self.stages(some).half() for some in batches]))

    def forward(self, seen: Tensor) -> Tensor:
        """Logits (N, h, w) of what `sees` gives."""
        shallow, middle = seen.split(self.channels, dim=1)
        deep = F.leaky_relu(self.deep(self.stages(middle)), SLOPE)
        for layer in self.around:
            deep = F.leaky_relu(layer(deep), SLOPE)
        cells = F.leaky_relu(self.shallow(shallow) + self.enlarge(deep), SLOPE)
        cells = F.leaky_relu(cells + self.mix(cells), SLOPE)
        return self.last(cells)[:, 0]

    def train(self, mode: bool = True) -> Self:
        """As of every module, but for the stages' batch normalisation."""
        super().train(mode)
        self.stages.eval()
        return self
