"""What a finished run leaves: its figures, its scores and its training curve."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blemish.experiments.recipe import MethodName


@dataclass(frozen=True)
class Point:
    """A point of the training curve: the mean loss of an epoch, and where measured the test AUROCs.

    They are watched, not used: the figures of a run are those after its last epoch.
    """

    epoch: int
    loss: float
    seconds: float
    image_auroc: float | None = None
    pixel_auroc: float | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run leaves.

    Attributes:
        anomalous: bool (T,) labels of the test images.
        scores: float32 (T,); higher is more anomalous.
        kinds: (T,) class or defect type of each test image.
        seconds: training, the tests apart.
        notes: deviations and circumstances, as (name, value).
    """

    recipe: str
    method: MethodName
    nominal_class: str
    seed: int
    image_auroc: float
    pixel_auroc: float | None
    anomalous: NDArray[np.bool_]
    scores: NDArray[np.float32]
    kinds: tuple[str, ...]
    curve: tuple[Point, ...]
    seconds: float
    notes: dict[str, str] = field(default_factory=dict)
