"""One run of an experiment: a method trained on one nominal class with one seed, then tested."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from blemish.errors import BlemishError
from blemish.evaluation.metrics import auroc
from blemish.experiments.augmentation import Normalisation, Preparation
from blemish.experiments.data.tasks import Task
from blemish.experiments.former_names import MODES, present_name
from blemish.experiments.methods import FittedMethod, Method, TrainedMethod, build_method
from blemish.experiments.recipe import SUPERVISED, MethodName, Mode, Recipe, TrainingSchedule
from blemish.experiments.results import Point, Result
from blemish.experiments.supervision import AnomalySource, EpochDataset
from blemish.experiments.tester import TEST_BATCH, Tester
from blemish.io.text import printable
from blemish.training.checkpoint import Checkpoint, load_optimiser, optimiser_tensors, under
from blemish.training.distributed import launch

CURVE_IMAGES = 2000  # about this many test images at most are scored for a point of the curve


@dataclass(frozen=True)
class Settings:
    """How runs are made, beside what the recipe says.

    Attributes:
        mode: "paper", or "corrected" for a normalised kernel, frozen batch norms that stay and averaged resizing.
        epochs: instead of the recipe's.
        device: an accelerator's name for Fabric, or "auto".
        precision: "32-true" or "bf16-mixed".
        weights: a file of pretrained weights.
        download: let pretrained weights be fetched where no file is given.
        workers: processes that prepare images.
        points: points of the curve, the last epoch's apart.
    """

    mode: Mode = "paper"
    epochs: int | None = None
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    weights: Path | None = None
    download: bool = False
    workers: int = 0
    points: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", present_name(self.mode, MODES))

    def in_words(self, recipe: Recipe) -> dict[str, str]:
        """What a reader must know to judge the figures of a recipe run this way."""
        return {
            "mode": self.mode,
            "network": recipe.network,
            "epochs": f"{self.epochs or recipe.training.epochs} of {recipe.training.epochs}",
            "precision": self.precision,
        }


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of an experiment and everything it depends on.

    Attributes:
        task: training and test images.
        anomalies: the anomalous half of the training draws; None for none.
        checkpoint: where the state of a run under way is kept.
        progress: called with epochs done and to do.
        measured: called with each measured point of the curve but the last, and the seconds left.
    """

    recipe: Recipe
    method: MethodName
    nominal_class: str
    seed: int
    settings: Settings
    task: Task
    anomalies: AnomalySource | None
    checkpoint: Checkpoint
    progress: Callable[[int, int], None]
    measured: Callable[[Point, float], None] | None = None

    def run(self) -> tuple[Result, Method, Preparation]:
        """Trains, going on where a killed run stopped, and tests.

        The checkpoint stays until the result is saved. Raises BlemishError where the test images are all of one label
        or an image cannot be read.
        """
        self._refuse_one_label()
        started = time.perf_counter()
        fabric, _ = launch(self.settings.device, devices=1, nodes=1, precision=self.settings.precision)
        torch.manual_seed(self.seed)
        method = build_method(
            self.method,
            self.recipe,
            mode=self.settings.mode,
            weights=self.settings.weights,
            download=self.settings.download,
        )
        method.to(fabric.device)
        curve: tuple[Point, ...] = ()
        if isinstance(method, FittedMethod):
            preparation = self._preparation(Normalisation.none())
            method.fit(self._nominal_batches(preparation, fabric))
        else:
            preparation = self._preparation(Normalisation.fit(self.recipe, self.task.nominal))
            curve = self._train(method, preparation, fabric)
        tester = Tester(self.task, preparation, fabric.device, swap_roles=self.recipe.swap_roles)
        scores = tester.scores(method)
        result = Result(
            recipe=self.recipe.name,
            method=self.method,
            nominal_class=self.nominal_class,
            seed=self.seed,
            image_auroc=auroc(tester.anomalous, scores),
            pixel_auroc=tester.pixel_auroc(method, mode=self.settings.mode),
            anomalous=tester.anomalous,
            scores=scores,
            kinds=self.task.kinds,
            curve=curve,
            seconds=sum(point.seconds for point in curve) or time.perf_counter() - started,
        )
        return result, method, preparation

    def _refuse_one_label(self) -> None:
        anomalous = int(self.task.anomalous.sum())
        if anomalous in (0, len(self.task.anomalous)):
            label = "anomalous" if anomalous else "nominal"
            raise BlemishError(
                f"all test images of {printable(self.nominal_class)} are {label}, and AUROC compares two sorts; "
                "add images of the other, or choose another class"
            )

    def _preparation(self, normalisation: Normalisation) -> Preparation:
        return Preparation(self.recipe.size, self.recipe.augmentation, normalisation, self.settings.mode)

    def _nominal_batches(self, preparation: Preparation, fabric: Fabric) -> Iterator[Tensor]:
        """The nominal images (N, C, S, S), prepared as in the test."""
        count = len(self.task.nominal)
        for start in range(0, count, TEST_BATCH):
            self.progress(start, count)
            indices = range(start, min(start + TEST_BATCH, count))
            images = [preparation.test(self.task.nominal.read(index)) for index in indices]
            yield fabric.to_device(torch.stack(images))
        self.progress(count, count)

    @property
    def _schedule(self) -> TrainingSchedule:
        return self.recipe.training

    @property
    def epochs(self) -> int:
        """Epochs of this run."""
        return self.settings.epochs or self._schedule.epochs

    def _train(self, method: TrainedMethod, preparation: Preparation, fabric: Fabric) -> tuple[Point, ...]:
        network = method.network.to(memory_format=torch.channels_last)
        optimiser = _optimiser(self._schedule, network)
        curve = _resume(self.checkpoint, network, optimiser)
        wrapped, optimiser = fabric.setup(network, optimiser)
        tester = Tester(self.task, preparation, fabric.device, swap_roles=self.recipe.swap_roles, at_most=CURVE_IMAGES)
        every = max(1, self.epochs // self.settings.points)
        self.progress(len(curve), self.epochs)
        first, began = len(curve), time.perf_counter()
        while (epoch := len(curve)) < self.epochs:
            started = time.perf_counter()
            for group in optimiser.param_groups:
                # A shortened run goes through the whole of the paper's schedule, in larger steps.
                group["lr"] = self._schedule.rate(epoch * self._schedule.epochs // self.epochs)
            loss = self._train_epoch(epoch, method, wrapped, optimiser, preparation, fabric)
            point = Point(epoch + 1, loss, time.perf_counter() - started)
            if (epoch + 1) % every == 0:
                point = replace(
                    point,
                    image_auroc=tester.image_auroc(method),
                    pixel_auroc=tester.pixel_auroc(method, mode=self.settings.mode),
                )
            curve.append(point)
            _save(self.checkpoint, network, optimiser, curve)
            self.progress(len(curve), self.epochs)
            to_do = self.epochs - len(curve)
            if self.measured is not None and point.image_auroc is not None and to_do:
                self.measured(point, to_do * (time.perf_counter() - began) / (len(curve) - first))
        return tuple(curve)

    def _train_epoch(
        self,
        epoch: int,
        method: TrainedMethod,
        wrapped: nn.Module,
        optimiser: torch.optim.Optimizer,
        preparation: Preparation,
        fabric: Fabric,
    ) -> float:
        """The mean loss of one epoch; `wrapped` is the method's network as Fabric trains it."""
        # Dropout draws from torch's generator: seeded anew, so that a resumed run draws as an uninterrupted one.
        torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
        method.network.train()
        losses = []
        for batch in self._batches(preparation, epoch):
            inputs, masks, anomalous = (fabric.to_device(part) for part in batch)
            inputs = inputs.contiguous(memory_format=torch.channels_last)  # (N, C, S, S)
            loss = method.loss(wrapped, inputs, masks, anomalous ^ self.recipe.swap_roles)
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def _batches(self, preparation: Preparation, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        dataset = EpochDataset.of_epoch(
            self.task.nominal,
            self.anomalies if self.method in SUPERVISED else None,
            preparation,
            supervision=self.recipe.supervision,
            passes=self._schedule.passes,
            seed=(self.seed, epoch),
        )
        # The data set is in random order already. A last batch of one image would break batch normalisation.
        batch = self._schedule.batch
        last_alone = len(dataset) % batch == 1 and len(dataset) > 1
        loader = DataLoader(dataset, batch_size=batch, num_workers=self.settings.workers, drop_last=last_alone)
        try:
            yield from loader
        except BlemishError as error:
            # From a worker process it comes as a traceback, whose last line is "module.Error: the sentence".
            last = str(error).strip().splitlines()[-1]
            raise BlemishError(last.partition("Error: ")[2] if self.settings.workers else last) from error


def _optimiser(schedule: TrainingSchedule, network: nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    common: dict[str, Any] = {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay, "fused": True}
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(trained, momentum=0.9, nesterov=True, **common)
    return torch.optim.Adam(trained, **common)


def _save(checkpoint: Checkpoint, network: nn.Module, optimiser: torch.optim.Optimizer, curve: list[Point]) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    checkpoint.save(tensors | optimiser_tensors(optimiser), {"curve": [asdict(point) for point in curve]})


def _resume(checkpoint: Checkpoint, network: nn.Module, optimiser: torch.optim.Optimizer) -> list[Point]:
    saved = checkpoint.load()
    if saved is None:
        return []
    tensors, numbers = saved
    weights = under("network.", tensors)
    if set(weights) != set(network.state_dict()):
        return []  # of another version, whose layers had other names: nothing is lost but time
    network.load_state_dict(weights)
    load_optimiser(optimiser, tensors)
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                # The fused optimisers pair values by their place in memory, and a file knows no memory format.
                moments[name] = torch.empty_like(parameter).copy_(value)
    return [Point(**point) for point in numbers["curve"]]


def checkpoint_in(folder: Path, *, key: str) -> Checkpoint:
    """The checkpoint of the run whose results go into `folder`."""
    return Checkpoint(folder / "checkpoint", key)
