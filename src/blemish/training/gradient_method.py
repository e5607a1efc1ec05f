"""Methods whose network is trained by gradient descent on drawn images, half nominal and half anomalous.

A new one is a subclass of `GradientMethod`, which says what is trained, with which loss; and an entry of
`blemish.plugins.METHODS`.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from blemish.networks.build import map_upsampling
from blemish.networks.extractor import FeatureExtractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.trained_backbone import ALL_LAYERS, BackboneAndHead, trainable_from
from blemish.networks.upsampling import Resample
from blemish.training.anomaly_sources import ImageAugmentation
from blemish.training.data import TrainingData
from blemish.training.epochs import train_epochs
from blemish.training.feature_extraction import FeatureExtraction
from blemish.training.image_draws import ImageDraws
from blemish.training.method import Method, TrainedNetwork
from blemish.training.trainer import Training

WATCHED = 2**32  # the number of an epoch that there is not, whose draws are watched

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)


@dataclass(frozen=True)
class Objective:
    """What is trained on a backbone's maps, and how.

    Attributes:
        network: maps, each (N, C_k, h_k, w_k), to outputs.
        loss: of outputs and masks Y, bool (N, H, W): a scalar. The mask of an image of which only the label is known
            is true everywhere, or nowhere.
        scores: of outputs: float (N,), higher where an image is more anomalous.
        head: maps to the anomaly map A >= 0 (N, h, w) on the grid of the pyramid; it has the weights of `network`.
    """

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor], Tensor]
    head: nn.Module


class GradientMethod(Method):
    """Trains layers on a backbone's maps, and the backbone itself from a layer on if that is asked for.

    Its constants are in the section "fcdd" of the configuration.

    Attributes:
        stage: its name in progress reports and in the names of checkpoints.
    """

    stage: ClassVar[str]

    @abstractmethod
    def objective(self, cells: GridConvolutions, upsample: Resample) -> Objective:
        """What is trained, on the device of `upsample`.

        Args:
            cells: convolutions of random weights on the backbone's maps.
            upsample: brings a map on their grid to network size.
        """

    def fit(self, extractor: FeatureExtractor, data: TrainingData, training: Training) -> TrainedNetwork:
        """See `Method.fit`."""
        size: tuple[int, int] = data.pixels.images.shape[1:3]
        first = self.config.train_from or (None if extractor.pretrained else ALL_LAYERS)
        if first is not None:
            extractor = trainable_from(extractor, first)
        learner = self._learner(extractor, size, data, training, frozen=first is None)
        held_out = set(data.validation)
        others = [index for index in data.fit if index not in held_out]
        self._train(learner, self._draws(data, others, training), self._watch(learner, data, training), training)
        pyramid = FeaturePyramid(extractor, size=size, stride=self.config.map.stride).eval()
        return TrainedNetwork(pyramid.to(training.fabric.device), learner.objective.head.eval(), self.config.fcdd.sigma)

    def _learner(
        self,
        extractor: FeatureExtractor,
        size: tuple[int, int],
        data: TrainingData,
        training: Training,
        *,
        frozen: bool,
    ) -> "_Learner":
        """The network of random weights above the backbone."""
        constants, fabric = self.config.fcdd, training.fabric
        pyramid = FeaturePyramid(extractor, size=size, stride=self.config.map.stride).eval().to(fabric.device)
        cells = GridConvolutions(
            pyramid,
            maps=constants.maps,
            layers=constants.layers if extractor.pretrained else 0,
            kernel_size=constants.kernel_size,
            hidden=constants.hidden_channels,
        )
        made = self.objective(cells, map_upsampling(pyramid, sigma=constants.sigma).to(fabric.device))
        if frozen:
            extraction = FeatureExtraction(pyramid, fabric, training.processes, data.input_mask)
            # Copies, since no gradient goes through what was computed in inference mode.
            return _Learner(made, made.network, lambda images: [one.clone() for one in extraction.sharded(images)])
        network = BackboneAndHead(extractor, made.network, data.input_mask)
        return _Learner(made, network, lambda images: fabric.to_device(torch.from_numpy(images)))

    def _draws(self, data: TrainingData, nominal: list[int], training: Training) -> ImageDraws:
        augmentation = ImageAugmentation(self.config.augmentation, data.aspect)
        return ImageDraws(data, nominal, augmentation=augmentation, config=self.config.fcdd, seed=training.seed)

    def _train(
        self, learner: "_Learner", draws: ImageDraws, watch: Callable[[int, float], None], training: Training
    ) -> None:
        constants, fabric = self.config.fcdd, training.fabric
        steps = max(1, constants.epoch_images // constants.batch)

        def losses(wrapped: nn.Module, epoch: int) -> Iterator[Tensor]:
            learner.network.train()
            for images, masks in draws.batches(epoch, steps=steps, size=constants.batch):
                outputs = wrapped(learner.inputs(images))
                yield learner.objective.loss(outputs, fabric.to_device(torch.from_numpy(masks)))

        learner.network.to(fabric.device).to(memory_format=torch.channels_last)
        train_epochs(
            learner.network,
            losses,
            steps=steps,
            training=training,
            stage=self.stage,
            optimisation=constants,
            report_steps=True,
            after_epoch=watch,
        )
        training.processes.broadcast_state(learner.network.state_dict())

    def _watch(self, learner: "_Learner", data: TrainingData, training: Training) -> Callable[[int, float], None]:
        """What is said after an epoch: its loss, and the image AUROC of nominal images that are not learned from.

        They are compared with anomalous images that are made of them as those of the training are.
        """
        number = self.config.fcdd.watched_images
        draws = self._draws(data, list(data.validation or data.fit), training)
        images, _ = draws.batch(WATCHED, 0, size=2 * number)
        batch = self.config.fcdd.batch
        inputs = [learner.inputs(images[start : start + batch]) for start in range(0, len(images), batch)]

        def say(epoch: int, loss: float) -> None:
            learner.network.eval()
            scores: list[float] = []
            with torch.inference_mode(), training.fabric.autocast():
                for part in inputs:
                    scores += learner.objective.scores(learner.network(part).float()).tolist()
            nominal, anomalous = np.array(scores[:number]), np.array(scores[number:])
            auroc = float((np.sign(anomalous[:, None] - nominal) / 2 + 0.5).mean())
            if training.processes.is_main:
                training.log.scalar("held-out AUROC", auroc, epoch)
            done = f"{self.stage}: epoch {epoch} of {training.epochs}"
            training.notify(f"{done}: loss {loss:.3f}, held-out AUROC {auroc:.3f}")

        return say


@dataclass(frozen=True)
class _Learner:
    """What is trained.

    Attributes:
        objective: on a backbone's maps.
        network: inputs to the outputs of the objective.
        inputs: makes the network's inputs of images.
    """

    objective: Objective
    network: nn.Module
    inputs: Callable[[Images], Any]
