"""FCDD (Liznerski et al. 2021): a network that is trained to give anomaly maps, from nominal and anomalous images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from blemish.networks.extractor import FeatureExtractor
from blemish.networks.fcdd_head import FcddHead
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.losses import pixel_loss
from blemish.networks.trained_backbone import ALL_LAYERS, BackboneAndHead, trainable_from
from blemish.networks.upsampling import Resample, gaussian_upsampling
from blemish.training.anomaly_sources import ImageAugmentation
from blemish.training.data import TrainingData
from blemish.training.epochs import train_epochs
from blemish.training.feature_extraction import FeatureExtraction
from blemish.training.image_draws import ImageDraws
from blemish.training.method import Method, TrainedNetwork
from blemish.training.trainer import Training

STAGE = "fcdd"  # in progress reports and names of checkpoints
WATCHED = 2**32  # the number of an epoch that there is not, whose draws are watched

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)


class Fcdd(Method):
    """Trains convolutions on a backbone's maps, and the backbone itself from a layer on if that is asked for.

    With masks Y of m pixels and the upsampled anomaly map A', it minimises equation 3 of the paper,

        (1/m) sum_j (1-Y_j) A'_j - log(1 - exp(-(1/m) sum_j Y_j A'_j)).

    Where only the label of an image is known, its mask is everywhere: that is equation 2.
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
        return TrainedNetwork(pyramid.to(training.fabric.device), learner.head.eval(), self.config.fcdd.sigma)

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
        head = FcddHead(
            pyramid,
            maps=constants.maps,
            layers=constants.layers if extractor.pretrained else 0,
            kernel_size=constants.kernel_size,
            hidden=constants.hidden_channels,
        )
        upsample = gaussian_upsampling(pyramid.field, size=size, sigma=constants.sigma).to(fabric.device)
        if frozen:
            extraction = FeatureExtraction(pyramid, fabric, training.processes, data.input_mask)
            # Copies, since no gradient goes through what was computed in inference mode.
            return _Learner(head, head, upsample, lambda images: [one.clone() for one in extraction.sharded(images)])
        network = BackboneAndHead(extractor, head, data.input_mask)
        return _Learner(network, head, upsample, lambda images: fabric.to_device(torch.from_numpy(images)))

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
                maps = learner.upsample(wrapped(learner.inputs(images)))  # (N, H, W)
                yield pixel_loss(maps, fabric.to_device(torch.from_numpy(masks)))

        learner.network.to(fabric.device).to(memory_format=torch.channels_last)
        train_epochs(
            learner.network,
            losses,
            steps=steps,
            training=training,
            stage=STAGE,
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
                    scores += learner.upsample(learner.network(part).float()).amax((1, 2)).tolist()
            nominal, anomalous = np.array(scores[:number]), np.array(scores[number:])
            auroc = float((np.sign(anomalous[:, None] - nominal) / 2 + 0.5).mean())
            if training.processes.is_main:
                training.log.scalar("held-out AUROC", auroc, epoch)
            training.notify(f"{STAGE}: epoch {epoch} of {training.epochs}: loss {loss:.3f}, held-out AUROC {auroc:.3f}")

        return say


@dataclass(frozen=True)
class _Learner:
    """What is trained.

    Attributes:
        network: inputs to the anomaly map A (N, h, w).
        head: the part of it above the backbone.
        upsample: A to network size.
        inputs: makes the network's inputs of images.
    """

    network: nn.Module
    head: FcddHead
    upsample: Resample
    inputs: Callable[[Images], Any]
