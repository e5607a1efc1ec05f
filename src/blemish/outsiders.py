"""Images called good that most likely are not: far outsiders, where there are too many of them to be rare good ones.

Images in rare poses lie far out, too, and without them others in such poses would be alarms. So nothing is left out of
a set in which hardly any image lies far out, as in clean ones. Where some lie very far out, a part of the images is
something else than the rest, and what lies beyond the ordinary is then left out.
"""

import numpy as np
import numpy.typing as npt

FAR = 1.7  # times the median of all images' largest distances
MANY = 0.035  # of the images; in clean sets that we know one or two in a hundred lie that far out
ORDINARY = 1.3  # times the median: beyond it images are left out of a set that holds many far ones
FEWEST = 60  # images; with fewer, a share of a few per cent is one or two images


def holds_outsiders(farthest: npt.NDArray[np.float32]) -> bool:
    """Whether many images lie far out, by each one's largest left-out distance (n,)."""
    return len(farthest) >= FEWEST and bool((farthest > FAR * np.median(farthest)).mean() >= MANY)


def ordinary(farthest: npt.NDArray[np.float32]) -> float:
    """The largest distance that is ordinary."""
    return ORDINARY * float(np.median(farthest))


def insiders(farthest: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Positions of the images that lie no farther out than is ordinary."""
    return np.flatnonzero(farthest <= ordinary(farthest))
