"""FCDD (Liznerski et al. 2021): a network that is trained to give anomaly maps, from nominal and anomalous images."""

from torch import Tensor

from blemish.networks.fcdd_head import FcddHead
from blemish.networks.grid_convolutions import GridConvolutions
from blemish.networks.losses import pixel_loss
from blemish.networks.upsampling import Resample
from blemish.training.gradient_method import GradientMethod, Objective


class Fcdd(GradientMethod):
    """Trains convolutions to give the anomaly map.

    With masks Y of m pixels and the upsampled anomaly map A', it minimises equation 3 of the paper,

        (1/m) sum_j (1-Y_j) A'_j - log(1 - exp(-(1/m) sum_j Y_j A'_j)).

    Where only the label of an image is known, its mask is everywhere: that is equation 2. The logarithm makes the scale
    of A' matter. The paper's upsampling kernel multiplies the map by 3.7, and so does the loss here ("gain"); the map
    of the detector is not multiplied.
    """

    stage = "fcdd"

    def objective(self, cells: GridConvolutions, upsample: Resample) -> Objective:
        """See `GradientMethod.objective`."""

        def loss(maps: Tensor, masks: Tensor) -> Tensor:
            return pixel_loss(self.config.fcdd.gain * upsample(maps), masks)

        def scores(maps: Tensor) -> Tensor:
            highest: Tensor = upsample(maps).amax((1, 2))
            return highest

        head = FcddHead(cells)
        return Objective(head, loss, scores, head)
