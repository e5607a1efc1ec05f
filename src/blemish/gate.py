"""Learning the gate: which deviations from the closed form are the ordinary variation of good images.

Synthetic anomalies are painted on the good images. Both are seen through a closed form that was not fitted to them,
as new images will be; seen through their own they would look far too much alike to learn from.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.closed_form import FOLDS, MOST_HELD_OUT, CrossFit
from blemish.networks.cells import CellNetwork
from blemish.networks.heads import with_distance
from blemish.refinement import BATCH, Anomalies, Training, coverage, each_batch, refine
from blemish.training_anomalies import SyntheticKind, paint

MOST_SYNTHETIC = 768
MOST_PER_IMAGE = 24


def learn_gate(
    cross_fit: CrossFit,
    images: npt.NDArray[np.uint8],
    fit: Sequence[int],
    *,
    kind: SyntheticKind,
    extract: Callable[[npt.NDArray[np.uint8]], Tensor],
    training: Training,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> CellNetwork:
    """Trains a gate for the head of a cross-fit.

    Args:
        cross_fit: fitted to the images `fit`, two or more, in order; its head is fitted to all of them in the end.
        images: all training images, uint8 (N, H, W, 3).
        fit: indices of the nominal ones.
        kind: what to paint.
        extract: features (n, C, h, w) of images (n, H, W, 3).
        training: how to train.
        ignored: bool (H, W), where nothing is to be found.

    Returns:
        The gate, for `Head`, on the device of the cross-fit's head.
    """
    gaussian = cross_fit.head
    sources = _sources(min(len(fit), MOST_HELD_OUT), np.random.default_rng(training.seed))
    whiten = partial(_whiten, cross_fit)
    nominal, painted, masks = [], [], []
    with torch.inference_mode():
        for fold in range(min(FOLDS, len(fit))):
            left_out = cross_fit.leave_out(fold)
            nominal += [whiten(some) for some in each_batch(left_out, gaussian.mean.device)]
            numbers = np.flatnonzero(sources % FOLDS == fold)
            for some in np.split(numbers, range(BATCH, len(numbers), BATCH)):
                made = [
                    paint(
                        images,
                        fit[sources[number]],
                        kind,
                        np.random.default_rng((training.seed, number)),
                        nominal=fit,
                        ignored=ignored,
                    )
                    for number in some
                ]
                painted.append(whiten(extract(np.stack([one.image for one in made]))))
                masks += [coverage(one.mask, gaussian.scale.shape) for one in made]
                training.progress("synthetic anomalies", len(masks), len(sources))
        cross_fit.fit_all()
    gate = CellNetwork(channels=gaussian.directions + 1)
    clean = torch.cat(nominal)
    anomalies = Anomalies(torch.cat(painted), torch.stack(masks), torch.zeros(len(masks), dtype=torch.int64))
    refine(gate, nominal=clean, anomalies=anomalies, training=training, stage="gate")
    gate.eval()
    with torch.inference_mode():
        logits = torch.cat([gate(some).flatten() for some in each_batch(clean, gaussian.mean.device)])
    gate.centre.fill_(logits.mean())
    gate.spread.fill_(logits.std().clamp(min=1e-6))
    return gate


def _whiten(cross_fit: CrossFit, features: Tensor) -> Tensor:
    """v and |phi|, float16 on the CPU."""
    whitened = cross_fit.head.whiten(features)
    return with_distance(whitened, cross_fit.head.distance(whitened)).half().cpu()


def _sources(images: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which image each synthetic anomaly is painted on: all equally often, or a choice where there are very many."""
    most = min(MOST_SYNTHETIC, MOST_PER_IMAGE * images)
    rounds = [rng.permutation(images) for _ in range(-(-most // images))]
    return np.concatenate(rounds)[:most]
