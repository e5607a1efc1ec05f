"""Synthetic anomalies by name, for `train` and for the experiments: built-in ones and those of other packages.

What `blemish.plugins.SYNTHETIC` names is a function `(image, rng) -> Synthetic`, or a class whose objects are such
functions and whose constructor takes the keyword `outliers`: an `OutlierFolder`, or None where there is no folder.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from blemish.plugins import SYNTHETIC
from blemish.synthetic import Synthetic
from blemish.synthetic.outlier_exposure import OutlierFolder

SyntheticAnomaly = Callable[[NDArray[np.uint8], np.random.Generator], Synthetic]
"""Makes of a nominal image, uint8 (H, W, 3), a copy with an anomaly, and its mask; the generator decides every draw."""


def synthetic_anomaly(name: str, *, outliers: OutlierFolder | None = None) -> SyntheticAnomaly:
    """The synthetic anomaly of this name.

    Args:
        name: a name in `blemish.plugins.SYNTHETIC`.
        outliers: images of anything else, for anomalies that are made of them.

    Raises:
        BlemishError: there is none of this name, or it cannot be imported.
    """
    entry = SYNTHETIC.load(name)
    anomaly: SyntheticAnomaly = entry(outliers=outliers) if isinstance(entry, type) else entry
    return anomaly
