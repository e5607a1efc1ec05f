"""Normal models: they are fitted to the feature maps of nominal images and give distances to them.

A new one is a subclass of `NormalModel` and an entry of `blemish.plugins.METHODS`. Everything else, from alignment over
labels and calibration to the model file, is the same for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from blemish.networks.feature_pyramid import FeaturePyramid

if TYPE_CHECKING:
    from blemish.training.config import TrainConfig

BATCH = 16  # images whose out-of-fold distances are computed at a time
MIN_DISTANCE = 1e-6  # so that nothing is divided by zero


class Processes(Protocol):
    """The processes that train together; see `blemish.training.distributed.ProcessGroup`."""

    def all_reduce(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over all processes."""

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The main process's tensor, for all."""
        ...

    def all_gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order."""
        ...


class NominalImages(Protocol):
    """The maps of nominal images, which a normal model may go through as often as it wants."""

    @property
    def number(self) -> int:
        """How many images there are, over all processes."""
        ...

    @property
    def first(self) -> int:
        """Position of this process's first image among them."""
        ...

    @property
    def processes(self) -> Processes:
        """Those that fit the model together."""
        ...

    def batches(self, stage: str, *, at_most: int | None = None) -> Iterator[list[Tensor]]:
        """The pyramid's maps, each (n, C_k, h_k, w_k), of this process's share of the images in their order.

        Args:
            stage: what is done with them, for the report of progress.
            at_most: so many images of all processes, evenly chosen; None takes all.
        """
        ...


class NormalModel(nn.Module, ABC):
    """Learns from the maps of nominal images and gives distances to them.

    Args:
        pyramid: makes the maps; its `channels` and `fields` say what they are.
        config: every option and constant of the training.
    """

    def __init__(self, pyramid: FeaturePyramid, config: "TrainConfig") -> None:
        super().__init__()

    @abstractmethod
    def fit(self, nominal: NominalImages) -> Tensor:
        """Learns from nominal images, in place.

        Returns:
            Out-of-fold distances d (n, h, w) of the first images, at most `config.gaussian.out_of_fold_images` of them,
            on the CPU: what the model would give for each if it had not learned from it; empty for a single image.

        Raises:
            ValueError: there is no image.
        """

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Distances d >= 0 (N, h, w) on the grid of `pyramid.field`.

        In units of the mean out-of-fold distance of nominal images, so that 1 is what an ordinary place has.

        Args:
            maps: the pyramid's, each (N, C_k, h_k, w_k).
        """


class FirstImages:
    """Keeps the features of the first images of all processes, in half precision on the CPU.

    Args:
        most: images that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Tensor] = []

    def add(self, features: Tensor, position: int) -> None:
        """Adds images (n, ...), of which the first is at a position among those of all processes."""
        self._kept.append(features[: max(0, self._most - position)].half().cpu())

    def gathered(self, processes: Processes) -> Tensor:
        """Those of all processes, in order, with every process."""
        return processes.all_gather(torch.cat(self._kept))


def out_of_fold(features: Tensor, folds: int, distance_without: Callable[[int], Callable[[Tensor], Tensor]]) -> Tensor:
    """Distances of each image to a model that has not learned from its fold; image i is of fold i modulo `folds`.

    Args:
        features: of the images, (n, ...); a batch at a time is brought to float32.
        folds: how many there are.
        distance_without: of a fold, the function from features (N, ...) to distances (N, h, w) by the images of all
            other folds. It is called fold by fold; the function is not used after the next call.

    Returns:
        (n, h, w), on the device of the distances.
    """
    distances: Tensor | None = None
    for fold in range(min(folds, len(features))):
        distance = distance_without(fold)
        for place, batch in enumerate(features[fold::folds].split(BATCH)):
            found = distance(batch.float())
            if distances is None:
                distances = found.new_zeros(len(features), *found.shape[1:])
            distances[fold::folds][place * BATCH : place * BATCH + len(batch)] = found
    assert distances is not None
    return distances
