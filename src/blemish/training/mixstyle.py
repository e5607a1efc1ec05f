"""Features of images in the look of others, so that what is learned from few images holds for more of their kind.

A texture, a lamp or an exposure shows in the mean and the spread of each channel over an image; where something is,
in how a cell differs from them. The first are exchanged, the second stays (compare "Domain Generalization with
MixStyle", Zhou et al. 2021).
"""

import torch
from torch import Tensor

MIN_SPREAD = 1e-5  # so that a channel that is the same everywhere divides nothing by zero


def mixstyle(features: Tensor, generator: torch.Generator, *, probability: float) -> Tensor:
    """Features (N, C, h, w), some images with the means and spreads of another one's channels.

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
    varied = (features[taken] - own_mean) / own_spread.clamp(min=MIN_SPREAD) * spread + mean
    return features.index_copy(0, taken, varied)
