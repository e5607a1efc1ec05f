"""The processes that train together, and what they exchange, in torch.distributed's words.

Every process runs the same training. What grows with the number of images is dealt out: each process passes its own
share of them through the backbone, and sums are added up over all processes. What does not grow, the learning by
gradient on a bounded number of cached images, is left to the main process; the others take over what it has learned.
So any number of processes comes to the model of a single one, but for the rounding of sums.
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


class ProcessGroup:
    """This process among those that train together.

    All methods but `shard` are calls that every process has to make, in the same order.

    Args:
        fabric: launched; None for a process alone, for which every method is the identity.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric
        self.world_size = fabric.world_size if fabric else 1
        self.rank = fabric.global_rank if fabric else 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that learns by gradient, calibrates, writes and speaks."""
        return self.rank == 0

    def shard(self, images: int) -> slice:
        """The part of a sequence of that length that is this process's: in their order they make up the whole."""
        return slice(images * self.rank // self.world_size, images * (self.rank + 1) // self.world_size)

    def all_reduce(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self._fabric is None or self.world_size == 1:
            return
        with _says_when_one_stops():
            for tensor in tensors:
                total = self._fabric.all_reduce(tensor.to(self._fabric.device), reduce_op="sum")
                assert isinstance(total, Tensor)
                tensor.copy_(total)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The main process's tensor, for all; every process gives one of the same shape."""
        if self.world_size == 1:
            return tensor
        tensor = tensor.clone() if self.is_main else torch.zeros_like(tensor)
        self.all_reduce(tensor)
        return tensor

    def broadcast_state(self, state: Mapping[str, Tensor]) -> None:
        """Replaces the tensors of a module's state by the main process's."""
        for tensor in state.values():
            tensor.copy_(self.broadcast(tensor))

    def all_gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (n, ...) with an n of each process's own, in the order of processes."""
        if self.world_size == 1:
            return rows
        lengths = torch.zeros(self.world_size, dtype=torch.int64)
        lengths[self.rank] = len(rows)
        self.all_reduce(lengths)
        before = int(lengths[: self.rank].sum())
        whole = rows.new_zeros(int(lengths.sum()), *rows.shape[1:])
        whole[before : before + len(rows)] = rows
        self.all_reduce(whole)
        return whole

    def sharded(self, extract: Extract) -> Extract:
        """The same function, each call's images dealt to the processes; what comes of them is with all processes."""
        if self.world_size == 1:
            return extract

        def extract_sharded(images: npt.NDArray[np.uint8]) -> Tensor:
            if len(images) < self.world_size:  # no share may be empty
                return self.broadcast(extract(images))
            return self.all_gather(extract(images[self.shard(len(images))]))

        return extract_sharded

    def check_not_idle(self, images: int) -> None:
        """Raises BlemishError where there are fewer images than processes."""
        if images < self.world_size:
            raise BlemishError(f"{images} good images to fit to are too few for {self.world_size} processes: use fewer")

    def barrier(self) -> None:
        """Until all processes are here."""
        if self._fabric is not None and self.world_size > 1:
            with _says_when_one_stops():
                self._fabric.barrier()


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def _lightning_silent() -> Iterator[None]:
    """What there is to say the training says itself, and once. The caller's own Lightning speaks again afterwards."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@_lightning_silent()
def launch(
    device: str, *, devices: int, nodes: int, precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
) -> tuple[Fabric, ProcessGroup]:
    """Starts the other processes of this machine, which run the program again from its start, and meets them all.

    Args:
        device: what to train on: "auto", "cpu", "cuda" or "mps"; there has to be as many as asked for.
        devices: processes a machine, each with a device of its own.
        nodes: machines; the program is started on each of them, under the variables that say where to meet.
        precision: Fabric's; "auto" is "bf16-mixed" on CUDA devices, else "32-true".

    Returns:
        A fabric of this process alone, for its device and precision, and its place among the others.

    Raises:
        BlemishError: there are several machines and no word of where to meet.
    """
    if precision == "auto":
        cuda = device in ("auto", "cuda") and torch.cuda.is_available()
        precision = "bf16-mixed" if cuda else "32-true"
    if devices * nodes == 1:
        return Fabric(accelerator=device, devices=1, precision=precision), SINGLE_PROCESS
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
    with _says_when_one_stops():
        fabric.launch()
    own = [fabric.local_rank] if fabric.device.type == "cuda" else 1
    return Fabric(accelerator=fabric.device.type, devices=own, precision=precision), ProcessGroup(fabric)


def is_first_process() -> bool:
    """Whether this process is the one that speaks, also before they have met."""
    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def _says_when_one_stops() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's, when the connection to another process breaks
        raise BlemishError("another process of this training has stopped; what it printed says why") from error
