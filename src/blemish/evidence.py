"""Learning from labelled defects, masks and outlier exposure: one more output beside the closed form.

A few masks go a long way when every defect is seen turned, mirrored, relit, and set into other images, and when its
features, and those of good images, take the looks of others. The network sees them as they are, not whitened place by
place: a defect is one wherever it lies.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.closed_form import FOLDS, CrossFit
from blemish.extraction import WithMaps
from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid
from blemish.networks.heads import Head
from blemish.networks.sharp_cells import SharpCells
from blemish.objectives import detection_loss
from blemish.refinement import BATCH, Anomalies, Training, Variation, coverage, refine
from blemish.training_anomalies import Alteration, Anomaly, nominal_copies

MOST_NOMINAL = 500  # images whose features are kept, up to 410 KB each at 256 px
COPIES = 240  # of nominal images, turned and relit as the defects are
HIDDEN = 64
QUIET = 0.85  # times as loud as the norm: evidence may not drown defects that no label shows


def evidence_network(features: FeatureGrid) -> CellNetwork:
    """A network that has learned nothing yet."""
    return SharpCells(features, hidden=HIDDEN)


def learn_evidence(
    evidence: CellNetwork,
    head: Head,
    cross_fit: CrossFit,
    images: npt.NDArray[np.uint8],
    fit: Sequence[int],
    validation: Collection[int],
    anomalies: Sequence[Anomaly],
    *,
    alteration: Alteration,
    extract: WithMaps,
    training: Training,
    vary: Variation | None = None,
) -> None:
    """Trains the evidence network, in place, and brings it to the scale of the head's own norm.

    Args:
        evidence: the network.
        head: that of the cross-fit, with its gate where it has one.
        cross_fit: fitted to the images `fit`, in order; its head is fitted to all of them in the end.
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the nominal ones.
        validation: some of these, which the evidence does not learn from, for the scale; where there are none, the
            others have to do.
        anomalies: what to tell them from.
        alteration: how copies of nominal images are altered, as those of the anomalies were.
        extract: what `FeatureGrid.with_maps` makes of images (n, H, W, 3).
        training: how to train.
        vary: see `refine`.
    """

    def features(some: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        seen = (evidence.sees(*extract(batch)).half().cpu() for batch in _stacks(some))
        return _in_one(seen, len(some))

    rng = np.random.default_rng(training.seed)
    others = [index for index in fit if index not in validation]
    good = [images[index] for index in others[:MOST_NOMINAL]]
    nominal = features([*good, *nominal_copies(images, others, COPIES, rng, alteration=alteration)])
    shown = features([one.image for one in anomalies])
    masks = torch.stack([coverage(one.mask, shown.shape[-2:]) for one in anomalies])
    names = sorted({one.kind for one in anomalies})
    kinds = torch.tensor([names.index(one.kind) for one in anomalies])

    refine(
        evidence,
        nominal=nominal,
        anomalies=Anomalies(shown, masks, kinds),
        training=training,
        stage="evidence",
        objective=detection_loss,
        vary=vary,
    )
    evidence.eval()
    batches = _left_out(cross_fit, images, fit, validation) if validation else _stacks(good)
    _scale(evidence, head, (extract(batch) for batch in batches))


def _stacks(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Images (H, W, 3) as batches (n, H, W, 3)."""
    chosen = list(images)
    return (np.stack(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))


def _in_one(batches: Iterable[Tensor], rows: int) -> Tensor:
    """Batches (n, ...) as one tensor of so many rows, without holding all of them twice, as joining them would."""
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:
            whole = batch.new_empty(rows, *batch.shape[1:])
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


def _left_out(
    cross_fit: CrossFit, images: npt.NDArray[np.uint8], fit: Sequence[int], chosen: Collection[int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The images `chosen` of `fit` in batches, fold by fold, while the head is one that was not fitted to them."""
    for fold in range(FOLDS):
        cross_fit.leave_out(fold)
        yield from _stacks(images[index] for index in fit[fold::FOLDS] if index in chosen)
    cross_fit.fit_all()


@torch.inference_mode()
def _scale(evidence: CellNetwork, head: Head, nominal: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
    """Makes what the louder half of nominal images reaches a little less in the evidence than in the head's own norm.

    The objective leaves the scale of a logit open; so neither of the two drowns in the other's nominal noise. A mean of
    many images varies less from draw to draw than a quantile of few.
    """
    seen = [(evidence(evidence.sees(*some)), head.norms(*some)[0]) for some in nominal]
    logits, norms = (torch.cat(parts) for parts in zip(*seen, strict=True))
    centre = logits.median()
    evidence.centre.fill_(centre)
    evidence.spread.fill_((_loud(logits - centre) / (QUIET * _loud(norms)).clamp(min=1e-6)).clamp(min=1e-6))


def _loud(maps: Tensor) -> Tensor:
    """The mean over the louder half of images of what their maps (N, h, w) reach."""
    largest = maps.amax((1, 2))
    return largest.topk((len(largest) + 1) // 2).values.mean()
