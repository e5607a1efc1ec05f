"""Methods whose networks are trained by gradient descent, from an image folder to a head on a backbone's maps.

A new one is a subclass of `Method` and an entry of `blemish.plugins.METHODS`, beside the normal models
(`blemish.networks.normal_model`), which are fitted to frozen features without a gradient step. Alignment, ignore mask,
calibration and the model file are the same for both.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from blemish.errors import BlemishError
from blemish.networks.extractor import FeatureExtractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import NormalModel
from blemish.plugins import METHODS
from blemish.training.config import TrainConfig
from blemish.training.data import TrainingData
from blemish.training.trainer import Training


@dataclass(frozen=True)
class TrainedNetwork:
    """What a method has learned.

    Attributes:
        pyramid: pixels to maps.
        head: these maps to the anomaly map A >= 0 (N, h, w) on the grid of `pyramid.field`.
        sigma: standard deviation in pixels of the Gaussian that enlarges A, see `networks.build.assemble`.
    """

    pyramid: FeaturePyramid
    head: nn.Module
    sigma: float


class Method(ABC):
    """Learns a network from nominal and anomalous images.

    Args:
        config: every option and constant of the training.

    Attributes:
        fallback_synthetic: the synthetic anomaly that it learns from where there is no other anomalous image: a name
            in `blemish.plugins.SYNTHETIC`.
    """

    fallback_synthetic: ClassVar[str] = "confetti"

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    @abstractmethod
    def fit(self, extractor: FeatureExtractor, data: TrainingData, training: Training) -> TrainedNetwork:
        """Trains a network.

        It calls `training.progress`, and keeps its state by `training.checkpoint`, so that a killed training goes on.
        The result depends on nothing but the arguments and `training.seed`.

        Args:
            extractor: the backbone; it stays as it is, and a method that changes its weights changes those of a copy.
            data: what to learn from. Images are aligned already.
            training: how.

        Raises:
            BlemishError: the images, or an option, do not suit the method.
        """


def method_kind(name: str) -> type[NormalModel] | type[Method]:
    """What a name in `blemish.plugins.METHODS` stands for.

    Raises:
        BlemishError: there is no such method, or its entry is neither of the two.
    """
    kind = METHODS.load(name)
    if isinstance(kind, type) and issubclass(kind, NormalModel | Method):
        return kind
    raise BlemishError(f"the method {name!r} is no subclass of NormalModel or Method: {METHODS[name]}")


def synthetic_anomaly_of(config: TrainConfig, *, labelled: bool) -> str:
    """The synthetic anomaly that a training learns from: that of the configuration, or the method's own.

    Args:
        config: of the training.
        labelled: whether there are labelled defects.
    """
    kind = method_kind(config.method)
    if config.synthetic != "none" or labelled or config.outlier_exposure is not None or not issubclass(kind, Method):
        return config.synthetic
    return kind.fallback_synthetic
