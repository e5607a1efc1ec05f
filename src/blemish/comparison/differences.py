"""Whether one method is better than another: the difference of their image AUROC on the same images.

The intervals of two methods may overlap although one is better on almost every resample, because both vary with the
images together. So the difference is bootstrapped in pairs: both methods are computed on the same resampled images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.comparison.records import Run
from blemish.evaluation.confidence import DRAWS, bootstrap_weights, percentile_interval, resampled_image_auroc
from blemish.evaluation.figures import Interval
from blemish.evaluation.metrics import auroc


@dataclass(frozen=True)
class Difference:
    """The image AUROC of the best method less that of another one.

    Attributes:
        best, other: the methods.
        mean: over the seeds.
        interval: 95 %, over the test images.
    """

    best: str
    other: str
    mean: float
    interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0

    def sentence(self) -> str:
        """In words, with numbers."""
        low, high = self.interval
        numbers = f"image AUROC {self.mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
        if self.is_clear:
            return f"{self.best} is better than {self.other}: {numbers}"
        return f"{self.best} and {self.other} cannot be told apart by these images: {numbers}"


def differences(runs: Sequence[Run], *, draws: int = DRAWS) -> list[Difference]:
    """The difference of the best method to each other one, the largest last.

    Args:
        runs: of all methods, those that failed included. Seeds count that both methods of a pair have.
        draws: bootstrap samples.

    Returns:
        Nothing where there are no two methods with an image AUROC.
    """
    by_method: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.figures.get("image_auroc") is not None:
            by_method.setdefault(run.method, {})[run.seed] = run
    if len(by_method) < 2:
        return []
    best = max(by_method, key=lambda method: _mean(by_method[method]))
    found = [
        difference
        for other in by_method
        if other != best and (difference := _difference(by_method[best], by_method[other], draws)) is not None
    ]
    return sorted(found, key=lambda difference: difference.mean)


def _mean(runs: Mapping[int, Run]) -> float:
    return float(np.mean([run.figures["image_auroc"] for run in runs.values()]))


def _difference(best: Mapping[int, Run], other: Mapping[int, Run], draws: int) -> Difference | None:
    resampled, observed = [], []
    for seed in best.keys() & other.keys():
        anomalous, ours, theirs = _paired(best[seed], other[seed])
        if anomalous.all() or not anomalous.any():
            continue
        # The same draws for every seed, because the images are mostly the same.
        weights = bootstrap_weights(anomalous, draws, np.random.default_rng(0))
        resampled.append(
            resampled_image_auroc(anomalous, ours, weights) - resampled_image_auroc(anomalous, theirs, weights)
        )
        observed.append(auroc(anomalous, ours) - auroc(anomalous, theirs))
    if not resampled:
        return None
    interval = percentile_interval(np.mean(resampled, axis=0))
    assert interval is not None
    first, second = next(iter(best.values())), next(iter(other.values()))
    return Difference(first.method, second.method, float(np.mean(observed)), interval)


def _paired(ours: Run, theirs: Run) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Labels (N,) and both scores (N,) of the images that both runs have."""
    other = {image.path: image.score for image in theirs.images}
    shared = [image for image in ours.images if image.path in other]
    return (
        np.array([image.anomalous for image in shared], dtype=bool),
        np.array([image.score for image in shared], dtype=np.float64),
        np.array([other[image.path] for image in shared], dtype=np.float64),
    )
