"""Learning from labelled defects, masks and outlier exposure: one more output beside the distances.

Every defect is also shown turned, mirrored, relit and transplanted into other images, and features take the style of
other images (MixStyle). The branch sees the maps themselves and not distances to a position's Gaussian: a defect is
one wherever it lies.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.networks.defect_branch import DefectBranch
from blemish.training.anomaly_sources import Anomaly, ImageAugmentation, nominal_copies
from blemish.training.config import DefectBranchConfig
from blemish.training.feature_extraction import FeatureExtraction, stacked
from blemish.training.mixstyle import mixstyle
from blemish.training.trainer import Anomalies, Training, coverage, train_classifier

STAGE = "defect branch"  # in progress reports and names of checkpoints


def train_defect_branch(
    branch: DefectBranch,
    images: npt.NDArray[np.uint8],
    nominal: Sequence[int],
    anomalies: Sequence[Anomaly],
    *,
    augmentation: ImageAugmentation,
    extraction: FeatureExtraction,
    training: Training,
    config: DefectBranchConfig,
    mix_styles: bool = True,
) -> None:
    """Trains the defect branch, in place.

    Args:
        branch: the network.
        images: all training images, uint8 (N, H, W, 3).
        nominal: indices of the nominal ones to learn from.
        anomalies: what to tell them from.
        augmentation: how copies of nominal images are altered, as those of the anomalies were.
        extraction: computes the maps.
        training: how to train.
        config: its constants.
        mix_styles: whether images take the style of others (MixStyle).
    """

    def inputs(shown: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        batches = (branch.inputs(extraction.sharded(batch)).half().cpu() for batch in stacked(shown))
        return _in_one(batches, len(shown))

    rng = np.random.default_rng(training.seed)
    good = [images[index] for index in nominal[: config.nominal_images]]
    clean = inputs([*good, *nominal_copies(images, nominal, config.nominal_copies, rng, augmentation=augmentation)])
    shown = inputs([one.image for one in anomalies])
    masks = torch.stack([coverage(one.mask, shown.shape[-2:]) for one in anomalies])
    names = sorted({one.kind for one in anomalies})
    kinds = torch.tensor([names.index(one.kind) for one in anomalies])
    train_classifier(
        branch.classifier,
        nominal=clean,
        anomalies=Anomalies(shown, masks, kinds),
        training=training,
        stage=STAGE,
        config=config,
        feature_augmentation=partial(mixstyle, probability=config.mixstyle_probability) if mix_styles else None,
    )
    branch.eval()


@torch.inference_mode()
def scale_defect_branch(
    branch: DefectBranch,
    images: npt.NDArray[np.uint8],
    unseen: Sequence[int],
    distances: Tensor,
    *,
    extraction: FeatureExtraction,
    relative_scale: float,
) -> None:
    """Brings the branch's outputs to the scale of the distances, by nominal images.

    On the half of images with the highest maps, what it reaches is `relative_scale` times what the distances reach.

    The objective leaves the scale of a logit open; on one scale neither of the two hides the other. A mean over many
    images varies less from sample to sample than a quantile.

    Args:
        branch: trained; `logit_centre` and `logit_scale` are set.
        images: all training images, uint8 (N, H, W, 3).
        unseen: indices of nominal ones, best such that it has not learned from.
        distances: (n, h, w), of the same images, out of fold.
        extraction: computes the maps.
        relative_scale: more would hide defects that no label shows.
    """
    batches = stacked(images[index] for index in unseen)
    logits = torch.cat([branch.classifier(branch.inputs(extraction.sharded(batch))) for batch in batches])
    centre = logits.median()
    branch.logit_centre.fill_(centre)
    branch.logit_scale.fill_(
        (_top_half_mean(logits - centre) / (relative_scale * _top_half_mean(distances)).clamp(min=1e-6)).clamp(min=1e-6)
    )


def _in_one(batches: Iterable[Tensor], rows: int) -> Tensor:
    """Batches (n, ...) as one tensor of so many rows, without holding all of them twice, as joining them would."""
    whole, done = torch.empty(0), 0
    for batch in batches:
        if not done:
            whole = batch.new_empty(rows, *batch.shape[1:])
        whole[done : done + len(batch)] = batch
        done += len(batch)
    return whole


def _top_half_mean(maps: Tensor) -> Tensor:
    """The mean of the highest values of maps (N, h, w), over the half of the images where these are highest."""
    largest = maps.amax((1, 2))
    return largest.topk((len(largest) + 1) // 2).values.mean()
