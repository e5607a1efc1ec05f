"""Training the defect branch with the FCDD objective on cached features.

What is frozen of the backbone every image passes through once; an epoch is seconds on a CPU.
As in the paper every batch is half nominal, half anomalous. The masks come down to the grid instead of the map going
up to the masks, which is 64 times less to compute.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from blemish.networks.defect_branch import CellClassifier
from blemish.networks.losses import detection_loss
from blemish.process.progress import Progress
from blemish.training.checkpoint import Checkpoint, load_optimiser, optimiser_tensors, under
from blemish.training.config import DefectBranchConfig
from blemish.training.distributed import SINGLE_PROCESS, ProcessGroup
from blemish.training.log import NO_LOG, TrainingLog

FeatureAugmentation = Callable[[Tensor, torch.Generator], Tensor]  # (N, C, h, w) to the same shape


@dataclass(frozen=True)
class Anomalies:
    """Anomalous images to learn from.

    Attributes:
        features: float16 (M, C, h, w).
        coverage: float (M, h, w), the share of each cell that is anomalous.
        kinds: int (M,) defect type or source, so that each is drawn as often as any other.
    """

    features: Tensor
    coverage: Tensor
    kinds: Tensor


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        fabric: device and precision.
        epochs: passes over the anomalies.
        seed: decides every draw; epoch e of a resumed training draws what it would have drawn uninterrupted.
        output: the model file; checkpoints of every epoch lie beside it.
        key: what the training depends on, see `Checkpoint`.
        progress: called with the stage, the steps done and all there are.
        notify: called with a sentence where a resumed training goes on.
        processes: the processes of the training; the first one learns.
        log: gets loss and learning rate after each epoch.
    """

    fabric: Fabric
    epochs: int
    seed: int
    output: Path
    key: str
    progress: Progress
    notify: Callable[[str], None]
    processes: ProcessGroup = SINGLE_PROCESS
    log: TrainingLog = NO_LOG

    def checkpoint(self, stage: str) -> Checkpoint:
        """Where the state of a stage goes."""
        return Checkpoint.beside(self.output, key=self.key, stage=stage)


def train_classifier(
    network: CellClassifier,
    *,
    nominal: Tensor,
    anomalies: Anomalies,
    training: Training,
    stage: str,
    config: DefectBranchConfig,
    feature_augmentation: FeatureAugmentation | None = None,
) -> None:
    """Trains the network, in place, to tell anomalous cells from nominal ones.

    Args:
        network: also takes its standardisation from the nominal features; it ends on the training's device.
        nominal: features of nominal images, float16 (N, C, h, w).
        anomalies: what to tell them from.
        training: how.
        stage: its name, for progress and checkpoint.
        config: size of batches, course of the learning rate and constants of the objective.
        feature_augmentation: what is made of a batch before the network learns from it; None takes it as it is.
    """
    if training.processes.is_main:
        batches = partial(_batch, nominal, anomalies, config.batch, feature_augmentation)
        network.to(training.fabric.device).standardise_by(nominal)
        network.to(memory_format=torch.channels_last)  # a tenth to a third faster on a CPU
        _train(network, batches, math.ceil(len(anomalies.features) / config.batch), training, stage, config)
    training.processes.broadcast_state(network.to(training.fabric.device).state_dict())


def _train(
    network: CellClassifier,
    batches: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    steps: int,
    training: Training,
    stage: str,
    config: DefectBranchConfig,
) -> None:
    """Epochs of so many steps, each by a new batch, from the last checkpoint on."""
    fabric, epochs, checkpoint = training.fabric, training.epochs, training.checkpoint(stage)
    adam = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    # The wrapped network runs in the device's precision; it shares its weights with `network`.
    wrapped, optimiser = fabric.setup(network, adam)
    first = _resume(checkpoint, network, optimiser)
    if first:
        training.notify(f"{stage}: resumed after epoch {first} of {epochs}")
    schedule = _schedule(adam, steps=epochs * steps, done=first * steps, warm_up=config.warm_up)
    for epoch in range(first, epochs):
        generator = torch.Generator().manual_seed(training.seed * 100_003 + epoch)
        total = torch.zeros((), device=fabric.device)
        for _ in range(steps):
            features, coverage = batches(generator)
            features = fabric.to_device(features).contiguous(memory_format=torch.channels_last)
            loss = detection_loss(
                wrapped(features),
                fabric.to_device(coverage),
                min_coverage=config.min_coverage,
                worst=config.hard_negative_fraction,
                weight=config.hard_negative_weight,
            )
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.detach()
        training.log.scalar("loss", float(total) / steps, epoch + 1)  # the mean over the epoch's batches
        training.log.scalar("learning rate", schedule.get_last_lr()[0], epoch + 1)
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        checkpoint.save(tensors | optimiser_tensors(optimiser), {"epoch": epoch + 1})
        training.progress(stage, epoch + 1, epochs)


def coverage(mask: npt.NDArray[np.bool_], grid: Sequence[int]) -> Tensor:
    """The share of each cell of a grid (h, w) that a mask (H, W) covers; H and W are multiples of h and w."""
    rows, columns = grid
    cells = mask.reshape(rows, mask.shape[0] // rows, columns, mask.shape[1] // columns)
    return torch.from_numpy(cells.mean((1, 3), dtype=np.float32))


def _resume(checkpoint: Checkpoint, network: CellClassifier, optimiser: torch.optim.Optimizer) -> int:
    """The number of epochs done."""
    saved = checkpoint.load()
    if saved is None:
        return 0
    tensors, numbers = saved
    network.load_state_dict(under("network.", tensors))
    load_optimiser(optimiser, tensors)
    return int(numbers["epoch"])


def _batch(
    nominal: Tensor,
    anomalies: Anomalies,
    size: int,
    feature_augmentation: FeatureAugmentation | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """B nominal and B anomalous images, B the size: float features (2B, C, h, w) and coverage (2B, h, w)."""
    # Each kind weighs the same, however many images it has.
    weights = 1 / torch.bincount(anomalies.kinds)[anomalies.kinds].double()
    drawn = torch.multinomial(weights, size, replacement=True, generator=generator)
    chosen = torch.randint(len(nominal), (size,), generator=generator)
    clean = torch.zeros(size, *anomalies.coverage.shape[1:])
    features = torch.cat([nominal[chosen], anomalies.features[drawn]]).float()
    if feature_augmentation is not None:
        features = feature_augmentation(features, generator)
    return features, torch.cat([clean, anomalies.coverage[drawn]])


def _schedule(optimiser: torch.optim.Optimizer, *, steps: int, done: int, warm_up: float) -> LambdaLR:
    """The learning rate over all steps: a line up to the largest, then half a cosine down."""

    def factor(step: int) -> float:
        share = step / steps
        if share < warm_up:
            return (share + 1e-2) / (warm_up + 1e-2)
        return (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2

    for group in optimiser.param_groups:
        group["initial_lr"] = group["lr"]
    return LambdaLR(optimiser, factor, last_epoch=done - 1)
