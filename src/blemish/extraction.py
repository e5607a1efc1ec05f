"""How training looks at images: features of uint8 pixels, on the training's device, alone or dealt to all ranks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from blemish.networks.features import FeatureGrid
from blemish.networks.interest import Interest
from blemish.ranks import Extract, Ranks

CACHED = 4  # images whose maps a processor keeps in its cache: more at a time take it nearly twice as long

See = Callable[[Tensor], Tensor]  # uint8 pixels (N, H, W, 3) to what is seen of each, (N, ...)
WithMaps = Callable[[npt.NDArray[np.uint8]], tuple[Tensor, Sequence[Tensor]]]  # as `FeatureGrid.with_maps`


@dataclass(frozen=True)
class Extraction:
    """What every look at an image has in common.

    Attributes:
        fabric: device and precision.
        ranks: the processes of the training.
        interest: what is to be blind to a part of every image, on the device.
    """

    fabric: Fabric
    ranks: Ranks
    interest: Interest | None = None

    def alone(self, see: See) -> Extract:
        """Images (N, H, W, 3) to what this process sees in them, float32 on the device."""

        def extract(images: npt.NDArray[np.uint8]) -> Tensor:
            few = CACHED if self.fabric.device.type == "cpu" else len(images)
            made = []
            with torch.inference_mode(), self.fabric.autocast():
                for some in torch.from_numpy(np.array(images)).split(few):
                    on_device = self.fabric.to_device(some)
                    made.append(see(self.interest.blind(on_device) if self.interest else on_device))
            return torch.cat(made)

        return extract

    def together(self, see: See) -> Extract:
        """The same, each call's images dealt to the ranks."""
        return self.ranks.together(self.alone(see))

    def with_maps(self, features: FeatureGrid) -> WithMaps:
        """The features of a grid and the backbone's own maps, together."""
        backbone = features.backbone
        shapes = [(features.channels, *features.grid)]
        shapes += [(channels, *field.grid) for channels, field in zip(backbone.channels, features.fields, strict=True)]

        def in_one(pixels: Tensor) -> Tensor:  # (N, numbers), which ranks can share
            grid, maps = features.with_maps(pixels)
            return torch.cat([one.flatten(1) for one in (grid, *maps)], dim=1)

        extract = self.together(in_one)

        def apart(images: npt.NDArray[np.uint8]) -> tuple[Tensor, Sequence[Tensor]]:
            parts = extract(images).split([math.prod(shape) for shape in shapes], dim=1)
            grid, *maps = (part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
            return grid, maps

        return apart
