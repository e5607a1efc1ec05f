"""The objectives of FCDD (Liznerski et al. 2021, equations 2 and 3), with sound numerics near zero.

A network's output phi becomes the anomaly map A = sqrt(phi^2 + 1) - 1, the pseudo-Huber loss of every location.
Nominal locations are pulled to zero; anomalous ones are pushed up through -log(1 - exp(-a)).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this the anomalous term goes on along its tangent: the slope of -log(1 - exp(-a)), which is -1/a near zero,
# stays at a thousand instead of overflowing.
MIN_ANOMALY = 1e-3


def pseudo_huber(outputs: Tensor) -> Tensor:
    """sqrt(x^2 + 1) - 1 of every element, without the cancellation that makes it 0 for |x| < 2e-4 in float32."""
    squares = outputs * outputs
    return squares / (torch.sqrt(squares + 1) + 1)


def anomalous_loss(distances: Tensor) -> Tensor:
    """-log(1 - exp(-a)) of every element a >= 0, finite with a finite slope down to a = 0."""
    kept = distances.clamp(min=MIN_ANOMALY)
    slope = 1 / torch.expm1(torch.tensor(MIN_ANOMALY)).item()
    return -torch.log(-torch.expm1(-kept)) + slope * (kept - distances)


def image_loss(maps: Tensor, anomalous: Tensor) -> Tensor:
    """FCDD with image labels (equation 2): mean over the batch of (1-y) a - y log(1 - exp(-a)), a = mean of A.

    Args:
        maps: anomaly maps A >= 0, float (N, ...).
        anomalous: labels y, bool (N,). Any mix is right, also a batch of one label.

    Returns:
        A scalar.
    """
    distances = maps.flatten(1).mean(1)  # (N,)
    return torch.where(anomalous, anomalous_loss(distances), distances).mean()


def pixel_loss(maps: Tensor, masks: Tensor) -> Tensor:
    """FCDD with masks (equation 3): mean over the batch of (1/m) sum (1-Y) A' - log(1 - exp(-(1/m) sum Y A')).

    The second term is left out for images without an anomalous pixel, for which it would be infinite.

    Args:
        maps: upsampled anomaly maps A' >= 0, float (N, H, W), m = H*W.
        masks: Y, bool (N, H, W), true where anomalous.

    Returns:
        A scalar.
    """
    nominal = torch.where(masks, 0.0, maps).mean((1, 2))  # (N,)
    anomalous = torch.where(masks, maps, 0.0).mean((1, 2))  # (N,)
    has_anomaly = masks.flatten(1).any(1)
    return (nominal + torch.where(has_anomaly, anomalous_loss(anomalous), 0.0)).mean()


def cell_loss(logits: Tensor, coverage: Tensor, *, min_coverage: float) -> Tensor:
    """FCDD with masks, cell by cell, for networks whose output is a logit.

    The map of a logit x is its softplus, A = log(1 + exp(x)), in place of the pseudo-Huber loss. Then the terms of
    equation 3 are A on nominal cells and -log(1 - exp(-A)) on anomalous ones, which together are the cross-entropy of
    x. Nominal cells count by their mean over the batch. The anomalous cells of each image count by their mean, so that
    a small defect weighs as much as a large one. Cells that a mask barely touches count neither way.

    Args:
        logits: x, float (N, h, w).
        coverage: the share of each cell that is anomalous, 0..1, float (N, h, w).
        min_coverage: the share from which on a cell counts as anomalous.

    Returns:
        A scalar.
    """
    nominal, anomalous = coverage == 0, coverage >= min_coverage
    # An image whose every defect is smaller than that still has its most anomalous cells.
    most = coverage.amax((1, 2), keepdim=True)
    anomalous |= (coverage == most) & (most > 0)
    has_anomaly = anomalous.flatten(1).any(1)
    pull = torch.where(nominal, F.softplus(logits), 0.0).sum() / nominal.sum().clamp(min=1)
    push = torch.where(anomalous, F.softplus(-logits), 0.0).sum((1, 2)) / anomalous.sum((1, 2)).clamp(min=1)  # (N,)
    return pull + push.sum() / has_anomaly.sum().clamp(min=1)


def detection_loss(logits: Tensor, coverage: Tensor, *, min_coverage: float, worst: float, weight: float) -> Tensor:
    """`cell_loss` with hard negatives: more weight for the cells that decide the score of a nominal image.

    An image is judged by the largest value of its map, which the mean over all nominal cells hardly notices. So the
    highest cells of each image that has no anomaly count once more, by their mean over the batch (hard negatives).

    Args:
        logits: x, float (N, h, w).
        coverage: the share of each cell that is anomalous, 0..1, float (N, h, w).
        min_coverage: see `cell_loss`.
        worst: the share of an image's cells that are its highest.
        weight: of these cells.

    Returns:
        A scalar.
    """
    loss = cell_loss(logits, coverage, min_coverage=min_coverage)
    nominal = logits[coverage.amax((1, 2)) == 0].flatten(1)  # (n, h w)
    if not len(nominal):
        return loss
    highest = nominal.topk(max(1, round(worst * nominal.shape[1]))).values
    return loss + weight * F.softplus(highest).mean()


def hypersphere_distance(outputs: Tensor) -> Tensor:
    """sqrt(||phi||^2 + 1) - 1 of every output vector (N, D): the score (N,) of hypersphere classification (HSC)."""
    squares = outputs.square().sum(1)
    return squares / (torch.sqrt(squares + 1) + 1)
