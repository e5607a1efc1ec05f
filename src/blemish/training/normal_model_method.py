"""A normal model on a frozen backbone, and what labels add to it.

1. A normal model, by default a Gaussian a position at several depths, is fitted to the features of nominal images.
2. Where there are labelled defects, an outlier-exposure folder or synthetic anomalies, the FCDD objective trains a
   small network, the defect branch, whose output joins the distances of the normal model.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from blemish.networks.build import build_detector, build_normal_model
from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import DetectorNetwork
from blemish.networks.extractor import FeatureExtractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.head import BackgroundWeight, Head
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.registry import synthetic_anomaly
from blemish.training.anomaly_sources import (
    Anomaly,
    ImageAugmentation,
    labelled_anomalies,
    outlier_anomalies,
    synthetic_anomalies,
)
from blemish.training.config import TrainConfig
from blemish.training.data import TrainingData
from blemish.training.feature_extraction import FeatureExtraction, NominalMaps
from blemish.training.method import Method, TrainedNetwork
from blemish.training.steps.alignment import FittedAlignment
from blemish.training.steps.defect_branch import scale_defect_branch, train_defect_branch
from blemish.training.trainer import Training, coverage


class NormalModelMethod(Method):
    """Fits the normal model that the configuration names; see the module."""

    fallback_synthetic = "none"

    def fit(self, extractor: FeatureExtractor, data: TrainingData, training: Training) -> TrainedNetwork:
        """See `Method.fit`."""
        config, device = self.config, training.fabric.device
        size = data.pixels.images.shape[1:3]
        pyramid = FeaturePyramid(extractor, size=size, stride=config.map.stride).eval().to(device)
        extraction = FeatureExtraction(pyramid, training.fabric, training.processes, data.input_mask)
        normal_model = build_normal_model(config.method, pyramid, config).to(device)
        fitted = data.alignment
        background = nn.Identity() if fitted is None else _background_weight(fitted, pyramid, config).to(device)
        distances = normal_model.fit(NominalMaps(extraction, data.pixels.images, data.fit, training.progress))
        distances = background(distances.to(device)).cpu()
        build = partial(
            build_detector,
            pyramid,
            normal_model,
            background=background,
            input_mask=data.input_mask,
            sigma=config.map.sigma,
        )
        branch = None
        if data.labelled or data.outliers is not None or data.synthetic != "none":
            branch = _train_defect_branch(build().to(device), distances, data, extraction, training, config)
        return TrainedNetwork(pyramid, build(defect_branch=branch).head, config.map.sigma)


def _background_weight(fitted: FittedAlignment, pyramid: FeaturePyramid, config: TrainConfig) -> BackgroundWeight:
    """Makes less of distances beside the aligned part."""
    foreground = coverage(fitted.foreground, pyramid.field.grid) > 0
    return BackgroundWeight(foreground, config.map.background_weight)


def _train_defect_branch(
    network: DetectorNetwork,
    distances: Tensor,
    data: TrainingData,
    extraction: FeatureExtraction,
    training: Training,
    config: TrainConfig,
) -> DefectBranch:
    """The defect branch beside a network without one, which gave its training images these distances out of fold."""
    images, fit, constants = data.pixels.images, data.fit, config.defect_branch
    branch = DefectBranch(network.pyramid, maps=constants.maps, hidden=constants.hidden_channels)
    branch = branch.to(extraction.fabric.device)
    validation = set(data.validation)
    others = [index for index in fit if index not in validation]
    train_defect_branch(
        branch,
        images,
        others,
        _known_anomalies(data, others, network, extraction, training, config),
        augmentation=ImageAugmentation(config.augmentation, data.aspect),
        extraction=extraction,
        training=training,
        config=constants,
        # Outliers are not of the kind of the nominal images: their style is part of what tells them apart.
        mix_styles=data.outliers is None,
    )
    if not len(distances):  # a single nominal image
        assert isinstance(network.head, Head)
        with torch.inference_mode():
            distances = network.head.distance(extraction.sharded(images[list(fit)])).cpu()
    places = [place for place, index in enumerate(fit[: len(distances)]) if index in validation]
    places = places or list(range(len(distances)))
    scale_defect_branch(
        branch,
        images,
        [fit[place] for place in places],
        distances[places],
        extraction=extraction,
        relative_scale=constants.relative_scale,
    )
    return branch


def _known_anomalies(
    data: TrainingData,
    nominal: Sequence[int],
    network: DetectorNetwork,
    extraction: FeatureExtraction,
    training: Training,
    config: TrainConfig,
) -> list[Anomaly]:
    """What the defect branch learns to tell from good images: labelled, from a folder, and synthetic."""
    rng, constants = np.random.default_rng(training.seed), config.defect_branch
    pixels, known = data.pixels, []
    if data.labelled:
        known += labelled_anomalies(
            pixels,
            data.labelled,
            nominal,
            augmentation=ImageAugmentation(config.augmentation, data.aspect),
            predict_map=partial(_map, network, extraction),
            rng=rng,
            config=constants,
        )
    if data.outliers is not None:
        known += outlier_anomalies(
            data.outliers,
            pixels.images.shape[1:3],
            rng,
            at_most=constants.outlier_images,
            reading=pixels.reading,
        )
    if data.synthetic != "none":
        folder = None if data.outliers is None else OutlierFolder(data.outliers, reading=pixels.reading)
        make = synthetic_anomaly(data.synthetic, outliers=folder)
        known += synthetic_anomalies(pixels.images, nominal, make, constants.synthetic_images, rng, name=data.synthetic)
    if data.input_mask is not None:
        ignored = data.input_mask.ignored.cpu().numpy()
        known = [replace(one, mask=one.mask & ~ignored) for one in known]
    return known


def _map(
    network: DetectorNetwork, extraction: FeatureExtraction, image: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Anomaly map (H, W) of one image (H, W, 3) by the torch module as it stands."""
    with torch.inference_mode():
        anomaly_map: Tensor = network(extraction.fabric.to_device(torch.from_numpy(np.array(image[None]))))[0]
        return extraction.processes.broadcast(anomaly_map).cpu().numpy()
