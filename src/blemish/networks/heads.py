"""The head that turns a grid of features into the anomaly map: the closed form and what stands beside it.

A second closed form may have a say in the distance |phi|, and small learned networks can stand beside it: one weighs
phi, another is one more element of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.networks.cells import CellNetwork
from blemish.networks.focus import Focus
from blemish.networks.gaussian import GaussianHead, SecondOpinion
from blemish.networks.wide_cells import WideCells
from blemish.objectives import pseudo_huber


class Head(nn.Module):
    """The anomaly map of the closed form, weighed by a gate and joined by learned evidence where there are any.

    A = sqrt(gate^2 |phi|^2 + evidence^2 + 1) - 1: still the pseudo-Huber loss of the norm of one output vector.
    The gate, between 0 and 1, quietens cells whose deviation looks like the ordinary variation of good images. The
    evidence is never negative, so that what was learned from some defects takes nothing away from any others. Where
    there is a second opinion, |phi| is the smaller of both distances.

    Where the closed form sees wide cells, that only says how high the map gets, and the norm is the largest element:
    A = sqrt(max(|phi|, evidence)^2 + 1) - 1. A good image that differs as a whole is odd to both, and is not to count
    twice. Where the map is high is a map of its own: of the distance brought into focus by small cells, and of the
    evidence, in squares.

    Args:
        gaussian: the closed form.
        second: another one, which may have learned from the images that calibrate all the rest.
        gate: a network on v and |phi| (K + 1 channels, see `with_distance`), trained on synthetic anomalies.
        evidence: a network on features as they are, see `CellNetwork.sees`, trained on labelled defects.
        wide: what the closed form sees in the place of the features, where images differ as wholes.
        focus: what makes the map sharp again there.
    """

    def __init__(
        self,
        gaussian: GaussianHead,
        *,
        wide: WideCells | None = None,
        focus: Focus | None = None,
        second: SecondOpinion | None = None,
        gate: CellNetwork | None = None,
        evidence: CellNetwork | None = None,
    ) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.wide = wide
        self.focus = focus
        self.second = second
        self.gate = gate
        self.evidence = evidence

    def forward(self, features: Tensor, maps: Sequence[Tensor] = ()) -> Tensor:
        """How high the anomaly map gets, A >= 0 (N, h, w), of features (N, C, h, w).

        Args:
            features: of the grid.
            maps: the backbone's own, see `FeatureGrid.with_maps`: for evidence on sharp cells, and for wide cells that
                see deeper ones.
        """
        return self.maps(features, maps)[0]

    def maps(self, features: Tensor, maps: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """The same, and where there is a focus, a second map (N, h, w) for where it is high: see `as_high_as`."""
        return tuple(pseudo_huber(norms) for norms in self.norms(features, maps))

    def norms(self, features: Tensor, maps: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """The norms that these maps are of, each (N, h, w)."""
        first, least = self._distances(features, maps)
        # Of the first opinion only: a second one then makes the whole map smaller, not only its largest value.
        pattern = () if self.focus is None else (self.focus(first, features),)
        if self.evidence is None:
            return least, *pattern
        evidence = self.evidence.standing(self.evidence.sees(features, maps)).clamp(min=0)
        level = torch.maximum(least, evidence) if self.wide is not None else _joined(least, evidence)
        return level, *(_joined(one, evidence) for one in pattern)

    def _distances(self, features: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """gate |phi|, (N, h, w), of the first opinion and of both."""
        whitened = self.gaussian.whiten(features if self.wide is None else self.wide(features, maps))
        distance = least = self.gaussian.distance(whitened)
        if self.second is not None:
            least = torch.minimum(distance, self.second.distance(whitened, self.gaussian.scale))
        distances = [distance, least]
        if self.gate is not None:
            weight = torch.sigmoid(self.gate.standing(with_distance(whitened, distance)))
            distances = [weight * one for one in distances]
        if self.wide is not None:
            distances = [self.wide.back(one) for one in distances]
        return distances[0], distances[1]

    def first_opinion(self) -> "Head":
        """The same head without its second opinion."""
        return Head(self.gaussian, wide=self.wide, focus=self.focus, gate=self.gate, evidence=self.evidence)


def _joined(distance: Tensor, evidence: Tensor) -> Tensor:
    """The norm (N, h, w) of a vector of norm `distance` (N, h, w) with one element more."""
    return (distance.square() + evidence.square()).sqrt()


def with_distance(whitened: Tensor, distance: Tensor) -> Tensor:
    """What a gate looks at: v (N, K, h, w) and |phi| (N, h, w) as one more channel, (N, K + 1, h, w)."""
    return torch.cat([whitened, distance[:, None]], dim=1)
