"""The trained methods of the paper as graphs from uint8 pixels to anomaly maps: what a model file of Blemish holds."""

import copy

import torch
from torch import Tensor, nn

from blemish.experiments.augmentation import Normalisation, local_contrast
from blemish.experiments.baseline_heatmaps import reconstruction_maps
from blemish.experiments.gaussian import Gaussian
from blemish.experiments.methods import Autoencoder, Fcdd, Hypersphere, Method
from blemish.experiments.networks.lite0 import Lite0Features
from blemish.experiments.recipe import Recipe
from blemish.networks.detector import DetectorNetwork
from blemish.networks.losses import hypersphere_distance, pseudo_huber

# ITU-R 601 luma in 1/65536, as Pillow converts RGB to grey; all sums stay below 2^24, where float32 is exact.
LUMA = (19595.0, 38470.0, 7471.0)
LUMA_SCALE = 65536.0


class FcddMaps(nn.Module):
    """Inputs (N, C, S, S) to FCDD's upsampled maps (N, S, S)."""

    def __init__(self, method: Fcdd) -> None:
        super().__init__()
        self.network, self.upsample = method.network, method.upsample

    def forward(self, inputs: Tensor) -> Tensor:
        """A'(X), the upsampled pseudo-Huber function of phi."""
        maps: Tensor = self.upsample(pseudo_huber(self.network(inputs)[:, 0]))
        return maps


class HypersphereMaps(nn.Module):
    """Inputs (N, C, S, S) to flat maps (N, S, S), the score of HSC in every pixel: gradients are in no graph."""

    def __init__(self, method: Hypersphere) -> None:
        super().__init__()
        self.network = method.network

    def forward(self, inputs: Tensor) -> Tensor:
        """The distance from the centre, in every pixel."""
        distances = hypersphere_distance(self.network(inputs))  # (N,)
        return distances[:, None, None] + torch.zeros_like(inputs[:, 0])


class ReconstructionMaps(nn.Module):
    """Inputs (N, C, S, S) to the squared error of each pixel (N, S, S), averaged over the channels."""

    def __init__(self, method: Autoencoder) -> None:
        super().__init__()
        self.network = method.network

    def forward(self, inputs: Tensor) -> Tensor:
        """The squared error of the reconstruction."""
        return reconstruction_maps(self.network, inputs)


class PreparedNetwork(nn.Module):
    """A trained network with the preparation of its images: uint8 pixels (N, S, S, 3) to anomaly maps (N, S, S).

    Args:
        maps: inputs (N, C, S, S) to maps (N, S, S).
        normalisation: what the recipe does to every image.
        channels: 1 for a grey network, whose images are converted as Pillow does, or 3.
        side: S in pixels.
    """

    shift: Tensor
    scale: Tensor
    luma: Tensor

    def __init__(self, maps: nn.Module, normalisation: Normalisation, *, channels: int, side: int) -> None:
        super().__init__()
        self.maps = copy.deepcopy(maps)
        for part in self.maps.modules():
            if isinstance(part, Lite0Features):
                part.fix_size((side, side))
        self.size = (side, side)
        self._channels, self._local_contrast = channels, normalisation.lcn
        self.register_buffer("shift", normalisation.shift)
        self.register_buffer("scale", normalisation.scale)
        self.register_buffer("luma", torch.tensor(LUMA)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps (N, S, S) of uint8 pixels (N, S, S, 3)."""
        images = pixels.permute(0, 3, 1, 2).float()  # (N, 3, S, S), 0..255
        if self._channels == 1:
            images = torch.floor(((images * self.luma).sum(1, keepdim=True) + LUMA_SCALE / 2) / LUMA_SCALE)
        images = images / 255
        if self._local_contrast:
            images = local_contrast(images)
        maps: Tensor = self.maps((images - self.shift) / self.scale)
        return maps


def deployed(method: Method, normalisation: Normalisation, recipe: Recipe) -> PreparedNetwork | DetectorNetwork:
    """The network of a model file: a copy on the processor, in evaluation mode.

    Args:
        method: a trained or fitted method.
        normalisation: of its images.
        recipe: gives the size and the channels of its images; Gaussians have a size of their own, and colour.
    """
    maps: nn.Module
    if isinstance(method, Gaussian):
        return copy.deepcopy(method.network.detector).cpu().eval()
    if isinstance(method, Fcdd):
        maps = FcddMaps(method)
    elif isinstance(method, Hypersphere):
        maps = HypersphereMaps(method)
    else:
        assert isinstance(method, Autoencoder)
        maps = ReconstructionMaps(method)
    return PreparedNetwork(maps, normalisation, channels=recipe.reading.channels, side=recipe.size).cpu().eval()
