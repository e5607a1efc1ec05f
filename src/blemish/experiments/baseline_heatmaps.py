"""Heatmaps of the paper's baselines, whose networks give none themselves (FCDD section 4)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur


def gradient_maps(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """|d score / d input|, summed over the channels: HSC's heatmap, before the blur.

    Args:
        score: images (N, C, H, W) -> scores (N,), each of its own image alone: have the network in eval mode.
        images: float (N, C, H, W).

    Returns:
        Maps >= 0, (N, H, W). The network's own gradients stay as they were.
    """
    with torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        # An image's score does not depend on the others: the gradient of the sum holds all gradients.
        (gradients,) = torch.autograd.grad(score(inputs).sum(), inputs)
    return gradients.abs().sum(1)


def blur(maps: Tensor, *, kernel: int, sigma: float) -> Tensor:
    """A Gaussian blur that adds up to one, the border mirrored.

    Args:
        maps: float (N, H, W).
        kernel: side of the window in pixels, odd: the extent of the receptive field of the FCDD network that the
            map is set beside. Less than twice the maps' sides.
        sigma: standard deviation in pixels.

    Returns:
        Maps of the same size, (N, H, W).
    """
    return gaussian_blur(maps[:, None], [kernel, kernel], [sigma, sigma])[:, 0]


def reconstruction_maps(autoencoder: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Squared error of the reconstruction, averaged over the channels.

    Args:
        autoencoder: images (N, C, H, W) -> reconstructions (N, C, H, W); have the network in eval mode.
        images: float (N, C, H, W).

    Returns:
        Maps >= 0, (N, H, W).
    """
    return (autoencoder(images) - images).square().mean(1)
