"""Sharp maps of wide cells: these say how far an image is off, small cells of the same features where.

Wide cells blur what they find, and small ones, by which images that differ as wholes are told apart badly, see it
where it is. A map of both is as high as the one and as sharp as the other.
"""

from torch import Tensor, nn

from blemish.networks.gaussian import GaussianHead, View

LEAST = 1e-6  # of a map, so that nothing is divided by zero
OWN = 16  # directions in which small cells differ; three times as many show no more of where an image deviates


def small_cells(channels: int) -> View:
    """What a focus compares: the features of the grid, so many."""
    return View.whole(channels, own=OWN)


class Focus(nn.Module):
    """A closed form of the features that wide cells are made of, on the grid's own cells: where an image deviates.

    Args:
        gaussian: the closed form; its scale is 1: how high the map gets is for others to say.
    """

    def __init__(self, gaussian: GaussianHead) -> None:
        super().__init__()
        self.gaussian = gaussian

    def forward(self, distance: Tensor, features: Tensor) -> Tensor:
        """The geometric mean (N, h, w) of distances (N, h, w) and those of small cells of features (N, C, h, w)."""
        return (distance * self.gaussian(features)).sqrt()


def as_high_as(level: Tensor, pattern: Tensor) -> Tensor:
    """The pattern (N, H, W), image by image times what makes its largest value that of the level (N, H, W).

    So the score of an image is what it is without a pattern, and what was proven of it still holds.
    """
    highest, reached = (maps.amax((1, 2), keepdim=True) for maps in (level, pattern))
    return pattern * (highest / reached.clamp(min=LEAST))
