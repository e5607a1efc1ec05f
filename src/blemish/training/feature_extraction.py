"""The pyramid's maps of uint8 images, computed on the training's device, by one process or by all of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from blemish.datasets.sampling import evenly
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.input_mask import InputMask
from blemish.process.progress import Progress
from blemish.training.distributed import SINGLE_PROCESS, ProcessGroup

BATCH = 16  # images
CACHED = 4  # images whose maps a processor keeps in its cache: more at a time take it nearly twice as long

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)


@dataclass(frozen=True)
class FeatureExtraction:
    """Computes the maps of images.

    Attributes:
        pyramid: pixels to maps.
        fabric: device and precision.
        processes: the processes of the training.
        input_mask: hides a part of every image first; on the device.
    """

    pyramid: FeaturePyramid
    fabric: Fabric
    processes: ProcessGroup
    input_mask: InputMask | None = None

    def local(self, images: Images) -> list[Tensor]:
        """The maps, each float32 (N, C, h, w) on the device, computed by this process."""
        few = CACHED if self.fabric.device.type == "cpu" else len(images)
        made = []
        with torch.inference_mode(), self.fabric.autocast():
            for batch in torch.from_numpy(np.array(images)).split(few):
                pixels = self.fabric.to_device(batch)
                made.append(self.pyramid(self.input_mask.fill_in(pixels) if self.input_mask else pixels))
        return [torch.cat(parts) for parts in zip(*made, strict=True)]

    def sharded(self, images: Images) -> list[Tensor]:
        """The same; each process computes a share. All of them have to call it with the same images."""
        if self.processes.world_size == 1:
            return self.local(images)
        shapes = [
            (channels, *field.grid) for channels, field in zip(self.pyramid.channels, self.pyramid.fields, strict=True)
        ]
        packed = self.processes.sharded(lambda share: torch.cat([m.flatten(1) for m in self.local(share)], 1))(images)
        parts = packed.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True)
class NominalMaps:
    """The maps of nominal images, for `blemish.networks.normal_model.NormalModel.fit`.

    Attributes:
        extraction: computes the maps.
        images: all training images, uint8 (N, H, W, 3).
        chosen: indices of the nominal ones to learn from.
        progress: called with the stage, the images of this process done and all there are.
    """

    extraction: FeatureExtraction
    images: Images
    chosen: Sequence[int]
    progress: Progress

    @property
    def processes(self) -> ProcessGroup:
        """Those that fit together."""
        return self.extraction.processes

    @property
    def number(self) -> int:
        """How many images there are, over all processes."""
        return len(self.chosen)

    @property
    def first(self) -> int:
        """Position of this process's first image among them."""
        return self.processes.shard(len(self.chosen)).start

    def batches(self, stage: str, *, at_most: int | None = None) -> Iterator[list[Tensor]]:
        """The maps of this process's share of the images, or of so many of them, evenly chosen."""
        chosen = self.chosen if at_most is None else evenly(self.chosen, at_most)
        own = chosen[self.processes.shard(len(chosen))]
        for start in range(0, len(own), BATCH):
            batch = own[start : start + BATCH]
            yield self.extraction.local(self.images[list(batch)])
            self.progress(stage, start + len(batch), len(own))


@dataclass(frozen=True)
class MapsInMemory:
    """The same for maps that are in memory already.

    Attributes:
        maps: of all images of this process, each (n, C_k, h_k, w_k), in batches.
        processes: those that fit together.
        first: position of this process's first image among those of all processes.
    """

    maps: Sequence[Sequence[Tensor]]
    processes: ProcessGroup = SINGLE_PROCESS
    first: int = 0

    @property
    def number(self) -> int:
        """How many images there are, over all processes."""
        count = torch.tensor(sum(len(batch[0]) for batch in self.maps))
        self.processes.all_reduce(count)
        return int(count)

    def batches(self, stage: str, *, at_most: int | None = None) -> Iterator[list[Tensor]]:
        """The maps, or those of so many images of all processes, evenly chosen."""
        number = self.number
        chosen = set(evenly(range(number), number if at_most is None else at_most))
        position = self.first
        for batch in self.maps:
            own = [place for place in range(len(batch[0])) if position + place in chosen]
            position += len(batch[0])
            if own:
                yield [one if len(own) == len(one) else one[own] for one in batch]


def stacked(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Images]:
    """Images (H, W, 3) as batches (n, H, W, 3)."""
    chosen = list(images)
    return (np.stack(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))
