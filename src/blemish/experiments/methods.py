"""FCDD and the paper's baselines: what each minimises, how it scores an image and where its heatmap comes from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from blemish.experiments.baseline_heatmaps import blur, gradient_maps, reconstruction_maps
from blemish.experiments.gaussian import Gaussian
from blemish.experiments.networks.baselines import build_autoencoder, build_hsc
from blemish.experiments.networks.fcdd import build, field
from blemish.experiments.recipe import MethodName, Mode, Recipe
from blemish.networks.losses import hypersphere_distance, image_loss, pixel_loss, pseudo_huber
from blemish.networks.upsampling import Resample, gaussian_upsampling


class Method(Protocol):
    """A way to detect anomalies with a network: either a `TrainedMethod` or a `FittedMethod`.

    Attributes:
        network: what maps and scores are computed with.
    """

    @property
    def network(self) -> nn.Module: ...  # noqa: D102

    def to(self, device: torch.device) -> None:
        """Moves the network and its upsampling to a device."""

    def scores(self, inputs: Tensor) -> Tensor:
        """Anomaly scores (N,) of inputs (N, C, S, S); higher is more anomalous."""

    def maps(self, inputs: Tensor) -> Tensor:
        """Heatmaps (N, S, S) of inputs (N, C, S, S)."""


class TrainedMethod(Method, Protocol):
    """A method whose network is trained by gradient descent on normalised and augmented images."""

    def loss(self, network: nn.Module, inputs: Tensor, masks: Tensor, anomalous: Tensor) -> Tensor:
        """The objective on inputs (N, C, S, S), masks bool (N, S, S), labels bool (N,), run through `network`."""


@runtime_checkable
class FittedMethod(Method, Protocol):
    """A method without a training step: it is fitted to the nominal images, whose pixels it takes in 0..1."""

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits to batches of nominal images (N, C, S, S)."""


@dataclass
class Fcdd:
    """The paper's method (section 3): the network's output phi gives the heatmap, A(X) = sqrt(phi(X)^2 + 1) - 1.

    It minimises equation 2, with labels y, or equation 3, with masks Y of m pixels and the upsampled map A':

        (1-y) a - y log(1 - exp(-a)), a = ||A||_1 / (u v),
        (1/m) sum_j (1-Y_j) A'_j - log(1 - exp(-(1/m) sum_j Y_j A'_j)).

    Attributes:
        upsample: the Gaussian upsampling to the input's size.
        pixel_wise: equation 3 on the upsampled map, instead of equation 2 on the network's own.
    """

    network: nn.Module
    upsample: Resample
    pixel_wise: bool

    def to(self, device: torch.device) -> None:
        """See `Method.to`."""
        self.network.to(device)
        self.upsample.to(device)

    def loss(self, network: nn.Module, inputs: Tensor, masks: Tensor, anomalous: Tensor) -> Tensor:
        """See `Method.loss`."""
        maps = pseudo_huber(network(inputs)[:, 0].float())  # (N, u, v)
        return pixel_loss(self.upsample(maps), masks) if self.pixel_wise else image_loss(maps, anomalous)

    def scores(self, inputs: Tensor) -> Tensor:
        """The mean of the network's own map: the paper's sum, divided by its number of cells."""
        return pseudo_huber(self.network(inputs).float()).flatten(1).mean(1)

    def maps(self, inputs: Tensor) -> Tensor:
        """The upsampled anomaly map."""
        upsampled: Tensor = self.upsample(pseudo_huber(self.network(inputs)[:, 0].float()))
        return upsampled


@dataclass
class Hypersphere:
    """Hypersphere classification (HSC, equation 1): a vector phi for each image, with the loss of labels y

        (1-y) a - y log(1 - exp(-a)), a = sqrt(||phi(X)||^2 + 1) - 1.

    Its heatmap is the gradient of the score a, blurred (section 4).

    Attributes:
        kernel: side in pixels of the blur's window: the extent of the matching FCDD network's receptive field.
        sigma: the blur's standard deviation, that of FCDD's upsampling.
    """

    network: nn.Module
    kernel: int
    sigma: float

    def to(self, device: torch.device) -> None:
        """See `Method.to`."""
        self.network.to(device)

    def loss(self, network: nn.Module, inputs: Tensor, masks: Tensor, anomalous: Tensor) -> Tensor:
        """See `Method.loss`."""
        return image_loss(hypersphere_distance(network(inputs).float())[:, None], anomalous)

    def scores(self, inputs: Tensor) -> Tensor:
        """The distance of the vector from the centre."""
        return hypersphere_distance(self.network(inputs).float())

    def maps(self, inputs: Tensor) -> Tensor:
        """|d score / d input|, summed over the channels and blurred."""
        return blur(gradient_maps(self.scores, inputs), kernel=self.kernel, sigma=self.sigma)


@dataclass
class Autoencoder:
    """Trained on nominal images only; what it cannot reconstruct is anomalous."""

    network: nn.Module

    def to(self, device: torch.device) -> None:
        """See `Method.to`."""
        self.network.to(device)

    def loss(self, network: nn.Module, inputs: Tensor, masks: Tensor, anomalous: Tensor) -> Tensor:
        """The mean squared error of the reconstruction."""
        return (network(inputs).float() - inputs).square().mean()

    def scores(self, inputs: Tensor) -> Tensor:
        """The mean squared error of each image's reconstruction."""
        return self.maps(inputs).mean((1, 2))

    def maps(self, inputs: Tensor) -> Tensor:
        """The squared error of each pixel, averaged over the channels."""
        return reconstruction_maps(self.network, inputs)


def build_method(
    name: MethodName, recipe: Recipe, *, mode: Mode, weights: Path | None = None, download: bool = False
) -> TrainedMethod | FittedMethod:
    """A method with a fresh network for a recipe; initialised from torch's global generator.

    Args:
        name: of the method.
        recipe: gives the network's name, the size of its input and the standard deviation of the upsampling.
        mode: "paper", or "corrected" for a normalised kernel and frozen batch normalisation.
        weights: a file of pretrained weights, for the networks that need them.
        download: let those weights be fetched where no file is given.

    Raises:
        BlemishError: the network needs pretrained weights that are not to be had.
    """
    size = (recipe.size, recipe.size)
    origin: dict[str, Any] = {"weights": weights, "download": download, "update_bn_stats": mode == "paper"}
    if name == "gaussian":
        return Gaussian(recipe.size, local=recipe.pixel_wise)
    if name == "autoencoder":
        return Autoencoder(build_autoencoder(recipe.network, **origin))
    network = build(recipe.network, **origin)
    grid = field(network, size)
    if name == "hsc":
        hsc = build_hsc(recipe.network, **origin)
        return Hypersphere(hsc, kernel=grid.vertical.extent | 1, sigma=recipe.sigma)
    upsample = gaussian_upsampling(grid, size=size, sigma=recipe.sigma, normalised=mode == "corrected")
    return Fcdd(network, upsample, recipe.pixel_wise)
