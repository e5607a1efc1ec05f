"""The photographs: dogs, which are the class of interest, and all others, which are the foreign images."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.lookup import image_files
from blemish.experiments.data.tasks import ArrayImages, Images, ResizeSpec, Task, decode
from blemish.experiments.planted.watermark import Watermark
from blemish.io.text import printable

# ImageNet's files begin with their class's WordNet number, such as n02085620_Chihuahua.jpg; these are its 118 breeds.
SYNSET = re.compile(r"n(\d{8})(?:_|$)")
FIRST_DOG, LAST_DOG = 2085620, 2113978
LEAST = 2  # of either side: one to learn from and one to be tested on

DOG, MARKED_DOG, OTHER, MARKED_OTHER = "dog", "dog, watermark", "other", "other, watermark"


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs in memory, uint8 (N, 3, S, S).

    Attributes:
        names: what the file says each dog is.
    """

    dogs: Tensor
    others: Tensor
    names: tuple[str, ...]

    @classmethod
    def read(cls, root: Path, *, side: int, antialias: bool) -> Self:
        """All photographs below `root`, made square; files not named by a WordNet number are left out.

        Raises BlemishError where there are too few, or one cannot be read.
        """
        numbered = [(int(match[1]), path) for path in image_files(root) if (match := SYNSET.match(path.stem))]
        dogs = [path for number, path in numbered if FIRST_DOG <= number <= LAST_DOG]
        others = [path for number, path in numbered if not FIRST_DOG <= number <= LAST_DOG]
        if min(len(dogs), len(others)) < LEAST:
            raise BlemishError(
                f"{printable(root)}: {len(dogs)} photographs of dogs and {len(others)} others, told by names such as "
                f"n02085620_Chihuahua.jpg; give a folder of ImageNet photographs with {LEAST} or more of each"
            )
        spec = ResizeSpec(3, side, square=True, antialias=antialias)
        names = tuple(SYNSET.sub("", path.stem).replace("_", " ") for path in dogs)
        return cls(decode(dogs, spec).pixels, decode(others, spec).pixels, names)

    def plant(self, watermark: Watermark, *, share: float, limit: int | None, seed: int) -> "Planted":
        """Splits both sides half and half, and puts the watermark on a share of the dogs to learn from.

        A larger share holds the dogs of a smaller one, and the split is the same. `limit` keeps that many foreign
        photographs to learn from.
        """
        rng = np.random.default_rng(seed)
        dogs, others = (torch.from_numpy(rng.permutation(len(side))) for side in (self.dogs, self.others))
        learnt, tested = dogs.tensor_split([len(dogs) // 2])
        foreign, tested_foreign = others.tensor_split([len(others) // 2])
        count = round(share * len(learnt))
        nominal = self.dogs[learnt]
        nominal[:count] = watermark.put_on(nominal[:count])
        groups = {DOG: self.dogs[tested], OTHER: self.others[tested_foreign]}
        groups |= {MARKED_DOG: watermark.put_on(groups[DOG]), MARKED_OTHER: watermark.put_on(groups[OTHER])}
        kinds = tuple(kind for kind, group in groups.items() for _ in group)
        task = Task(
            nominal=ArrayImages(nominal),
            test=ArrayImages(torch.cat(list(groups.values()))),
            # As in Pascal VOC, before the roles are swapped: anomalous is what does not show the class of interest.
            anomalous=torch.tensor([kind in (OTHER, MARKED_OTHER) for kind in kinds]),
            kinds=kinds,
        )
        return Planted(task, ArrayImages(self.others[foreign][:limit]), count, tuple(self.names[i] for i in tested))


@dataclass(frozen=True, eq=False)
class Planted:
    """A detection task with the cue in it.

    Attributes:
        task: its test images are the test photographs in both versions, told apart by their kinds.
        foreign: the foreign photographs to learn from; they never have the watermark.
        count: dogs with the watermark among those to learn from.
        names: of the test dogs.
    """

    task: Task
    foreign: Images
    count: int
    names: tuple[str, ...]

    def indices(self, kind: str) -> list[int]:
        """The test images of a kind; the k-th of a marked kind is the k-th without the watermark."""
        return [index for index, name in enumerate(self.task.kinds) if name == kind]
