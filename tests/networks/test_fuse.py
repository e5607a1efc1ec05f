"""Folded batch normalisation against the networks as they were."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from blemish.networks.fuse import fused

PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def with_statistics(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, its batch normalisation as if it had been trained."""
    torch.manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = 0.3 * torch.randn(norm.num_features)
            norm.running_var = 0.5 + torch.rand(norm.num_features)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("tf_efficientnet_lite0", 0),  # normalisation and activation in one module
        ("resnet18", 0),
        ("mobilenetv3_small_050", 0),  # squeeze-and-excitation
        ("hrnet_w18_small", 0),
        ("resnetv2_50", 16),  # normalisation before convolutions
        ("convnext_atto", 0),  # no batch normalisation at all
    ],
)
def test_a_folded_network_computes_the_same(name: str, left: int) -> None:
    network = with_statistics(timm.create_model(name, features_only=True))
    had = norms(network)
    lean = fused(network)
    with torch.inference_mode():
        for got, expected in zip(lean(PIXELS), network(PIXELS), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert norms(lean) == left
    assert norms(network) == had


class Fork(nn.Module):
    """A convolution whose output is used before it is normalised, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        made = self.conv(pixels)
        return self.bn(made) - made


def twice() -> nn.Module:
    """One convolution that runs twice, each time with a normalisation of its own."""
    convolution = nn.Conv2d(3, 3, 3)
    return nn.Sequential(convolution, nn.BatchNorm2d(3), convolution, nn.BatchNorm2d(3))


def padded() -> nn.Module:
    """Normalisation of what was padded behind its convolution."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ZeroPad2d(1), nn.BatchNorm2d(4))


@pytest.mark.parametrize("make", [Fork, twice, padded])
def test_what_cannot_be_folded_stays(make: Callable[[], nn.Module]) -> None:
    network = with_statistics(make())
    left = fused(network)
    with torch.inference_mode():
        torch.testing.assert_close(left(PIXELS), network(PIXELS))
    assert norms(left) == norms(network)
