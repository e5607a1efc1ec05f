"""Images called good that most likely are not: far outsiders, where there are too many of them to be rare good ones.

Images in rare poses lie far out, too, and without them others in such poses would be alarms. So nothing is left out of
a set in which hardly any image lies far out, as in clean ones. Where some lie very far out, a part of the images is
something else than the rest, and what lies beyond the ordinary is then left out. Parts that were turned upright have no
rare poses any more: there, fewer images that lie less far out are enough. Wide cells see no poses either, and good
images of that kind lie less far apart.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Suspicion:
    """When a set of images gives itself away.

    Attributes:
        far: times the median of all images' largest distances.
        many: share of images that far out; in the clean sets that we know fewer are.
        ordinary: times the median: beyond it images are then left out.
        rounds: of leaving them out: each makes the next ones stand out.
    """

    far: float
    many: float
    ordinary: float
    rounds: int


IN_ANY_POSE = Suspicion(far=1.7, many=0.035, ordinary=1.3, rounds=2)
UPRIGHT = Suspicion(far=1.4, many=0.02, ordinary=1.2, rounds=4)
BY_WIDE_CELLS = Suspicion(far=1.5, many=0.045, ordinary=1.2, rounds=2)
FEWEST = 60  # images; with fewer, a share of a few per cent is one or two images


def holds_outsiders(farthest: npt.NDArray[np.float32], suspicion: Suspicion = IN_ANY_POSE) -> bool:
    """Whether many images lie far out, by each one's largest left-out distance (n,)."""
    far = farthest > suspicion.far * np.median(farthest)
    return len(farthest) >= FEWEST and bool(far.mean() >= suspicion.many)


def ordinary(farthest: npt.NDArray[np.float32], suspicion: Suspicion = IN_ANY_POSE) -> float:
    """The largest distance that is ordinary."""
    return suspicion.ordinary * float(np.median(farthest))


def insiders(farthest: npt.NDArray[np.float32], suspicion: Suspicion = IN_ANY_POSE) -> npt.NDArray[np.intp]:
    """Positions of the images that lie no farther out than is ordinary."""
    return np.flatnonzero(farthest <= ordinary(farthest, suspicion))
