"""What the peers see: one grid of frozen features, and how their maps become as large as the image.

Nothing here comes from the detector but its backbone, so that a change to the detector changes no peer.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.networks.timm_cnn import TimmCNN

SIZE = 256  # pixels, network size
STRIDES = (4, 8, 16)
STRIDE = 8  # of the grid
SIGMA = 5.0  # pixels
BATCH = 8


class Features:
    """EfficientNet-Lite0 at strides 4, 8 and 16 on the grid of stride 8, averaged twice over 3 x 3 cells."""

    def __init__(self) -> None:
        self.backbone = TimmCNN(strides=STRIDES).prepared((SIZE, SIZE)).eval()

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Features (N, 176, h, w) of pixels (N, H, W, 3)."""
        with torch.inference_mode():
            batches = (torch.from_numpy(np.array(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH))
            return torch.cat([one_grid(self.backbone(batch.permute(0, 3, 1, 2).float())) for batch in batches])

    @property
    def stored(self) -> int:
        """Bytes of the network."""
        return sum(tensor.nbytes for tensor in self.backbone.state_dict().values())


def one_grid(maps: Sequence[Tensor]) -> Tensor:
    """Maps (N, C_k, h_k, w_k) of strides 4, 8 and 16 as one (N, C, h, w) of stride 8, averaged twice over 3 x 3 cells.

    The finer is averaged over 2 x 2 cells, the coarser interpolated bilinearly.
    """
    fine, middle, coarse = maps
    brought = [F.avg_pool2d(fine, 2), middle, F.interpolate(coarse, size=middle.shape[-2:], mode="bilinear")]
    return averaged(averaged(torch.cat(brought, dim=1)))


def averaged(cells: Tensor) -> Tensor:
    """Maps (N, C, h, w) averaged over 3 x 3 cells; at a border over those that there are."""
    return F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)


def enlarged(maps: npt.NDArray[np.float32], *, size: int = SIZE, sigma: float = SIGMA) -> npt.NDArray[np.float32]:
    """Maps (..., h, w) at network size (..., size, size): every pixel the mean of all cells, weighted by a Gaussian."""
    rows, columns = (_weights(cells, size, sigma) for cells in maps.shape[-2:])
    return rows @ maps @ columns.T


def _weights(cells: int, size: int, sigma: float) -> npt.NDArray[np.float32]:
    """Weights (size, cells), of sum 1, of the distances between pixels and the middles of cells."""
    middles = (np.arange(cells) + 0.5) * size / cells - 0.5
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - middles) / sigma) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
