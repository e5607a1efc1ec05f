"""How training looks at images: a backbone's maps of uint8 pixels, on the training's device, by one process or all."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.input_mask import InputMask
from blemish.training.distributed import ProcessGroup

BATCH = 16  # images
CACHED = 4  # images whose maps a processor keeps in its cache: more at a time take it nearly twice as long

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)


@dataclass(frozen=True)
class FeatureExtraction:
    """How images are looked at.

    Attributes:
        features: the backbone.
        fabric: device and precision.
        processes: the processes of the training.
        input_mask: what is to be blind to a part of every image, on the device.
    """

    features: FeaturePyramid
    fabric: Fabric
    processes: ProcessGroup
    input_mask: InputMask | None = None

    def local(self, images: Images) -> list[Tensor]:
        """The backbone's maps, float32 (N, C, h, w) on the device, by this process."""
        few = CACHED if self.fabric.device.type == "cpu" else len(images)
        made = []
        with torch.inference_mode(), self.fabric.autocast():
            for some in torch.from_numpy(np.array(images)).split(few):
                pixels = self.fabric.to_device(some)
                made.append(self.features(self.input_mask.fill_in(pixels) if self.input_mask else pixels))
        return [torch.cat(parts) for parts in zip(*made, strict=True)]

    def sharded(self, images: Images) -> list[Tensor]:
        """The same, dealt to the processes; every process has to call it with the same images."""
        if self.processes.world_size == 1:
            return self.local(images)
        shapes = [
            (channels, *field.grid)
            for channels, field in zip(self.features.backbone.channels, self.features.fields, strict=True)
        ]
        packed = self.processes.sharded(lambda some: torch.cat([one.flatten(1) for one in self.local(some)], 1))(images)
        parts = packed.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def in_batches(
        self, images: Images, chosen: Sequence[int], progress: Callable[[int, int], None]
    ) -> Iterator[list[Tensor]]:
        """The maps of this process's share of the images chosen, some at a time."""
        own = chosen[self.processes.shard(len(chosen))]
        for start in range(0, len(own), BATCH):
            some = own[start : start + BATCH]
            yield self.local(images[list(some)])
            progress(start + len(some), len(own))


def stacked(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Images]:
    """Images (H, W, 3) as batches (n, H, W, 3)."""
    chosen = list(images)
    return (np.stack(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))
