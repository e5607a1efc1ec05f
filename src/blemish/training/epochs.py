"""Epochs of gradient descent: optimiser, course of the learning rate, checkpoints."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from blemish.training.checkpoint import Checkpoint, load_optimiser, optimiser_tensors, under

if TYPE_CHECKING:
    from blemish.training.trainer import Training

Losses = Callable[[nn.Module, int], Iterator[Tensor]]
"""Of the network as it is trained and the number of an epoch, the loss of each step. Steps follow one after the other:
each is computed when the step before has been made."""


class Optimisation(Protocol):
    """How weights are changed; a section of the configuration."""

    @property
    def learning_rate(self) -> float:
        """The largest, of AdamW."""
        ...

    @property
    def warm_up(self) -> float:
        """Share of the steps until it is reached."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""
        ...


def train_epochs(
    network: nn.Module,
    losses: Losses,
    *,
    steps: int,
    training: "Training",
    stage: str,
    optimisation: Optimisation,
    report_steps: bool = False,
    after_epoch: Callable[[int, float], None] | None = None,
) -> None:
    """Trains a network, in place, from the last checkpoint on.

    Args:
        network: those of its weights that ask for a gradient are trained.
        losses: gives the loss of each step.
        steps: of an epoch.
        training: how.
        stage: its name, for progress and checkpoint.
        optimisation: how weights are changed.
        report_steps: whether progress counts steps instead of epochs.
        after_epoch: called with the number of epochs done and the mean loss of the last.
    """
    fabric, epochs, checkpoint = training.fabric, training.epochs, training.checkpoint(stage)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    adam = torch.optim.AdamW(trained, lr=optimisation.learning_rate, weight_decay=optimisation.weight_decay)
    # The wrapped network runs in the device's precision; it shares its weights with `network`.
    wrapped, optimiser = fabric.setup(network, adam)
    first = _resume(checkpoint, network, optimiser)
    if first:
        training.notify(f"{stage}: resumed after epoch {first} of {epochs}")
    schedule = _schedule(adam, steps=epochs * steps, done=first * steps, warm_up=optimisation.warm_up)
    for epoch in range(first, epochs):
        total = torch.zeros((), device=fabric.device)
        for step, loss in enumerate(losses(wrapped, epoch)):
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.detach()
            if report_steps:
                training.progress(stage, epoch * steps + step + 1, epochs * steps)
        if not report_steps:
            training.progress(stage, epoch + 1, epochs)
        if training.processes.is_main:
            training.log.scalar("loss", float(total) / steps, epoch + 1)  # the mean over the epoch's batches
            training.log.scalar("learning rate", float(schedule.get_last_lr()[0]), epoch + 1)
            tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
            checkpoint.save(tensors | optimiser_tensors(optimiser), {"epoch": epoch + 1})
        if after_epoch is not None:
            after_epoch(epoch + 1, float(total) / steps)


def _resume(checkpoint: Checkpoint, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """The number of epochs done."""
    saved = checkpoint.load()
    if saved is None:
        return 0
    tensors, numbers = saved
    network.load_state_dict(under("network.", tensors))
    load_optimiser(optimiser, tensors)
    return int(numbers["epoch"])


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
