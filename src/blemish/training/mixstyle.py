"""MixStyle: features take the style of other images ("Domain Generalization with MixStyle", Zhou et al. 2021).

A texture, a lamp or an exposure shows in the mean and the standard deviation of each channel over an image. These are
exchanged between images. What differs from them, cell by cell, stays.
"""

import torch
from torch import Tensor

EPS = 1e-5  # so that a channel that is the same everywhere divides nothing by zero


def mixstyle(features: Tensor, generator: torch.Generator, *, probability: float) -> Tensor:
    """Features (N, C, h, w), where an image may take the channels' means and standard deviations of another one.

    Args:
        features: of different images, on the CPU.
        generator: decides which images take whose style.
        probability: with which an image does.
    """
    taken = (torch.rand(len(features), generator=generator) < probability).nonzero().flatten()
    if not len(taken):
        return features
    givers = torch.randperm(len(features), generator=generator)[taken]
    own_spread, own_mean = torch.std_mean(features[taken], (2, 3), keepdim=True)  # (n, C, 1, 1)
    spread, mean = torch.std_mean(features[givers], (2, 3), keepdim=True)
    varied = (features[taken] - own_mean) / own_spread.clamp(min=EPS) * spread + mean
    return features.index_copy(0, taken, varied)
