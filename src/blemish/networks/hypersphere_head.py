"""HSC's head: one vector an image, its distance from a centre as the score, and Grad-CAM of the score as the map."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.losses import hypersphere_distance
from blemish.networks.upsampling import Resample


class PooledVectors(nn.Module):
    """phi = W mean(F) + b: one vector an image, of the mean over the cells of the features F.

    The bias b is the centre of the hypersphere.

    Args:
        cells: the layers that make F.
        length: D of the vectors.
    """

    def __init__(self, cells: GridConvolutions, *, length: int) -> None:
        super().__init__()
        self.cells = cells
        self.output = nn.Linear(cells.channels, length)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Vectors phi (N, D) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        return self.pooled(self.cells(maps)).float()

    def pooled(self, features: Tensor) -> Tensor:
        """Vectors phi (N, D) of the features F (N, C, h, w)."""
        vectors: Tensor = self.output(features.mean((2, 3)))
        return vectors


class HypersphereHead(nn.Module):
    """The anomaly map whose maximum, once it is upsampled, is the score of HSC.

    The score s = sqrt(||phi||^2 + 1) - 1 belongs to the whole image. Where it comes from is shown by Grad-CAM
    (Selvaraju et al. 2017) of the features F: the positive part of sum_c w_c F_c, with w_c the mean over the cells of
    the gradient ds/dF_c. Since phi is linear in F, w = W^T phi / sqrt(||phi||^2 + 1), up to a factor: a closed form,
    which a model file can compute, as it cannot compute gradients. The map is scaled to have the maximum s. Where no
    cell raises the score it is s everywhere.

    Args:
        vectors: the trained network.
        upsample: brings maps to network size.
    """

    def __init__(self, vectors: PooledVectors, upsample: Resample) -> None:
        super().__init__()
        self.vectors = vectors
        self.upsample = upsample

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The anomaly map A >= 0 (N, h, w) of the extractor's maps, each (N, C_k, h_k, w_k)."""
        features = self.vectors.cells(maps).float()  # (N, C, h, w)
        phi = self.vectors.pooled(features)  # (N, D)
        scores = hypersphere_distance(phi)[:, None, None]
        weights = phi @ self.vectors.output.weight  # (N, C), up to a positive factor an image
        shown = torch.relu((weights[:, :, None, None] * features).sum(1))  # (N, h, w)
        highest = self.upsample(shown).amax((1, 2), keepdim=True)  # (N, 1, 1)
        scaled = shown / highest.clamp(min=torch.finfo(highest.dtype).tiny)
        return scores * torch.where(highest > 0, scaled, 1.0)
