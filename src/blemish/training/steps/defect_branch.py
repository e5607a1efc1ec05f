"""Learning from labelled defects, masks and outlier exposure: one more output beside the distances.

A few masks go a long way when every defect is seen turned, mirrored, relit, and set into other images, and when its
features, and those of good images, take the looks of others. The network sees them as they are, not whitened position
by position: a defect is one wherever it lies.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.networks.defect_branch import Evidence
from blemish.networks.losses import detection_loss
from blemish.synthetic.augment import Freedom
from blemish.training.anomaly_sources import Anomaly, nominal_copies
from blemish.training.feature_extraction import Extraction, stacked
from blemish.training.trainer import Anomalies, Training, Variation, coverage, refine

MAX_NOMINAL = 500  # images whose inputs are kept, up to 480 KB each at 256 px
COPIES = 240  # of nominal images, turned and relit as the defects are
QUIET = 0.85  # times as loud as the distances: evidence may not drown defects that no label shows


def learn_evidence(
    evidence: Evidence,
    images: npt.NDArray[np.uint8],
    nominal: Sequence[int],
    anomalies: Sequence[Anomaly],
    *,
    freedom: Freedom,
    extraction: Extraction,
    training: Training,
    vary: Variation | None = None,
) -> None:
    """Trains the evidence network, in place.

    Args:
        evidence: the network.
        images: all training images, uint8 (N, H, W, 3).
        nominal: indices of the nominal ones to learn from.
        anomalies: what to tell them from.
        freedom: how copies of nominal images are turned, as those of the anomalies were.
        extraction: looks at images.
        training: how to train.
        vary: see `refine`.
    """

    def inputs(some: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        seen = (evidence.inputs(extraction.together(batch)).half().cpu() for batch in stacked(some))
        return _in_one(seen, len(some))

    rng = np.random.default_rng(training.seed)
    good = [images[index] for index in nominal[:MAX_NOMINAL]]
    clean = inputs([*good, *nominal_copies(images, nominal, COPIES, rng, freedom=freedom)])
    shown = inputs([one.image for one in anomalies])
    masks = torch.stack([coverage(one.mask, shown.shape[-2:]) for one in anomalies])
    names = sorted({one.kind for one in anomalies})
    kinds = torch.tensor([names.index(one.kind) for one in anomalies])
    refine(
        evidence,
        nominal=clean,
        anomalies=Anomalies(shown, masks, kinds),
        training=training,
        stage="evidence",
        objective=detection_loss,
        vary=vary,
    )
    evidence.eval()


@torch.inference_mode()
def scale_evidence(
    evidence: Evidence,
    images: npt.NDArray[np.uint8],
    unseen: Sequence[int],
    distances: Tensor,
    *,
    extraction: Extraction,
) -> None:
    """Makes what the louder half of nominal images reaches a little less in the evidence than in the distances.

    The objective leaves the scale of a logit open; so neither of the two drowns in the other's nominal noise. A mean of
    many images varies less from draw to draw than a quantile of few.

    Args:
        evidence: trained; its centre and spread are set.
        images: all training images, uint8 (N, H, W, 3).
        unseen: indices of nominal ones, best such that it has not learned from.
        distances: (n, h, w), of the same images, out of fold.
        extraction: looks at images.
    """
    batches = stacked(images[index] for index in unseen)
    logits = torch.cat([evidence(evidence.inputs(extraction.together(batch))) for batch in batches])
    centre = logits.median()
    evidence.centre.fill_(centre)
    evidence.spread.fill_((_loud(logits - centre) / (QUIET * _loud(distances)).clamp(min=1e-6)).clamp(min=1e-6))


def _in_one(batches: Iterable[Tensor], rows: int) -> Tensor:
    """Batches (n, ...) as one tensor of so many rows, without holding all of them twice, as joining them would."""
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:
            whole = batch.new_empty(rows, *batch.shape[1:])
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


def _loud(maps: Tensor) -> Tensor:
    """The mean over the louder half of images of what their maps (N, h, w) reach."""
    largest = maps.amax((1, 2))
    return largest.topk((len(largest) + 1) // 2).values.mean()
