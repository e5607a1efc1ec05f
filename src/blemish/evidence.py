"""Learning from labelled defects, masks and outlier exposure: one more output beside the closed form.

A few masks go a long way when every defect is seen turned, mirrored, relit, and set into other images, and when its
features, and those of good images, take the looks of others. The network sees them as they are, not whitened place by
place: a defect is one wherever it lies.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.networks.cells import CellNetwork
from blemish.networks.features import FeatureGrid
from blemish.networks.heads import Head
from blemish.networks.sharp_cells import SharpCells
from blemish.objectives import detection_loss
from blemish.refinement import BATCH, Anomalies, Training, Variation, coverage, refine
from blemish.training_anomalies import Alteration, Anomaly, nominal_copies

WithMaps = Callable[[npt.NDArray[np.uint8]], tuple[Tensor, Sequence[Tensor]]]

MOST_NOMINAL = 500  # images whose features are kept, up to 410 KB each at 256 px
COPIES = 240  # of nominal images, turned and relit as the defects are
HIDDEN = 64
RARE = 0.9  # the quantile of nominal images' largest values at which gate and evidence are made to agree


def evidence_network(features: FeatureGrid) -> CellNetwork:
    """A network that has learned nothing yet."""
    return SharpCells(features, hidden=HIDDEN)


def learn_evidence(
    evidence: CellNetwork,
    head: Head,
    images: npt.NDArray[np.uint8],
    fit: Sequence[int],
    validation: Sequence[int],
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
        head: the closed form, with its gate where it has one.
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the nominal ones to learn from.
        validation: indices of nominal ones that nothing was fitted to, for the scale; where there are none, `fit` has
            to do.
        anomalies: what to tell them from.
        alteration: how copies of nominal images are altered, as those of the anomalies were.
        extract: what `FeatureGrid.with_maps` makes of images (n, H, W, 3).
        training: how to train.
        vary: see `refine`.
    """

    def features(some: Iterable[npt.NDArray[np.uint8]]) -> Tensor:
        return torch.cat([evidence.sees(*extract(batch)).half().cpu() for batch in _stacks(some)])

    rng = np.random.default_rng(training.seed)
    good = [images[index] for index in fit[:MOST_NOMINAL]]
    nominal = features([*good, *nominal_copies(images, fit, COPIES, rng, alteration=alteration)])
    shown = features(one.image for one in anomalies)
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
    held_back = [images[index] for index in validation] or good
    _scale(evidence, head, (extract(batch) for batch in _stacks(held_back)))


def _stacks(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Images (H, W, 3) as batches (n, H, W, 3)."""
    chosen = list(images)
    return (np.stack(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))


@torch.inference_mode()
def _scale(evidence: CellNetwork, head: Head, nominal: Iterable[tuple[Tensor, Sequence[Tensor]]]) -> None:
    """Makes what one nominal image in ten reaches as large in the evidence as it is in the head's own norm.

    The objective leaves the scale of a logit open; so neither of the two drowns the other's nominal noise.
    """
    seen = [(evidence(evidence.sees(*some)), head.norms(*some)[0]) for some in nominal]
    logits, norms = (torch.cat(parts) for parts in zip(*seen, strict=True))
    centre = logits.median()
    loud = torch.quantile((logits - centre).amax((1, 2)), RARE)
    usual = torch.quantile(norms.amax((1, 2)), RARE)
    evidence.centre.fill_(centre)
    evidence.spread.fill_((loud / usual.clamp(min=1e-6)).clamp(min=1e-6))
