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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from blemish import copies
from blemish.align import learn_alignment, turn
from blemish.closed_form import CrossFit, fit_in_one
from blemish.datasets.pixels import Pixels
from blemish.datasets.splits import evenly
from blemish.evidence import WithMaps, evidence_network, learn_evidence
from blemish.freedom import learn_freedom
from blemish.gate import learn_gate
from blemish.looks import in_others_looks
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.focus import Focus, small_cells
from blemish.networks.gaussian import GaussianHead, SecondOpinion, View
from blemish.networks.heads import Head
from blemish.networks.interest import Interest
from blemish.networks.network import DetectorNetwork
from blemish.networks.wide_cells import WideCells, lean
from blemish.outsiders import BY_WIDE_CELLS, IN_ANY_POSE, UPRIGHT, holds_outsiders, insiders, ordinary
from blemish.ranks import Extract, Ranks
from blemish.refinement import Training, coverage
from blemish.synthetic.turned import ANY, exposed, relit
from blemish.training_anomalies import Alteration, Anomaly, AnomalyKind, labelled_anomalies, outlier_anomalies
from blemish.variety import MOST, can_tell, differ_as_wholes

Cells = Literal["auto", "small", "wide"]

SIGMA = 5.0  # pixels; a little over half a cell, so that neighbouring cells blend
CACHED = 4  # images whose maps a processor keeps in its cache: more at a time take it nearly twice as long


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


def learn(trunk: Backbone, material: Material, training: Training) -> DetectorNetwork:
    """A network on a backbone, not yet calibrated."""
    pixels, fit, anomalies, interest = material.pixels, material.fit, material.anomalies, material.interest
    size: tuple[int, int] = pixels.images.shape[1:3]
    fabric, ranks, seed, progress = training.fabric, training.ranks, training.seed, training.progress
    ignored = None if interest is None else interest.ignored.numpy()
    if interest is not None:
        interest = interest.to(fabric.device)

    # 1. Parts turned upright
    upright = learn_alignment(pixels.images, fit) if material.align else None
    background: npt.NDArray[np.bool_] | None = None
    if upright is not None:
        training.notify(
            "parts lie in any direction on a plain background: each is turned upright, and what lies in the background "
            "counts for less; --no-align takes images as they are"
        )
        pixels = turn(pixels, upright, progress=partial(progress, "turning upright"))
        background = ~upright.part

    # 2. The ways that good images may be turned
    features = FeatureGrid(trunk, size=size).eval().to(fabric.device)
    alone: Extract = partial(_extract, features, interest, fabric)
    together = ranks.together(alone)
    freedom = ANY
    if len(fit) < copies.ENOUGH_IMAGES or material.labelled or material.outliers is not None:  # else nothing is turned
        freedom = learn_freedom(pixels.images, fit, extract=together, channels=features.channels)

    # 3. The closed form
    deepest = features.deepest()
    look = partial(
        copies.in_batches,
        pixels.images,
        function=ranks.together(partial(_extract, deepest, interest, fabric)),
        progress=partial(progress, "comparing images"),
    )
    wide = _wide_cells(deepest, fit, cells=material.cells, look=look)
    if wide is not None and material.cells == "auto":
        training.notify(
            "good images differ as wholes, each with a look of its own: they are compared by wider cells; "
            "--cells small finds smaller defects in images that are more alike"
        )
    whole = features
    if wide is not None:
        features = deepest
        alone = partial(_extract, lambda some: wide(*deepest.with_maps(some)), interest, fabric)
        together = ranks.together(alone)
    turned = partial(copies.turned_copies, pixels.images, freedom=freedom, seed=seed, ignored=ignored)
    exposures = partial(copies.exposed_copies, pixels.images, seed=seed)

    def altered(some: Sequence[int], *, extract: Extract = alone, told: str = "copies") -> Iterator[Iterator[Tensor]]:
        share, told_so_far = ranks.share(len(some)), partial(progress, told)
        rounds = copies.rounds_of_turned(len(fit), freedom=freedom, upright=upright is not None)
        yield from turned(some, extract=extract, share=share, rounds=rounds, progress=told_so_far)
        if wide is not None:
            yield exposures(some, extract=extract, share=share, progress=told_so_far)

    def gaussian(views: Sequence[View], grid: tuple[int, int]) -> GaussianHead:
        part = None if upright is None else coverage(upright.part, grid) > 0.5
        return GaussianHead(views, grid=grid, part=part).to(fabric.device)

    def closed_form(fit: Sequence[int]) -> CrossFit:
        cells = features if wide is None else wide
        cross_fit = CrossFit(gaussian(cells.views, cells.grid), ranks=ranks)
        share = ranks.share(len(fit))
        cross_fit.fit(
            copies.in_batches(pixels.images, fit[share], alone, partial(progress, "features")),
            copies=altered(fit),
            first=share.start,
        )
        return cross_fit

    def focus(wide: WideCells, fit: Sequence[int]) -> Focus:
        small = partial(_extract, features, interest, fabric)
        head = gaussian([small_cells(features.channels)], features.grid)
        share = ranks.share(len(fit))
        fit_in_one(
            head,
            copies.in_batches(pixels.images, fit[share], small, partial(progress, "small cells")),
            copies=altered(fit, extract=small),
            ranks=ranks,
        )
        return Focus(head)

    def second_opinion(cross_fit: CrossFit, held_back: Sequence[int], *, farthest: float) -> SecondOpinion:
        share = ranks.share(len(held_back))
        return cross_fit.second_opinion(
            copies.in_batches(pixels.images, held_back[share], alone, partial(progress, "held back")),
            copies=altered(held_back, told="copies held back"),
            farthest=farthest,
        )

    cross_fit, farthest = closed_form(fit), math.inf
    # Where more images are fitted to than were looked at, all the others would have to be taken on trust.
    suspicion = UPRIGHT if upright is not None else IN_ANY_POSE if wide is None else BY_WIDE_CELLS
    if len(cross_fit.farthest) == len(fit) and holds_outsiders(cross_fit.farthest.numpy(), suspicion):
        everything = len(fit)
        for _ in range(suspicion.rounds):
            fit = [fit[place] for place in insiders(cross_fit.farthest.numpy(), suspicion)]
            cross_fit = closed_form(fit)
        farthest = ordinary(cross_fit.farthest.numpy(), suspicion)
        training.notify(
            f"{everything - len(fit)} of {everything} good images look unlike the others and are not learned from: "
            "some may be defective"
        )
    head = Head(cross_fit.head, wide=wide, focus=None if wide is None else focus(wide, fit))
    network = DetectorNetwork(features, head, sigma=SIGMA, interest=interest).eval().to(fabric.device)

    # 4. The gate
    # A single image leaves none to fit to when it is left out.
    if anomalies != "none" and not material.labelled and wide is None and len(fit) > 1:
        head.gate = learn_gate(
            cross_fit,
            pixels.images,
            fit,
            kind=anomalies,
            extract=together,
            training=training,
            ignored=ignored if background is None else background,
        )

    # 5. The evidence
    validation = set(material.validation).intersection(fit)
    others = [index for index in fit if index not in validation]
    known: list[Anomaly] = []
    rng = np.random.default_rng(seed)
    alteration = Alteration(freedom, light=relit if wide is None else exposed)
    if material.labelled:
        suspect = partial(_map, network, fabric, ranks)
        known += labelled_anomalies(pixels, material.labelled, others, alteration=alteration, suspect=suspect, rng=rng)
    if material.outliers is not None:
        known += outlier_anomalies(material.outliers, size, rng)
    if ignored is not None:
        known = [replace(one, mask=one.mask & ~ignored) for one in known]
    if known:
        evidence = evidence_network(whole)
        learn_evidence(
            evidence,
            head,
            cross_fit,
            pixels.images,
            fit,
            validation,
            known,
            alteration=alteration,
            extract=_with_maps(features, ranks.together(partial(_extract, _in_one(features), interest, fabric))),
            training=training,
            # What is exposed to is no image of the kind: its look is part of what it is told by.
            vary=in_others_looks if material.outliers is None else None,
        )
        head.evidence = evidence

    # 6. The second opinion, last: nothing else may know the images held back
    if material.held_back:
        head.second = second_opinion(cross_fit, material.held_back, farthest=farthest)
    if wide is not None:
        head.wide, head.gaussian = lean(wide, head.gaussian)
    alignment = None if upright is None else upright.alignment
    network = DetectorNetwork(features, head, sigma=SIGMA, interest=interest, alignment=alignment)
    return network.eval().to(fabric.device)


def _wide_cells(
    features: FeatureGrid, fit: Sequence[int], *, cells: Cells, look: Callable[[Sequence[int]], Iterator[Tensor]]
) -> WideCells | None:
    """Wide cells, where they are asked for or the images `fit` differ as wholes; `look` gives features in batches."""
    of_the_grid = WideCells(features, beyond=None)
    if cells == "auto" and can_tell(len(fit), of_the_grid.grid):
        seen = torch.cat([of_the_grid(batch) for batch in look(evenly(fit, MOST))])
        cells = "wide" if differ_as_wholes(seen) else "small"
    if cells != "wide":
        return None
    return WideCells(features, beyond=features.backbone.beyond()).to(features.backbone.mean.device)


def _extract(
    features: Callable[[Tensor], Tensor], interest: Interest | None, fabric: Fabric, images: npt.NDArray[np.uint8]
) -> Tensor:
    """Features float32 (N, C, h, w) of uint8 pixels (N, H, W, 3)."""
    few = CACHED if fabric.device.type == "cpu" else len(images)
    made = []
    with torch.inference_mode(), fabric.autocast():
        for some in torch.from_numpy(np.array(images)).split(few):
            on_device = fabric.to_device(some)
            made.append(features(interest.blind(on_device) if interest else on_device))
    return torch.cat(made)


def _in_one(features: FeatureGrid) -> Callable[[Tensor], Tensor]:
    """What `with_maps` gives as one tensor (N, numbers), which processes can share."""

    def pack(pixels: Tensor) -> Tensor:
        grid, maps = features.with_maps(pixels)
        return torch.cat([one.flatten(1) for one in (grid, *maps)], dim=1)

    return pack


def _with_maps(features: FeatureGrid, extract: Extract) -> WithMaps:
    """The same, apart again."""
    backbone = features.backbone
    shapes = [(features.channels, *features.grid)]
    shapes += [(channels, *field.grid) for channels, field in zip(backbone.channels, features.fields, strict=True)]

    def unpack(images: npt.NDArray[np.uint8]) -> tuple[Tensor, Sequence[Tensor]]:
        parts = extract(images).split([math.prod(shape) for shape in shapes], dim=1)
        grid, *maps = (part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
        return grid, maps

    return unpack


def _map(
    network: DetectorNetwork, fabric: Fabric, ranks: Ranks, image: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Anomaly map (H, W) of one image (H, W, 3) by the torch module as it stands."""
    with torch.inference_mode():
        anomaly_map = network(fabric.to_device(torch.from_numpy(np.array(image[None]))))[0]
        return ranks.same(anomaly_map).cpu().numpy()
