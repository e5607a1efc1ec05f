"""The processes that train together, called ranks, and what they tell each other.

Every rank runs the same training. What grows with the number of images is dealt out: each rank passes its own share of
them through the backbone, and sums are added up over all ranks. What does not grow, the learning by gradient on a
bounded number of cached images, is left to the first rank; the others take over what it has learned. So any number of
ranks comes to the model of a single process, but for the rounding of sums.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import ParallelStrategy
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from blemish.errors import BlemishError

Extract = Callable[[npt.NDArray[np.uint8]], Tensor]  # images (n, H, W, 3) to features (n, C, h, w)


class Ranks:
    """This process among those that train together.

    All methods but `share` are calls that every rank has to make, in the same order.

    Args:
        fabric: launched; None for a process alone, for which every method is the identity.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric
        self.number = fabric.world_size if fabric else 1
        self.rank = fabric.global_rank if fabric else 0

    @property
    def first(self) -> bool:
        """Whether this is the rank that learns by gradient, calibrates, writes and speaks."""
        return self.rank == 0

    def share(self, images: int) -> slice:
        """The part of a sequence of that length that is this rank's: in the order of ranks they make up the whole."""
        return slice(images * self.rank // self.number, images * (self.rank + 1) // self.number)

    def sum(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over all ranks."""
        if self._fabric is None or self.number == 1:
            return
        with _told_when_one_stops():
            for tensor in tensors:
                total = self._fabric.all_reduce(tensor.to(self._fabric.device), reduce_op="sum")
                assert isinstance(total, Tensor)
                tensor.copy_(total)

    def same(self, tensor: Tensor) -> Tensor:
        """The first rank's tensor, for all; every rank gives one of the same shape."""
        if self.number == 1:
            return tensor
        tensor = tensor.clone() if self.first else torch.zeros_like(tensor)
        self.sum(tensor)
        return tensor

    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Replaces the tensors of a module's state by the first rank's."""
        for tensor in state.values():
            tensor.copy_(self.same(tensor))

    def join(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, (n, ...) with an n of each rank's own, in the order of ranks."""
        if self.number == 1:
            return rows
        lengths = torch.zeros(self.number, dtype=torch.int64)
        lengths[self.rank] = len(rows)
        self.sum(lengths)
        before = int(lengths[: self.rank].sum())
        whole = rows.new_zeros(int(lengths.sum()), *rows.shape[1:])
        whole[before : before + len(rows)] = rows
        self.sum(whole)
        return whole

    def together(self, extract: Extract) -> Extract:
        """The same function, each call's images dealt to the ranks; what comes of them is with all ranks."""
        if self.number == 1:
            return extract

        def extract_together(images: npt.NDArray[np.uint8]) -> Tensor:
            if len(images) < self.number:  # no share may be empty
                return self.same(extract(images))
            return self.join(extract(images[self.share(len(images))]))

        return extract_together

    def check_no_idle_process(self, images: int) -> None:
        """Raises BlemishError where there are fewer images than ranks."""
        if images < self.number:
            raise BlemishError(f"{images} good images to fit to are too few for {self.number} processes: use fewer")

    def wait(self) -> None:
        """Until all ranks are here."""
        if self._fabric is not None and self.number > 1:
            with _told_when_one_stops():
                self._fabric.barrier()


ALONE = Ranks()


def launch(device: str, *, devices: int, nodes: int) -> tuple[Fabric, Ranks]:
    """Starts the other processes of this machine, which run the program again from its start, and meets them all.

    Args:
        device: what to train on: "auto", "cpu", "cuda" or "mps"; there has to be as many as asked for.
        devices: processes a machine, each with a device of its own.
        nodes: machines; the program is started on each of them, under the variables that say where to meet.

    Returns:
        A fabric of this process alone, for its device and precision, and its place among the others.

    Raises:
        BlemishError: there are several machines and no word of where to meet.
    """
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if cuda else "32-true"
    if devices * nodes == 1:
        return Fabric(accelerator=device, devices=1, precision=precision), ALONE
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, strategy="ddp", precision=precision)
    strategy = fabric.strategy
    started_here = isinstance(strategy, ParallelStrategy) and isinstance(
        strategy.cluster_environment, LightningEnvironment
    )
    if nodes > 1 and started_here and not {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys():
        raise BlemishError(
            "several nodes need to know where to meet: set MASTER_ADDR and MASTER_PORT to those of the first node, and "
            "NODE_RANK to 0, 1, ... on each, or start them with torchrun or Slurm"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the first process says what there is to say
    with _told_when_one_stops():
        fabric.launch()
    own = [fabric.local_rank] if fabric.device.type == "cuda" else 1
    return Fabric(accelerator=fabric.device.type, devices=own, precision=precision), Ranks(fabric)


def is_first_process() -> bool:
    """Whether this process is the one that speaks, also before they have met."""
    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def _told_when_one_stops() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's, when the connection to another rank breaks
        raise BlemishError("another process of this training has stopped; what it printed says why") from error
