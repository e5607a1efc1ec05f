"""FCDD's head: trained convolutions on a backbone's maps, whose output is the anomaly map."""

from collections.abc import Sequence

from torch import Tensor, nn

from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.losses import pseudo_huber


class FcddHead(nn.Module):
    """A = sqrt(phi^2 + 1) - 1 on the grid of the anomaly map (equation 1 of FCDD, cell by cell).

    phi is a 1 x 1 convolution of the last layer; its bias is the centre of the hypersphere.

    Args:
        cells: the layers below it.
    """

    def __init__(self, cells: GridConvolutions) -> None:
        super().__init__()
        self.cells = cells
        self.output = nn.Conv2d(cells.channels, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The anomaly map A >= 0 (N, h, w) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        return pseudo_huber(self.output(self.cells(maps))[:, 0].float())
