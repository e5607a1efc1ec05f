"""Layers that keep their pretrained weights while others are trained."""

from typing import Self

from torch import nn


class Frozen(nn.Sequential):
    """A chain of layers whose weights are not trained.

    Nothing in it asks for a gradient, so that no graph is recorded and nothing kept for a backward pass, unless the
    input itself asks for one, as the gradient heatmaps of HSC do.

    Args:
        layers: the layers, in order.
        update_bn_stats: True leaves batch normalisation in training mode: it normalises by the batch, and its running
            statistics follow the training images, as in the authors' code. False (ours) keeps the pretrained
            statistics, so that frozen means the same in training and in testing.
    """

    def __init__(self, *layers: nn.Module, update_bn_stats: bool) -> None:
        super().__init__(*layers)
        self.update_bn_stats = update_bn_stats
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as usual, but without `update_bn_stats` always to evaluation."""
        return super().train(mode and self.update_bn_stats)
