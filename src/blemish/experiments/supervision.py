"""The anomalous half of the training draws: outlier exposure, noise on nominal images, or labelled defects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blemish.errors import BlemishError
from blemish.experiments.augmentation import Preparation
from blemish.experiments.data.tasks import Images, LabelledImages, Masks, Selected, Task
from blemish.experiments.noise import NOISES
from blemish.experiments.recipe import Supervision
from blemish.io.text import printable
from blemish.synthetic.confetti import add_noise, confetti_noise
from blemish.synthetic.registry import SyntheticAnomaly, synthetic_anomaly


class AnomalySource(Protocol):
    """Makes anomalous training images."""

    def draw(self, nominal: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """An anomalous image, uint8 (C, H, W), in the place of a nominal one, and its mask, bool (H, W)."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """Outlier exposure: a random foreign image, anomalous everywhere."""

    images: Images

    def draw(self, nominal: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See `AnomalySource.draw`."""
        return everywhere(self.images.read(int(rng.integers(len(self.images)))))


@dataclass(frozen=True)
class Noise:
    """The nominal image with artificial noise on it.

    Attributes:
        name: one of `blemish.experiments.noise.NOISES`, or of `blemish.plugins.SYNTHETIC`.
        changed: the mask holds the changed pixels; else the whole image, as in the paper's unsupervised setting.
    """

    name: str
    changed: bool

    def draw(self, nominal: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See `AnomalySource.draw`."""
        noisy = torch.from_numpy(self._noisy(nominal.permute(1, 2, 0).numpy(), rng)).permute(2, 0, 1)
        return (noisy, (noisy != nominal).any(0)) if self.changed else everywhere(noisy)

    @cached_property
    def _synthetic(self) -> SyntheticAnomaly:
        return synthetic_anomaly(self.name)

    def _noisy(self, pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Pixels (H, W, C) with the noise on them."""
        height, width, channels = pixels.shape
        if self.name == "confetti":  # as a field of offsets, which grey images take too
            return add_noise(pixels, confetti_noise((height, width), rng)[..., :channels])
        if self.name in NOISES:
            return add_noise(pixels, NOISES[self.name]((height, width), rng, channels))
        colour = np.broadcast_to(pixels, (height, width, 3)) if channels == 1 else pixels
        return self._synthetic(np.ascontiguousarray(colour), rng).image[..., :channels]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Real anomalous images with masks, each drawn as often as any other."""

    images: Images
    masks: Sequence[Tensor]  # bool (H, W) at the images' size

    def draw(self, nominal: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See `AnomalySource.draw`."""
        index = int(rng.integers(len(self.images)))
        return self.images.read(index), self.masks[index]


def everywhere(image: Tensor) -> tuple[Tensor, Tensor]:
    """The image with a mask that is true in every pixel."""
    return image, torch.ones(image.shape[1:], dtype=torch.bool)


def set_labelled_aside(task: Task, *, per_kind: int, seed: int) -> tuple[Task, Labelled]:
    """Moves random anomalous test images, `per_kind` of each defect type, to training: they leave the test set.

    Where the training split has labelled images of its own, these are taken, and the test set stays whole.

    Raises BlemishError where the data set has no masks, or a defect type no image more than that.
    """
    rng = np.random.default_rng(seed)
    if task.labelled is not None:
        return task, _labelled_training_images(task.labelled, per_kind=per_kind, rng=rng)
    if task.masks is None:
        raise BlemishError("this data set has no masks to learn from; choose another supervision")
    chosen: list[int] = []
    anomalous = [(kind, index) for index, kind in enumerate(task.kinds) if task.anomalous[index]]
    for kind in sorted({kind for kind, _ in anomalous}):
        members = [index for name, index in anomalous if name == kind]
        if len(members) <= per_kind:
            raise BlemishError(
                f"of {printable(kind)} there are {len(members)} test images: {per_kind} to learn from would leave none "
                "to test on; learn from fewer, or add images"
            )
        chosen += rng.choice(members, per_kind, replace=False).tolist()
    left = sorted(set(range(len(task.kinds))) - set(chosen))
    masks = [_at_size_of(task.masks.read(index), task.test.read(index)) for index in chosen]
    rest = replace(
        task,
        test=Selected(task.test, left),
        anomalous=task.anomalous[left],
        kinds=tuple(task.kinds[index] for index in left),
        masks=_SelectedMasks(task.masks, left),
    )
    return rest, Labelled(Selected(task.test, chosen), masks)


def _labelled_training_images(labelled: LabelledImages, *, per_kind: int, rng: np.random.Generator) -> Labelled:
    """At most `per_kind` random images of each defect type."""
    chosen: list[int] = []
    for kind in sorted(set(labelled.kinds)):
        members = [index for index, name in enumerate(labelled.kinds) if name == kind]
        chosen += rng.choice(members, min(per_kind, len(members)), replace=False).tolist()
    masks = [_at_size_of(labelled.masks.read(index), labelled.images.read(index)) for index in chosen]
    return Labelled(Selected(labelled.images, chosen), masks)


@dataclass(frozen=True, eq=False)
class _SelectedMasks:
    masks: Masks
    indices: Sequence[int]

    def read(self, index: int) -> Tensor:
        return self.masks.read(self.indices[index])


def _at_size_of(mask: Tensor, image: Tensor) -> Tensor:
    """The mask at the image's size; a pixel that any defective one falls in stays defective."""
    shrunk = torch.nn.functional.adaptive_max_pool2d(mask[None, None].float(), tuple(image.shape[1:]))
    return shrunk[0, 0].bool()


@dataclass(frozen=True, eq=False)
class EpochDataset(Dataset[tuple[Tensor, Tensor, bool]]):
    """The training images of one epoch, drawn and augmented: input (C, S, S), mask (S, S), whether anomalous.

    Every draw has a generator of its own, so that neither batch size nor worker processes change what is drawn.

    Attributes:
        order: which nominal image each draw starts from; -1-k for the k-th foreign image.
        replaced: share of the draws that are replaced with an anomaly: 0.5 in the paper, 0 without supervision.
        seed: of this epoch.
    """

    nominal: Images
    anomalies: AnomalySource | None
    preparation: Preparation
    order: Sequence[int]
    replaced: float
    seed: tuple[int, ...]

    @classmethod
    def of_epoch(
        cls,
        nominal: Images,
        anomalies: AnomalySource | None,
        preparation: Preparation,
        *,
        supervision: Supervision,
        passes: int,
        seed: tuple[int, ...],
    ) -> "EpochDataset":
        """The draws of the epoch that `seed` = (seed, epoch) names."""
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(len(nominal)) for _ in range(passes)])
        if supervision.every and isinstance(anomalies, Outliers):
            order = rng.permutation(np.concatenate([order, -1 - np.arange(len(anomalies.images))]))
            return cls(nominal, anomalies, preparation, order.tolist(), 0.0, seed)
        return cls(nominal, anomalies, preparation, order.tolist(), 0.0 if anomalies is None else 0.5, seed)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, bool]:
        rng = np.random.default_rng((*self.seed, index))
        image, mask, anomalous = self._draw(self.order[index], rng)
        return (*self.preparation.training(image, mask, rng), anomalous)

    def _draw(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, bool]:
        if number < 0:
            assert isinstance(self.anomalies, Outliers)
            return (*everywhere(self.anomalies.images.read(-1 - number)), True)
        image = self.nominal.read(number)
        if self.anomalies is not None and rng.random() < self.replaced:
            return (*self.anomalies.draw(image, rng), True)
        return image, torch.zeros(image.shape[1:], dtype=torch.bool), False
