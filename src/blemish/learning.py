"""Learning one network from images that calibration knows nothing of, top to bottom.

1. Parts that lie in any direction on a plain background are turned upright: `blemish.align`.
2. Turned copies are tried: how may a good image be turned without looking wrong?
3. The closed form: one pass gathers the statistics of `GaussianHead`; where images differ as wholes, of wide cells
   and of the backbone's next blocks. Outsiders are left out where there are many. Small cells bring into focus what
   wide ones find.
4. The gate: synthetic anomalies teach it, by the FCDD objective, what is ordinary variation. Where defects are
   labelled there is none: they say better what matters. Nor is there beside wide cells, where it gains nothing.
5. The evidence: where there are labelled defects, masks or an outlier-exposure folder, the same objective trains a
   second network, whose output joins the closed form.
6. The second opinion: a closed form that knows the images held back as well. It can only make the map smaller, so
   that they can still calibrate all the rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish import copies
from blemish.align import Upright, learn_alignment, turn
from blemish.closed_form import CrossFit
from blemish.datasets.pixels import Pixels
from blemish.datasets.splits import evenly
from blemish.evidence import evidence_network, learn_evidence
from blemish.extraction import Extraction
from blemish.fitting import Fitting
from blemish.freedom import learn_freedom
from blemish.gate import learn_gate
from blemish.looks import in_others_looks
from blemish.networks.backbones import Backbone
from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid
from blemish.networks.heads import Head
from blemish.networks.interest import Interest
from blemish.networks.network import DetectorNetwork
from blemish.networks.wide_cells import WideCells, lean
from blemish.outsiders import BY_WIDE_CELLS, IN_ANY_POSE, UPRIGHT, holds_outsiders, insiders, ordinary
from blemish.refinement import Training
from blemish.synthetic.turned import ANY, Freedom, exposed, relit
from blemish.training_anomalies import Alteration, Anomaly, AnomalyKind, labelled_anomalies, outlier_anomalies
from blemish.variety import MOST, can_tell, differ_as_wholes, in_one_light

Cells = Literal["auto", "small", "wide"]

SIGMA = 5.0  # pixels; a little over half a cell, so that neighbouring cells blend


@dataclass(frozen=True)
class Material:
    """What one network learns from: indices into the pixels, kinds of anomalies, and what it is to be blind to.

    Those of `validation` are some of `fit`; the evidence does not learn from them. Nothing but the second opinion sees
    the images `held_back`; where there are none, there is no second opinion. Parts are turned upright, where that makes
    them alike, if `align`; nothing that the network is to be blind to turns with them. The closed form has the `cells`
    asked for.
    """

    pixels: Pixels
    fit: Sequence[int]
    validation: Sequence[int]
    held_back: Sequence[int]
    labelled: Sequence[int]
    anomalies: AnomalyKind
    outliers: Path | None
    interest: Interest | None
    align: bool = True
    cells: Cells = "auto"
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
    images = material.pixels.images

    # 2. The ways that good images may be turned
    features = FeatureGrid(trunk, size=images.shape[1:3]).eval().to(device)
    extraction = Extraction(training.fabric, training.ranks, interest)
    freedom = _learn_freedom(material, features, extraction)

    # 3. The closed form
    deepest = features.deepest()
    wide = _wide_cells(deepest, material, extraction, training)
    grid = features if wide is None else deepest
    fitting = Fitting(material.pixels, grid, wide, extraction, freedom, upright, training)
    cross_fit, fit, farthest = _fit_to_ordinary(fitting, material.fit)
    head = Head(cross_fit.head, wide=wide, focus=None if wide is None else fitting.focus(fit))
    network = DetectorNetwork(grid, head, sigma=SIGMA, interest=interest).eval().to(device)

    # 4. The gate
    # A single image leaves none to fit to when it is left out.
    if material.anomalies != "none" and not material.labelled and wide is None and len(fit) > 1:
        head.gate = learn_gate(
            cross_fit,
            images,
            fit,
            kind=material.anomalies,
            extract=extraction.together(fitting.cells),
            training=training,
            ignored=fitting.ignored if upright is None else ~upright.part,
        )

    # 5. The evidence
    if material.labelled or material.outliers is not None:
        evidence = evidence_network(features)
        _learn_evidence(evidence, network, cross_fit, fit, material, fitting)
        head.evidence = evidence

    # 6. The second opinion, last: nothing else may know the images held back
    if material.held_back:
        head.second = fitting.second_opinion(cross_fit, material.held_back, farthest=farthest)
    if wide is not None:
        head.wide, head.gaussian = lean(wide, head.gaussian)
    alignment = None if upright is None else upright.alignment
    return DetectorNetwork(grid, head, sigma=SIGMA, interest=interest, alignment=alignment).eval().to(device)


def _learn_upright(material: Material, training: Training) -> Upright | None:
    """How parts are turned upright, where they lie in any direction and that is asked for."""
    upright = learn_alignment(material.pixels.images, material.fit, aspect=material.aspect) if material.align else None
    if upright is not None:
        training.notify(
            "parts lie in any direction on a plain background: each is turned upright, and what lies in the background "
            "counts for less; --no-align takes images as they are"
        )
    return upright


def _learn_freedom(material: Material, features: FeatureGrid, extraction: Extraction) -> Freedom:
    """How copies may be turned, where anything will be."""
    if len(material.fit) >= copies.ENOUGH_IMAGES and not material.labelled and material.outliers is None:
        return replace(ANY, aspect=material.aspect)
    extract = extraction.together(features)
    images, fit = material.pixels.images, material.fit
    return learn_freedom(images, fit, extract=extract, channels=features.channels, aspect=material.aspect)


def _wide_cells(
    features: FeatureGrid, material: Material, extraction: Extraction, training: Training
) -> WideCells | None:
    """Wide cells of a grid's features, where they are asked for or good images differ as wholes."""
    of_the_grid, cells = WideCells(features, beyond=None), material.cells
    if cells == "auto" and can_tell(len(material.fit), of_the_grid.grid):
        images = in_one_light(material.pixels.images[evenly(material.fit, MOST)])
        told = partial(training.progress, "comparing images")
        batches = copies.in_batches(images, range(len(images)), extraction.together(features), told)
        cells = "wide" if differ_as_wholes(torch.cat([of_the_grid(batch) for batch in batches])) else "small"
    if cells != "wide":
        return None
    if material.cells == "auto":
        training.notify(
            "good images differ as wholes, each with a look of its own: they are compared by wider cells; "
            "--cells small finds smaller defects in images that are more alike"
        )
    return WideCells(features, beyond=features.backbone.beyond()).to(features.backbone.mean.device)


def _fit_to_ordinary(fitting: Fitting, fit: Sequence[int]) -> tuple[CrossFit, Sequence[int], float]:
    """The closed form of the images `fit` without outsiders where there are many, those left, and how far they go."""
    cross_fit = fitting.cross_fit(fit)
    suspicion = UPRIGHT if fitting.upright is not None else IN_ANY_POSE if fitting.wide is None else BY_WIDE_CELLS
    # Where more images are fitted to than were looked at, all the others would have to be taken on trust.
    if len(cross_fit.farthest) < len(fit) or not holds_outsiders(cross_fit.farthest.numpy(), suspicion):
        return cross_fit, fit, math.inf
    everything = len(fit)
    for _ in range(suspicion.rounds):
        fit = [fit[place] for place in insiders(cross_fit.farthest.numpy(), suspicion)]
        cross_fit = fitting.cross_fit(fit)
    fitting.training.notify(
        f"{everything - len(fit)} of {everything} good images look unlike the others and are not learned from: "
        "some may be defective"
    )
    return cross_fit, fit, ordinary(cross_fit.farthest.numpy(), suspicion)


def _learn_evidence(
    evidence: CellNetwork,
    network: DetectorNetwork,
    cross_fit: CrossFit,
    fit: Sequence[int],
    material: Material,
    fitting: Fitting,
) -> None:
    """Trains the evidence, in place, beside a network that has its closed form."""
    validation = set(material.validation).intersection(fit)
    others = [index for index in fit if index not in validation]
    alteration = Alteration(fitting.freedom, light=relit if fitting.wide is None else exposed)
    learn_evidence(
        evidence,
        network.head,
        cross_fit,
        material.pixels.images,
        fit,
        validation,
        _known_anomalies(material, others, alteration=alteration, network=network, fitting=fitting),
        alteration=alteration,
        extract=fitting.extraction.with_maps(fitting.features),
        training=fitting.training,
        # What is exposed to is no image of the kind: its look is part of what it is told by.
        vary=in_others_looks if material.outliers is None else None,
    )


def _known_anomalies(
    material: Material, nominal: Sequence[int], *, alteration: Alteration, network: DetectorNetwork, fitting: Fitting
) -> list[Anomaly]:
    """What the evidence learns to tell from good images: labelled defects and outlier exposure."""
    rng = np.random.default_rng(fitting.training.seed)
    pixels, known = material.pixels, []
    if material.labelled:
        suspect = partial(_map, network, fitting.extraction)
        known += labelled_anomalies(pixels, material.labelled, nominal, alteration=alteration, suspect=suspect, rng=rng)
    if material.outliers is not None:
        known += outlier_anomalies(material.outliers, pixels.images.shape[1:3], rng, reading=pixels.reading)
    if fitting.ignored is not None:
        known = [replace(one, mask=one.mask & ~fitting.ignored) for one in known]
    return known


def _map(network: DetectorNetwork, extraction: Extraction, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Anomaly map (H, W) of one image (H, W, 3) by the torch module as it stands."""
    with torch.inference_mode():
        anomaly_map: Tensor = network(extraction.fabric.to_device(torch.from_numpy(np.array(image[None]))))[0]
        return extraction.ranks.same(anomaly_map).cpu().numpy()
