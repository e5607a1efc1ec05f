"""Backbones whose weights are trained, from a layer on, together with a head."""

from copy import deepcopy
from typing import Self, TypeVar

from torch import Tensor, nn

from blemish.errors import BlemishError
from blemish.networks.extractor import FeatureExtractor
from blemish.networks.input_mask import InputMask

ALL_LAYERS = "all"  # in the place of a layer's name

Extractor = TypeVar("Extractor", bound=FeatureExtractor)


def trainable_from(extractor: Extractor, layer: str) -> Extractor:
    """A copy whose weights ask for gradients from a layer on, in the order in which the backbone has them.

    Args:
        extractor: stays as it is.
        layer: the name of a layer, or of a block of them, as in `layers_of`; "all" takes every weight.

    Raises:
        BlemishError: there is no such layer.
    """
    copied = deepcopy(extractor)
    weights = list(copied.named_parameters())
    layers = layers_of(copied)
    if layer != ALL_LAYERS and layer not in layers:
        raise BlemishError(f"{extractor.name} has no layer {layer!r} to train from; it has {', '.join(layers)}")
    found = layer == ALL_LAYERS
    for name, weight in weights:
        found = found or _inside(name, layer)
        weight.requires_grad_(found)
    return copied


def layers_of(extractor: FeatureExtractor) -> list[str]:
    """The names that `trainable_from` takes: layers with weights, and those of the groups that they are in."""
    names = [name.split(".")[1:-1] for name, _ in extractor.named_parameters()]  # without the backbone's own name
    return list(dict.fromkeys(".".join(parts[:depth]) for parts in names for depth in (1, 2) if len(parts) >= depth))


def _inside(weight: str, layer: str) -> bool:
    return f".{weight.partition('.')[2]}".startswith(f".{layer}.")


class BackboneAndHead(nn.Module):
    """Both as one network, so that gradients reach the backbone.

    In training mode layers whose weights are trained normalise by the batch; the others stay as they were.

    Args:
        extractor: see `trainable_from`.
        head: the extractor's maps to the anomaly map.
        input_mask: hides a part of every image first.
    """

    def __init__(self, extractor: FeatureExtractor, head: nn.Module, input_mask: InputMask | None = None) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = head
        self.input_mask = input_mask

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as usual, but without the layers that are frozen."""
        super().train(mode)
        for module in self.extractor.modules():
            module.training = mode and any(weight.requires_grad for weight in module.parameters(recurse=False))
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """The anomaly map A (N, h, w) of uint8 pixels (N, H, W, 3)."""
        if self.input_mask is not None:
            pixels = self.input_mask.fill_in(pixels)
        maps = self.extractor(pixels.permute(0, 3, 1, 2).float())
        made: Tensor = self.head([one.float() for one in maps])
        return made
