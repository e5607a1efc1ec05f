"""A method of your own in a script: the distance to the most similar nominal image, position by position.

    python examples/own_method.py

About ten seconds on two cores. docs/extending.md shows how a package registers a method for every program.
"""

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

import blemish
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import MIN_DISTANCE, NominalImages, NormalModel, out_of_fold
from blemish.plugins import METHODS
from blemish.training.config import TrainConfig

SIDE = 64  # pixels
FOLDS = 4
MAX_IMAGES = 100  # nominal images that are kept


class NearestImage(NormalModel):
    """Root mean square difference from the nominal image that is nearest at each position."""

    memory: Tensor  # (m, C, h, w)

    def __init__(self, pyramid: FeaturePyramid, config: TrainConfig) -> None:
        super().__init__(pyramid, config)
        self.map = pyramid.fields.index(pyramid.field)
        self.register_buffer("memory", torch.empty(0))
        self.register_buffer("unit", torch.ones(()))

    @torch.inference_mode()
    def fit(self, nominal: NominalImages) -> Tensor:
        """Keeps the nominal images; their out-of-fold distances (n, h, w)."""
        own = torch.cat([maps[self.map] for maps in nominal.batches("features", at_most=MAX_IMAGES)])
        features = nominal.processes.all_gather(own)  # (n, C, h, w)

        def without(fold: int) -> Callable[[Tensor], Tensor]:
            self.memory = features[torch.arange(len(features)) % FOLDS != fold]
            return self._distance

        held_out = out_of_fold(features, FOLDS, without)
        self.memory = features
        self.unit = held_out.mean().clamp(min=MIN_DISTANCE)
        return (held_out / self.unit).cpu()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Distances (N, h, w); 1 is usual for a nominal image."""
        return self._distance(maps[self.map]) / self.unit

    def _distance(self, features: Tensor) -> Tensor:
        differences = features[:, None] - self.memory[None]  # (N, m, C, h, w)
        return differences.square().mean(2).amin(1).sqrt()


def main() -> None:
    """Trains it on noise, and scores noise with a black square."""
    METHODS.add("nearest-image", "__main__:NearestImage")
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (44, SIDE, SIDE, 3), dtype=np.uint8)
    images[-4:, 20:40, 20:40] = 0

    with TemporaryDirectory() as folder:
        blemish.fit(images[:40], f"{folder}/noise.onnx", method="nearest-image", size=SIDE, false_alarm_rate=0.2)
        detector = blemish.Detector.load(f"{folder}/noise.onnx")  # a model file like any other
    print(detector.predict(images[-4:]).verdicts)


if __name__ == "__main__":
    main()
