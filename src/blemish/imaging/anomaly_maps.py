"""What an anomaly map must be, whoever made it. Imports no SciPy: the server's decoding processes start with it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError


def check_anomaly_map(anomaly_map: npt.NDArray[Any]) -> None:
    """Raises BlemishError when an anomaly map is not a finite two-dimensional array with pixels in it."""
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise BlemishError(
            f"an anomaly map has the shape (height, width), not {anomaly_map.shape}: pass the maps one by one"
        )
    if not np.isfinite(anomaly_map).all():
        raise BlemishError("the anomaly map holds NaN or infinite values: the model is damaged, train it again")
