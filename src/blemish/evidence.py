"""Learning from labelled defects, masks and outlier exposure: one more output beside the closed form.

A few masks go a long way when every defect is seen turned, mirrored, relit, and set into other images. The network
sees the features as they are, not whitened place by place: a defect is one wherever it lies.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.networks.cells import CellNetwork
from blemish.networks.heads import Head
from blemish.refinement import BATCH, Anomalies, Training, coverage, each_batch, refine
from blemish.synthetic.turned import Freedom
from blemish.training_anomalies import Anomaly, nominal_copies

MOST_NOMINAL = 500  # images whose features are kept, 360 KB each at 256 px
COPIES = 240  # of nominal images, turned and relit as the defects are
HIDDEN = 64
RARE = 0.9  # the quantile of nominal images' largest values at which gate and evidence are made to agree


def learn_evidence(
    head: Head,
    images: npt.NDArray[np.uint8],
    fit: Sequence[int],
    validation: Sequence[int],
    anomalies: Sequence[Anomaly],
    *,
    freedom: Freedom,
    extract: Callable[[npt.NDArray[np.uint8]], Tensor],
    training: Training,
) -> CellNetwork:
    """Trains the evidence network and brings it to the scale of the head's own norm.

    Args:
        head: the closed form, with its gate where it has one.
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the nominal ones to learn from.
        validation: indices of nominal ones that nothing was fitted to, for the scale; where there are none, `fit` has
            to do.
        anomalies: what to tell them from.
        freedom: how nominal images may be turned.
        extract: features (n, C, h, w) of images (n, H, W, 3).
        training: how to train.

    Returns:
        The network, for `Head`, on the head's device.
    """

    def features(some: Iterable[npt.NDArray[np.uint8]]) -> Tensor:
        chosen = list(some)
        batches = (np.stack(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))
        return torch.cat([extract(batch).half().cpu() for batch in batches])

    rng = np.random.default_rng(training.seed)
    good = [images[index] for index in fit[:MOST_NOMINAL]]
    nominal = features([*good, *nominal_copies(images, fit, COPIES, rng, freedom=freedom)])
    shown = features(one.image for one in anomalies)
    masks = torch.stack([coverage(one.mask, shown.shape[-2:]) for one in anomalies])
    names = sorted({one.kind for one in anomalies})
    kinds = torch.tensor([names.index(one.kind) for one in anomalies])

    evidence = CellNetwork(channels=shown.shape[1], hidden=HIDDEN, wide=True)
    refine(evidence, nominal=nominal, anomalies=Anomalies(shown, masks, kinds), training=training, stage="evidence")
    evidence.eval()
    held_back = features([images[index] for index in validation]) if validation else nominal[: len(good)]
    _scale(evidence, head, held_back)
    return evidence


@torch.inference_mode()
def _scale(evidence: CellNetwork, head: Head, nominal: Tensor) -> None:
    """Makes what one nominal image in ten reaches as large in the evidence as it is in the head's own norm.

    The objective leaves the scale of a logit open; so neither of the two drowns the other's nominal noise.
    """
    device = head.gaussian.mean.device
    logits = torch.cat([evidence(some) for some in each_batch(nominal, device)])
    norms = torch.cat([head.squares(some).sqrt() for some in each_batch(nominal, device)])
    centre = logits.median()
    loud = torch.quantile((logits - centre).amax((1, 2)), RARE)
    usual = torch.quantile(norms.amax((1, 2)), RARE)
    evidence.centre.fill_(centre)
    evidence.spread.fill_((loud / usual.clamp(min=1e-6)).clamp(min=1e-6))
