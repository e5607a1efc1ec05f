"""PaDiM: a Gaussian a position of one long vector (Defard et al. 2021).

Training keeps a covariance for each position and fold: at 256 px with EfficientNet-Lite0 0.6 GB, and the model file has
64 MB.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.methods.gaussian_estimation import GaussianFit
from blemish.methods.patch_features import PatchFeatures
from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.normal_model import NominalImages, NormalModel
from blemish.training.config import TrainConfig

MAX_CHANNELS = 192  # more of them are drawn by chance, as in the paper: memory grows with their square


class PaDiM(NormalModel):
    """Mahalanobis distance to a Gaussian of each position's own, with mean and full covariance.

    d(x)^2 = (x - mean)^T (covariance + ridge I)^-1 (x - mean), in units of the mean out-of-fold d (equation 2).

    Args:
        pyramid: makes the maps.
        config: ridge and folds are those of `config.gaussian`; `config.seed` draws the channels.
    """

    chosen: Tensor  # (C,), the channels that are compared

    def __init__(self, pyramid: FeaturePyramid, config: TrainConfig) -> None:
        super().__init__(pyramid, config)
        self.config = config.gaussian
        self.features = PatchFeatures(pyramid)
        channels = self.features.channels
        generator = torch.Generator().manual_seed(config.seed)
        drawn = torch.randperm(channels, generator=generator)[:MAX_CHANNELS].sort().values
        self.register_buffer("chosen", drawn if channels > MAX_CHANNELS else torch.arange(channels))
        self.gaussians = PositionGaussians(channels=len(self.chosen), grid=pyramid.field.grid, reach=0)

    @torch.inference_mode()
    def fit(self, nominal: NominalImages) -> Tensor:
        """Fits the Gaussians in one pass; out-of-fold distances (n, h, w) of the first images."""
        fit, position = GaussianFit(self.gaussians, self.config, nominal.processes), nominal.first
        for maps in nominal.batches("features"):
            fit.add(self.vectors(maps), position)
            position += len(maps[0])
        return fit.finish().cpu()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """d (N, h, w) of the extractor's maps."""
        distances: Tensor = self.gaussians(self.vectors(maps))
        return distances

    def vectors(self, maps: Sequence[Tensor]) -> Tensor:
        """What is compared, (N, C, h, w)."""
        features: Tensor = self.features(maps)
        return features[:, self.chosen]
