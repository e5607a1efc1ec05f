"""Learning one network from images that calibration knows nothing of, top to bottom.

1. Parts that lie in any direction on a plain background are turned upright: `blemish.training.steps.alignment`.
2. A Gaussian a position is fitted to the features of good images, at three depths of a frozen backbone.
3. Where there are labelled defects, masks or an outlier-exposure folder, the FCDD objective trains a small network,
   the evidence, whose output joins the distances to the Gaussians.
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
from blemish.datasets.splits import evenly
from blemish.networks.backbones import Backbone
from blemish.networks.defect_branch import Evidence
from blemish.networks.detector import DetectorNetwork
from blemish.networks.feature_pyramid import Features
from blemish.networks.head import Head
from blemish.networks.input_mask import Interest
from blemish.synthetic.augment import ANY
from blemish.training.anomaly_sources import Anomaly, labelled_anomalies, outlier_anomalies
from blemish.training.feature_extraction import Extraction
from blemish.training.mixstyle import mixstyle
from blemish.training.steps.alignment import Upright, learn_alignment, turn
from blemish.training.steps.defect_branch import learn_evidence, scale_evidence
from blemish.training.steps.gaussian_estimation import MAX_LEFT_OUT, fit_head, fit_projections
from blemish.training.trainer import Training, coverage

MAX_FOR_AXES = 128  # images that principal components are taken of


@dataclass(frozen=True)
class Material:
    """What one network learns from.

    Attributes:
        pixels: all training images.
        fit: indices of the good images to learn from.
        validation: some of these, which the evidence does not learn from: they scale it.
        labelled: indices of labelled defects.
        outliers: a folder for outlier exposure.
        interest: what it is to be blind to.
        align: whether parts are turned upright, where that makes them alike.
        aspect: how high a pixel is over how wide.
    """

    pixels: Pixels
    fit: Sequence[int]
    validation: Sequence[int]
    labelled: Sequence[int]
    outliers: Path | None
    interest: Interest | None
    align: bool = True
    aspect: float = 1.0


def learn(trunk: Backbone, material: Material, training: Training) -> DetectorNetwork:
    """A network on a backbone, not yet calibrated."""
    device = training.fabric.device
    interest = None if material.interest is None else material.interest.to(device)

    # 1. Parts turned upright
    upright = _learn_upright(material, training)
    if upright is not None:
        told = partial(training.progress, "turning upright")
        material = replace(material, pixels=turn(material.pixels, upright, progress=told))

    # 2. Gaussians
    features = Features(trunk, size=material.pixels.images.shape[1:3]).eval().to(device)
    extraction = Extraction(features, training.fabric, training.ranks, interest)
    part = None if upright is None else coverage(upright.part, features.field.grid) > 0
    head = Head(features, part=part).eval().to(device)
    distances = _fit_gaussians(head, material, extraction, training)
    network = DetectorNetwork(features, head, interest=interest).eval().to(device)

    # 3. Evidence
    if material.labelled or material.outliers is not None:
        head.evidence = _learn_evidence(network, distances, material, extraction, training)
    alignment = None if upright is None else upright.alignment
    return DetectorNetwork(features, head, interest=interest, alignment=alignment).eval().to(device)


def _learn_upright(material: Material, training: Training) -> Upright | None:
    """How parts are turned upright, where they lie in any direction and that is asked for."""
    upright = learn_alignment(material.pixels.images, material.fit, aspect=material.aspect) if material.align else None
    if upright is not None:
        training.notify(
            "parts lie in any direction on a plain background: each is turned upright, and what lies in the background "
            "counts for less; --no-align takes images as they are"
        )
    return upright


def _fit_gaussians(head: Head, material: Material, extraction: Extraction, training: Training) -> Tensor:
    """Fits features and head to the good images; out-of-fold distances (n, h, w) of the first of them."""
    images, fit, features, ranks = material.pixels.images, material.fit, extraction.features, training.ranks
    told = partial(training.progress, "principal components")
    fit_projections(features, extraction.in_batches(images, evenly(fit, MAX_FOR_AXES), told), ranks=ranks)
    batches = extraction.in_batches(images, fit, partial(training.progress, "features"))
    levels = (features.to_levels(maps) for maps in batches)
    return fit_head(head, levels, ranks=ranks, first=ranks.share(len(fit)).start)


def _learn_evidence(
    network: DetectorNetwork, distances: Tensor, material: Material, extraction: Extraction, training: Training
) -> Evidence:
    """Evidence beside a network that has its Gaussians, and what those make of the first images out of fold."""
    images, fit = material.pixels.images, material.fit
    evidence = Evidence(network.features).to(extraction.fabric.device)
    validation = set(material.validation)
    others = [index for index in fit if index not in validation]
    learn_evidence(
        evidence,
        images,
        others,
        _known_anomalies(material, others, network, extraction, training),
        freedom=replace(ANY, aspect=material.aspect),
        extraction=extraction,
        training=training,
        # What is exposed to is no image of the kind: its look is part of what it is told by.
        vary=mixstyle if material.outliers is None else None,
    )
    if not len(distances):  # a single good image
        with torch.inference_mode():
            levels = network.features.to_levels(extraction.together(images[list(fit)]))
            distances = network.head.distance(levels).cpu()
    places = [place for place, index in enumerate(fit[:MAX_LEFT_OUT]) if index in validation]
    places = places or list(range(len(distances)))
    scale_evidence(evidence, images, [fit[place] for place in places], distances[places], extraction=extraction)
    return evidence


def _known_anomalies(
    material: Material,
    nominal: Sequence[int],
    network: DetectorNetwork,
    extraction: Extraction,
    training: Training,
) -> list[Anomaly]:
    """What the evidence learns to tell from good images: labelled defects and outlier exposure."""
    rng = np.random.default_rng(training.seed)
    pixels, known = material.pixels, []
    if material.labelled:
        known += labelled_anomalies(
            pixels,
            material.labelled,
            nominal,
            freedom=replace(ANY, aspect=material.aspect),
            suspect=partial(_map, network, extraction),
            rng=rng,
        )
    if material.outliers is not None:
        known += outlier_anomalies(material.outliers, pixels.images.shape[1:3], rng, reading=pixels.reading)
    if material.interest is not None:
        ignored = material.interest.ignored.cpu().numpy()
        known = [replace(one, mask=one.mask & ~ignored) for one in known]
    return known


def _map(network: DetectorNetwork, extraction: Extraction, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Anomaly map (H, W) of one image (H, W, 3) by the torch module as it stands."""
    with torch.inference_mode():
        anomaly_map: Tensor = network(extraction.fabric.to_device(torch.from_numpy(np.array(image[None]))))[0]
        return extraction.ranks.same(anomaly_map).cpu().numpy()
