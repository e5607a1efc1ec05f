"""Fits one network to the images that are not held out for calibration.

Parts that lie in any direction on a plain background are turned upright (`blemish.training.steps.alignment`); then the
method learns a head on the backbone's maps, and the parts are put together.
"""

from dataclasses import replace
from functools import partial

from blemish.networks.build import assemble
from blemish.networks.detector import DetectorNetwork
from blemish.networks.extractor import FeatureExtractor
from blemish.networks.normal_model import NormalModel
from blemish.training.config import TrainConfig
from blemish.training.data import TrainingData
from blemish.training.method import Method, method_kind
from blemish.training.normal_model_method import NormalModelMethod
from blemish.training.steps.alignment import align_images
from blemish.training.trainer import Training


def fit_detector(
    extractor: FeatureExtractor, data: TrainingData, training: Training, *, config: TrainConfig | None = None
) -> DetectorNetwork:
    """A network on a backbone, not yet calibrated.

    Args:
        extractor: the backbone, which stays as it is.
        data: what to learn from.
        training: how.
        config: the method, and every constant; by default those of `TrainConfig`.

    Raises:
        BlemishError: the images, or an option, do not suit the method.
    """
    config = config or TrainConfig()
    fitted, device = data.alignment, training.fabric.device
    if data.input_mask is not None:
        data = replace(data, input_mask=data.input_mask.to(device))
    if fitted is not None:
        report = partial(training.progress, "turning upright")
        data = replace(data, pixels=align_images(data.pixels, fitted, progress=report))
    made = _method(config).fit(extractor, data, training)
    return assemble(
        made.pyramid,
        made.head,
        input_mask=data.input_mask,
        alignment=None if fitted is None else fitted.alignment,
        sigma=made.sigma,
    ).to(device)


def _method(config: TrainConfig) -> Method:
    kind = method_kind(config.method)
    return NormalModelMethod(config) if issubclass(kind, NormalModel) else kind(config)
