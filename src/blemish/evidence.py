"""Learning from labelled defects, masks and outlier exposure: one more output beside the closed form.

A few masks go a long way when every defect is seen turned, mirrored, relit, and set into other images. The network
sees the features as they are, not whitened place by place: a defect is one wherever it lies.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.networks.heads import CellNetwork, Head
from blemish.refinement import Anomalies, Training, coverage, each_batch, refine
from blemish.training_anomalies import Anomaly, nominal_copies

MOST_NOMINAL = 500  # images whose features are kept, 360 KB each at 256 px
COPIES = 240  # of nominal images, turned and relit as the defects are
RARE = 0.9  # the quantile of nominal images' largest values at which gate and evidence are made to agree


def learn_evidence(
    head: Head,
    images: npt.NDArray[np.uint8],
    fit: Sequence[int],
    validation: Sequence[int],
    anomalies: Sequence[Anomaly],
    *,
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
        extract: features (n, C, h, w) of images (n, H, W, 3).
        training: how to train.

    Returns:
        The network, for `Head`, on the head's device.
    """

    def features(some: npt.NDArray[np.uint8]) -> Tensor:
        return extract(some).half().cpu()

    device = head.gaussian.mean.device
    rng = np.random.default_rng(training.seed)
    nominal = [features(images[index : index + 1]) for index in fit[:MOST_NOMINAL]]
    nominal += [features(copy[None]) for copy in nominal_copies(images, fit, COPIES, rng)]
    shown, masks, kinds = [], [], []
    for one in anomalies:
        shown.append(features(one.image[None]))
        masks.append(coverage(one.mask, shown[-1].shape[-2:]))
        kinds.append(one.kind)
        training.progress("anomalies", len(shown), len(anomalies))
    names = sorted(set(kinds))
    numbers = torch.tensor([names.index(kind) for kind in kinds])

    evidence = CellNetwork(channels=shown[0].shape[1])
    known = Anomalies(torch.cat(shown), torch.stack(masks), numbers)
    refine(evidence, nominal=torch.cat(nominal), anomalies=known, training=training, stage="evidence")
    evidence.eval()
    judged = torch.cat([features(images[index : index + 1]) for index in (validation or fit[:MOST_NOMINAL])])
    _scale(evidence, head, judged, device)
    return evidence


@torch.inference_mode()
def _scale(evidence: CellNetwork, head: Head, nominal: Tensor, device: torch.device) -> None:
    """Makes what one nominal image in ten reaches as large in the evidence as it is in the head's own norm.

    The objective leaves the scale of a logit open; so neither of the two drowns the other's nominal noise.
    """
    logits = torch.cat([evidence(some) for some in each_batch(nominal, device)])
    norms = torch.cat([head.squares(some).sqrt() for some in each_batch(nominal, device)])
    centre = logits.median()
    loud = torch.quantile((logits - centre).amax((1, 2)), RARE)
    usual = torch.quantile(norms.amax((1, 2)), RARE)
    evidence.centre.fill_(centre)
    evidence.spread.fill_((loud / usual).clamp(min=1e-6))
