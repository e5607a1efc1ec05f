"""HSC, hypersphere classification (Ruff et al. 2020): FCDD's baseline, which learns one vector an image."""

from torch import Tensor

from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.hypersphere_head import HypersphereHead, PooledVectors
from blemish.networks.losses import hypersphere_distance, image_loss
from blemish.networks.upsampling import Resample
from blemish.training.gradient_method import GradientMethod, Objective


class Hsc(GradientMethod):
    """Trains a network to give vectors phi that lie near a centre for nominal images alone.

    With labels y (1 for anomalous) and the distance a = sqrt(||phi||^2 + 1) - 1 it minimises equation 1 of FCDD,

        (1-y) a - y log(1 - exp(-a)).

    Masks count as labels. The map of the model file is Grad-CAM of the score, see `HypersphereHead`.
    """

    stage = "hsc"

    def objective(self, cells: GridConvolutions, upsample: Resample) -> Objective:
        """See `GradientMethod.objective`."""

        def loss(vectors: Tensor, masks: Tensor) -> Tensor:
            return image_loss(hypersphere_distance(vectors)[:, None], masks.flatten(1).any(1))

        network = PooledVectors(cells, length=self.config.fcdd.hidden_channels)
        return Objective(network, loss, hypersphere_distance, HypersphereHead(network, upsample))
