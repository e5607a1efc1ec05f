"""The ignore mask as a part of the graph: pixels under it are replaced, and the map is 0 there."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class InputMask(nn.Module):
    """Keeps what lies under a mask from having any say.

    Dropping that part of the map is not enough, since the network's receptive field reaches across the border of the
    mask: so the pixels themselves give way to a fixed picture first.

    Args:
        ignored: bool (H, W), where images do not count, at network size.
        fill: uint8 (H, W, 3), what stands there instead.
    """

    ignored: Tensor
    fill: Tensor

    def __init__(self, ignored: npt.NDArray[np.bool_], fill: npt.NDArray[np.uint8]) -> None:
        super().__init__()
        self.register_buffer("ignored", torch.from_numpy(ignored.copy()))
        self.register_buffer("fill", torch.from_numpy(fill.copy()))

    def fill_in(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) with the fill under the mask."""
        return torch.where(self.ignored[..., None], self.fill, pixels)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, H, W), 0 under the mask."""
        return maps.masked_fill(self.ignored, 0)
