"""Learning one network from images that calibration knows nothing of, top to bottom.

1. Parts that lie in any direction on a plain background are turned upright: `blemish.training.steps.alignment`.
2. A Gaussian a position is fitted to the features of good images, at three depths of a frozen backbone.
3. Where there are labelled defects, masks or an outlier-exposure folder, the FCDD objective trains a small network,
   the defect branch, whose output joins the distances to the Gaussians.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.datasets.pixels import Pixels
from blemish.datasets.sampling import evenly
from blemish.networks.defect_branch import DefectBranch
from blemish.networks.detector import DetectorNetwork
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.head import Head
from blemish.networks.input_mask import InputMask
from blemish.networks.timm_cnn import TimmCNN
from blemish.synthetic.augment import ANY
from blemish.training.anomaly_sources import Anomaly, labelled_anomalies, outlier_anomalies
from blemish.training.feature_extraction import FeatureExtraction
from blemish.training.mixstyle import mixstyle
from blemish.training.steps.alignment import FittedAlignment, turn
from blemish.training.steps.defect_branch import scale_defect_branch, train_defect_branch
from blemish.training.steps.gaussian_estimation import MAX_LEFT_OUT, fit_head, fit_projections
from blemish.training.trainer import Training, coverage

MAX_FOR_AXES = 128  # images that principal components are taken of


@dataclass(frozen=True)
class TrainingData:
    """What one network learns from.

    Attributes:
        pixels: all training images.
        fit: indices of the good images to learn from.
        validation: some of these, which the defect branch does not learn from: they scale it.
        labelled: indices of labelled defects.
        outliers: a folder for outlier exposure.
        input_mask: what it is to be blind to.
        alignment: how parts are turned upright; None takes them as they are.
        aspect: how high a pixel is over how wide.
    """

    pixels: Pixels
    fit: Sequence[int]
    validation: Sequence[int]
    labelled: Sequence[int]
    outliers: Path | None
    input_mask: InputMask | None
    alignment: FittedAlignment | None = None
    aspect: float = 1.0


def fit_detector(extractor: TimmCNN, data: TrainingData, training: Training) -> DetectorNetwork:
    """A network on a backbone, not yet calibrated."""
    device = training.fabric.device
    input_mask = None if data.input_mask is None else data.input_mask.to(device)

    # 1. Parts turned upright
    upright = data.alignment
    if upright is not None:
        told = partial(training.progress, "turning upright")
        data = replace(data, pixels=turn(data.pixels, upright, progress=told))

    # 2. Gaussians
    features = FeaturePyramid(extractor, size=data.pixels.images.shape[1:3]).eval().to(device)
    extraction = FeatureExtraction(features, training.fabric, training.processes, input_mask)
    part = None if upright is None else coverage(upright.part, features.field.grid) > 0
    head = Head(features, part=part).eval().to(device)
    distances = _fit_gaussians(head, data, extraction, training)
    network = DetectorNetwork(features, head, input_mask=input_mask).eval().to(device)

    # 3. Defect branch
    if data.labelled or data.outliers is not None:
        head.defect_branch = _train_defect_branch(network, distances, data, extraction, training)
    alignment = None if upright is None else upright.alignment
    return DetectorNetwork(features, head, input_mask=input_mask, alignment=alignment).eval().to(device)


def _fit_gaussians(head: Head, data: TrainingData, extraction: FeatureExtraction, training: Training) -> Tensor:
    """Fits features and head to the good images; out-of-fold distances (n, h, w) of the first of them."""
    images, fit, features, processes = data.pixels.images, data.fit, extraction.features, training.processes
    told = partial(training.progress, "principal components")
    fit_projections(features, extraction.in_batches(images, evenly(fit, MAX_FOR_AXES), told), processes=processes)
    batches = extraction.in_batches(images, fit, partial(training.progress, "features"))
    levels = (features.to_levels(maps) for maps in batches)
    return fit_head(head, levels, processes=processes, first=processes.shard(len(fit)).start)


def _train_defect_branch(
    network: DetectorNetwork, distances: Tensor, data: TrainingData, extraction: FeatureExtraction, training: Training
) -> DefectBranch:
    """The defect branch beside a network that has its Gaussians, and its scale."""
    images, fit = data.pixels.images, data.fit
    branch = DefectBranch(network.features).to(extraction.fabric.device)
    validation = set(data.validation)
    others = [index for index in fit if index not in validation]
    train_defect_branch(
        branch,
        images,
        others,
        _known_anomalies(data, others, network, extraction, training),
        invariances=replace(ANY, aspect=data.aspect),
        extraction=extraction,
        training=training,
        # What is exposed to is no image of the kind: its look is part of what it is told by.
        feature_augmentation=mixstyle if data.outliers is None else None,
    )
    if not len(distances):  # a single good image
        with torch.inference_mode():
            levels = network.features.to_levels(extraction.sharded(images[list(fit)]))
            distances = network.head.distance(levels).cpu()
    places = [place for place, index in enumerate(fit[:MAX_LEFT_OUT]) if index in validation]
    places = places or list(range(len(distances)))
    scale_defect_branch(branch, images, [fit[place] for place in places], distances[places], extraction=extraction)
    return branch


def _known_anomalies(
    data: TrainingData,
    nominal: Sequence[int],
    network: DetectorNetwork,
    extraction: FeatureExtraction,
    training: Training,
) -> list[Anomaly]:
    """What the defect branch learns to tell from good images: labelled defects and outlier exposure."""
    rng = np.random.default_rng(training.seed)
    pixels, known = data.pixels, []
    if data.labelled:
        known += labelled_anomalies(
            pixels,
            data.labelled,
            nominal,
            invariances=replace(ANY, aspect=data.aspect),
            suspect=partial(_map, network, extraction),
            rng=rng,
        )
    if data.outliers is not None:
        known += outlier_anomalies(data.outliers, pixels.images.shape[1:3], rng, reading=pixels.reading)
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
