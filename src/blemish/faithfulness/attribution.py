"""Heatmaps of a detector's score by attribution methods of Captum, for comparison with FCDD's own map."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blemish.faithfulness.differentiable import differentiable
from blemish.faithfulness.inpainting import Pixels
from blemish.faithfulness.measures import Explainer, Map
from blemish.model.detector import Detector

# Pixels: attributions are smoothed as the detector's upsampling does, or scattered pixels would count against them.
SIGMA = 5.0
STEPS = 32
WINDOWS = 8  # the occluding window is an eighth of the image, moved by half of itself


def attribution_methods(model: Path, detector: Detector) -> dict[str, Explainer]:
    """The methods by name; each takes an image and a nominal fill, uint8 (H, W, 3), to a map (H, W).

    gradient
        sum over the channels of |ds/dx|; the fill is not used.
    integrated gradients
        |sum over the channels| of (x - fill) times the mean gradient on 32 points of the straight way from the fill
        to x (Gauss-Legendre; Sundararajan, Taly and Yan 2017).
    occlusion
        the fall of s when a window takes the fill's pixels, averaged over the windows on a pixel (Zeiler and Fergus
        2014); the windows are an eighth of height and width, at every half of that.

    s is the image's score, the maximum of the anomaly map. All maps are smoothed by a Gaussian of 5 pixels.

    Raises:
        BlemishError: the model's graph has no gradient.
    """
    network = differentiable(model)

    def score(pixels: Tensor) -> Tensor:
        """Scores (1,) of grey levels (1, H, W, 3)."""
        scores: Tensor = network(pixels).amax((1, 2))
        return scores

    def file_score(pixels: Tensor) -> Tensor:
        """The same through the model file, without gradients, for any number of images."""
        return torch.from_numpy(detector.forward(pixels.to(torch.uint8).numpy())[1])

    saliency, integrated, occlusion = Saliency(score), IntegratedGradients(score), Occlusion(file_score)
    height, width = (side // WINDOWS for side in detector.metadata.size)

    def gradient(pixels: Pixels, fill: Pixels) -> Map:
        return _smooth(saliency.attribute(_tensor(pixels).requires_grad_()).sum(-1))

    def integrated_gradients(pixels: Pixels, fill: Pixels) -> Map:
        parts = integrated.attribute(_tensor(pixels), _tensor(fill), n_steps=STEPS, internal_batch_size=1)
        return _smooth(parts.sum(-1).abs())

    def occluded(pixels: Pixels, fill: Pixels) -> Map:
        falls = occlusion.attribute(
            _tensor(pixels),
            sliding_window_shapes=(height, width, 3),
            strides=(height // 2, width // 2, 3),
            baselines=_tensor(fill),
            perturbations_per_eval=8,
        )
        return _smooth(falls[..., 0])  # the same in all channels

    return {"gradient": gradient, "integrated gradients": integrated_gradients, "occlusion": occluded}


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels, dtype=np.float32))[None]


def _smooth(attributions: Any) -> Map:
    """Attributions (1, H, W), smoothed."""
    values: npt.NDArray[np.float32] = attributions[0].detach().numpy()
    smooth: Map = gaussian_filter(values.astype(np.float32), SIGMA, mode="nearest")
    return smooth
