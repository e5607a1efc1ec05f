"""The head that turns a grid of features into the anomaly map: the closed form and what stands beside it.

A second closed form may have a say in the distance |phi|, and small learned networks can stand beside it: one weighs
phi, another is one more element of it.
"""

import torch
from torch import Tensor, nn

from blemish.networks.cells import CellNetwork, LogitNetwork
from blemish.networks.gaussian import GaussianHead, SecondOpinion
from blemish.networks.wide_cells import WideCells
from blemish.objectives import pseudo_huber


class Head(nn.Module):
    """The anomaly map of the closed form, weighed by a gate and joined by learned evidence where there are any.

    A = sqrt(gate^2 |phi|^2 + evidence^2 + 1) - 1: still the pseudo-Huber loss of the norm of one output vector. The
    gate, between 0 and 1, quietens cells whose deviation looks like the ordinary variation of good images. The
    evidence is never negative, so that what was learned from some defects takes nothing away from any others. Where
    there is a second opinion, |phi| is the smaller of both distances.

    Args:
        gaussian: the closed form.
        second: another one, which may have learned from the images that calibrate all the rest.
        gate: a network on v and |phi| (C + 1 channels, see `with_distance`), trained on synthetic anomalies.
        evidence: a network on the features themselves, or on stages of its own, trained on labelled defects.
        wide: what the closed form and the gate see in the place of the features, where images differ as wholes.
    """

    def __init__(
        self,
        gaussian: GaussianHead,
        *,
        wide: WideCells | None = None,
        second: SecondOpinion | None = None,
        gate: CellNetwork | None = None,
        evidence: LogitNetwork | None = None,
    ) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.wide = wide
        self.second = second
        self.gate = gate
        self.evidence = evidence

    def forward(self, features: Tensor, middle: Tensor | None = None) -> Tensor:
        """Anomaly map A >= 0 (N, h, w) of features (N, C, h, w).

        Args:
            features: of the grid.
            middle: the backbone's own map, see `FeatureGrid.with_middle`: for evidence with stages of its own.
        """
        return pseudo_huber(self.squares(features, middle).sqrt())

    def squares(self, features: Tensor, middle: Tensor | None = None) -> Tensor:
        """|phi|^2 with gate and evidence, (N, h, w), of the same."""
        whitened = self.gaussian.whiten(features if self.wide is None else self.wide(features))
        distance = least = self.gaussian.distance(whitened)
        if self.second is not None:
            least = torch.minimum(distance, self.second.distance(whitened, self.gaussian.scale))
        if self.gate is not None:
            least = least * torch.sigmoid(self.gate.standing(with_distance(whitened, distance)))
        squares = (least if self.wide is None else self.wide.back(least)).square()
        if self.evidence is not None:
            seen = self.evidence.sees(features, middle)
            squares = squares + self.evidence.loudness(seen).square()
        return squares

    def first_opinion(self) -> "Head":
        """The same head without its second opinion."""
        return Head(self.gaussian, wide=self.wide, gate=self.gate, evidence=self.evidence)


def with_distance(whitened: Tensor, distance: Tensor) -> Tensor:
    """What a gate looks at: v (N, C, h, w) and |phi| (N, h, w) as one more channel, (N, C + 1, h, w)."""
    return torch.cat([whitened, distance[:, None]], dim=1)
