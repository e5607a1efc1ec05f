"""Training `LearnedHead` with the FCDD objective on cached, whitened features.

The backbone and the closed form are frozen, so every image passes through them once; an epoch is seconds on a CPU.
As in the paper every batch is half nominal, half anomalous, and the anomaly map is upsampled to the size of the masks
before equation 3 is taken. An anomaly without a mask counts as anomalous everywhere, which makes it equation 2.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from blemish.checkpoint import Checkpoint, load_optimiser, optimiser_tensors, under
from blemish.networks.heads import LearnedHead
from blemish.networks.upsampling import Resample
from blemish.objectives import pixel_loss, pseudo_huber

BATCH = 16  # nominal and as many anomalous images
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
PATIENCE = 5  # epochs without a better validation loss
LEARNED_FLOOR = 0.1  # see `_set_gain`


@dataclass(frozen=True)
class Anomalies:
    """Anomalous images to learn from.

    Attributes:
        features: whitened, float16 (M, C, h, w).
        masks: bool (M, H, W) at network size; all true where only the label is known.
        kinds: int (M,) defect type or source, so that each is drawn as often as any other.
    """

    features: Tensor
    masks: Tensor
    kinds: Tensor


def refine(
    head: LearnedHead,
    *,
    fabric: Fabric,
    nominal: Tensor,
    validation: Tensor,
    anomalies: Anomalies,
    upsample: Resample,
    epochs: int,
    seed: int,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    notify: Callable[[str], None],
) -> None:
    """Trains the head and sets its gain; keeps the weights of the best epoch on held-back nominal images.

    Args:
        head: changed in place.
        fabric: device and precision.
        nominal: whitened features of nominal images, float16 (N, C, h, w).
        validation: the same of nominal images held back to stop early; may be empty, then all epochs are run.
        anomalies: what to tell them from.
        upsample: the Gaussian upsampling to the masks' size.
        epochs: passes over the nominal images at most.
        seed: decides every draw; epoch e of a resumed training draws what it would have drawn uninterrupted.
        checkpoint: where the state of every epoch goes.
        progress: called with epochs done and to do.
        notify: told where a resumed training goes on.
    """
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    # The wrapped head runs in the device's precision; it shares its weights with `head`.
    wrapped, optimiser = fabric.setup(head, optimiser)
    upsample = upsample.to(fabric.device)
    state = _State.load(checkpoint, head, optimiser)
    if state.epoch:
        notify(f"resumed after epoch {state.epoch} of {epochs}")
    while state.epoch < epochs and state.epoch - state.best_epoch < PATIENCE:
        generator = torch.Generator().manual_seed(seed * 100_003 + state.epoch)
        for features, masks in _batches(nominal, anomalies, generator):
            maps = pseudo_huber(wrapped(fabric.to_device(features.float())))
            loss = pixel_loss(upsample(maps), fabric.to_device(masks))
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
        state.advance(_validate(wrapped, fabric, validation, anomalies, upsample), head)
        state.save(checkpoint, head, optimiser)
        progress(state.epoch, epochs)
    if state.best:
        head.load_state_dict(state.best)
    _set_gain(head, fabric, validation if len(validation) else nominal, anomalies)


@dataclass
class _State:
    """Where the training stands: what a checkpoint holds beside weights and optimiser."""

    epoch: int
    best_epoch: int
    best_loss: float
    best: dict[str, Tensor]

    def advance(self, loss: float, head: torch.nn.Module) -> None:
        self.epoch += 1
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epoch, loss
            self.best = {name: value.detach().clone() for name, value in head.state_dict().items()}

    def save(self, checkpoint: Checkpoint, head: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= optimiser_tensors(optimiser)
        numbers = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best_loss": self.best_loss}
        checkpoint.save(tensors, numbers)

    @classmethod
    def load(cls, checkpoint: Checkpoint, head: torch.nn.Module, optimiser: torch.optim.Optimizer) -> "_State":
        saved = checkpoint.load()
        if saved is None:
            return cls(epoch=0, best_epoch=0, best_loss=float("inf"), best={})
        tensors, numbers = saved
        head.load_state_dict(under("head.", tensors))
        load_optimiser(optimiser, tensors)
        return cls(**numbers, best=under("best.", tensors))


def _batches(nominal: Tensor, anomalies: Anomalies, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Half nominal, half anomalous: features (2B, C, h, w) and masks (2B, H, W); every nominal image once."""
    # Each kind weighs the same, however many images it has.
    weights = 1 / torch.bincount(anomalies.kinds)[anomalies.kinds].double()
    for chosen in torch.randperm(len(nominal), generator=generator).split(BATCH):
        drawn = torch.multinomial(weights, len(chosen), replacement=True, generator=generator)
        clean = torch.zeros(len(chosen), *anomalies.masks.shape[1:], dtype=torch.bool)
        yield torch.cat([nominal[chosen], anomalies.features[drawn]]), torch.cat([clean, anomalies.masks[drawn]])


@torch.inference_mode()
def _validate(
    head: torch.nn.Module, fabric: Fabric, validation: Tensor, anomalies: Anomalies, upsample: Resample
) -> float:
    """Equation 3 with the nominal half taken on held-back images."""
    losses = []
    clean = torch.zeros(1, *anomalies.masks.shape[1:], dtype=torch.bool)
    for features, masks in ((validation, clean.expand(len(validation), -1, -1)), (anomalies.features, anomalies.masks)):
        total = 0.0
        for some, mask in zip(features.split(BATCH), masks.split(BATCH), strict=True):
            maps = upsample(pseudo_huber(head(fabric.to_device(some.float()))))
            total += len(some) * pixel_loss(maps, fabric.to_device(mask)).item()
        losses.append(total / max(1, len(features)))
    return sum(losses)


@torch.inference_mode()
def _set_gain(head: LearnedHead, fabric: Fabric, nominal: Tensor, anomalies: Anomalies) -> None:
    """Brings the learned output to the closed form's scale.

    The objective leaves its scale open. The gain makes what one nominal cell in a thousand reaches as large as the
    median norm of phi, and at least a tenth of what anomalies reach, so that a silent head is not amplified to noise.
    """

    def outputs(features: Tensor) -> Tensor:
        return torch.cat([head(fabric.to_device(some.float())).abs().flatten().cpu() for some in features.split(BATCH)])

    quiet, loud = outputs(nominal), outputs(anomalies.features)
    cells_per_image = anomalies.features.shape[-2] * anomalies.features.shape[-1]
    loudest = loud.reshape(-1, cells_per_image).amax(1).median()
    rare = quiet.kthvalue(math.ceil(0.999 * len(quiet))).values  # torch.quantile refuses more than 2^24 values
    reference = max(rare.item(), LEARNED_FLOOR * loudest.item())
    norm = nominal.float().square().sum(1).sqrt().median().item()
    head.gain.fill_(norm / reference if reference > 0 else 0.0)
