"""The images on which methods differ most: in the verdict, then in where the heatmap is highest, then in rank.

Scores of different methods have no common unit, their ranks have. The rank of a defective image is the share of good
test images that score lower, and that of a good one the share of defective images that score higher: its part in the
image AUROC, which is the mean of either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.comparison.records import ImageResult, Run

MOST = 40  # images on the page
FEW = 12  # up to which defective images are added on which the methods differ less


@dataclass(frozen=True)
class Disagreement:
    """One image, and what each method says of it.

    Attributes:
        path: as in `ImageResult`.
        anomalous: whether the test set calls it so.
        of: the results by method.
        ranks: by method, in [0, 1]: 1 is right.
    """

    path: str
    anomalous: bool
    of: Mapping[str, ImageResult]
    ranks: Mapping[str, float]

    @property
    def verdicts_differ(self) -> bool:
        """Whether one method gives the alarm and another does not."""
        return len({result.verdict == "anomalous" for result in self.of.values()}) > 1

    @property
    def peaks_differ(self) -> bool:
        """Whether one map is highest in the mask and another beside it."""
        return len({result.peak_inside for result in self.of.values()}) > 1

    @property
    def rank_difference(self) -> float:
        """Between the best and the worst rank."""
        return max(self.ranks.values()) - min(self.ranks.values())

    @property
    def order(self) -> tuple[bool, bool, float, str]:
        """Sorts images, those on which methods differ most first."""
        return (not self.verdicts_differ, not self.peaks_differ, -self.rank_difference, self.path)


def first_of_each(runs: Sequence[Run]) -> dict[str, Run]:
    """Of each method the run of the first seed with which all of these methods have a model, or else its first."""
    made = [run for run in runs if run.failed is None]
    methods = list(dict.fromkeys(run.method for run in made))
    by_seed: dict[int, dict[str, Run]] = {}
    for run in made:
        by_seed.setdefault(run.seed, {})[run.method] = run
    whole = next((of for _, of in sorted(by_seed.items()) if len(of) == len(methods)), None)
    return whole or {method: next(run for run in made if run.method == method) for method in methods}


def disagreements(runs: Mapping[str, Run], *, most: int = MOST, few: int = FEW) -> list[Disagreement]:
    """The images on which methods differ, the most first; where these are few, other defective images after them.

    Args:
        runs: one of each method; images count that all of them have.
        most: how many at most.
        few: how many at least, if there are so many defective ones.
    """
    if len(runs) < 2:
        return []
    results = {method: {image.path: image for image in run.images} for method, run in runs.items()}
    ranks = {method: _ranks(run.images) for method, run in runs.items()}
    first = next(iter(results.values()))
    shared = [path for path in first if all(path in of for of in results.values())]
    found = [
        Disagreement(
            path,
            first[path].anomalous,
            {method: of[path] for method, of in results.items()},
            {method: of[path] for method, of in ranks.items()},
        )
        for path in shared
    ]
    ordered = sorted(found, key=lambda image: image.order)
    differing = [image for image in ordered if image.verdicts_differ or image.peaks_differ or image.rank_difference]
    others = [image for image in ordered if image.anomalous and image not in differing]
    return (differing + others[: max(0, few - len(differing))])[:most]


def _ranks(images: Sequence[ImageResult]) -> dict[str, float]:
    """By path, the part of each image in the image AUROC; 1 for all where there is only one kind of images."""
    good = np.sort([image.score for image in images if not image.anomalous])
    bad = np.sort([image.score for image in images if image.anomalous])
    if not (len(good) and len(bad)):
        return {image.path: 1.0 for image in images}
    ranks = {}
    for image in images:
        others = good if image.anomalous else bad
        below = (np.searchsorted(others, image.score, "left") + np.searchsorted(others, image.score, "right")) / 2
        share = float(below / len(others))
        ranks[image.path] = share if image.anomalous else 1 - share
    return ranks
