"""Everything anomalous a training can learn from: labelled images, synthetic anomalies, outlier exposure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from blemish.datasets.pixels import Pixels
from blemish.synthetic.confetti import confetti
from blemish.synthetic.outliers import OutlierFolder
from blemish.synthetic.scars import scar

AnomalyKind = Literal["none", "confetti", "scars"]

MOST_SYNTHETIC = 500
MOST_OUTLIERS = 500


@dataclass(frozen=True)
class Anomaly:
    """One anomalous training image: uint8 (H, W, 3), bool (H, W) and its defect type or source.

    The mask is all true where only the label is known.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    kind: str


def gather_anomalies(
    pixels: Pixels,
    *,
    labelled: Sequence[int],
    nominal: Sequence[int],
    synthetic: AnomalyKind,
    outliers: Path | None,
    rng: np.random.Generator,
) -> Iterator[Anomaly]:
    """All anomalies in turn.

    Args:
        pixels: the training images.
        labelled: indices of those labelled as defective.
        nominal: indices of the nominal ones that synthetic anomalies may be painted on.
        synthetic: what to paint.
        outliers: an outlier-exposure folder.
        rng: decides all draws.

    Raises:
        BlemishError: the outlier folder or a mask cannot be used.
    """
    yield from _labelled(pixels, labelled)
    if synthetic != "none":
        yield from _synthetic(pixels, nominal, synthetic, rng)
    if outliers is not None:
        yield from _outliers(outliers, pixels.images.shape[1:3], rng)


def _labelled(pixels: Pixels, labelled: Sequence[int]) -> Iterator[Anomaly]:
    for index in labelled:
        image, mask = np.asarray(pixels.images[index]), pixels.mask(index)
        if mask is None or not mask.any():
            mask = np.ones(image.shape[:2], dtype=bool)
        # Itself, mirrored both ways and turned: a few labels are worth seeing from all sides.
        for rows, columns in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            yield Anomaly(
                np.ascontiguousarray(image[::rows, ::columns]),
                np.ascontiguousarray(mask[::rows, ::columns]),
                kind=str(pixels.samples[index].defect),
            )


def _synthetic(
    pixels: Pixels, nominal: Sequence[int], kind: AnomalyKind, rng: np.random.Generator
) -> Iterator[Anomaly]:
    for number in range(min(MOST_SYNTHETIC, 2 * len(nominal))):
        image = np.asarray(pixels.images[nominal[number % len(nominal)]])
        if kind == "confetti":
            made = confetti(image, rng)
        else:
            other = np.asarray(pixels.images[nominal[int(rng.integers(len(nominal)))]])
            made = scar(image, rng, source=other)
        yield Anomaly(made.image, made.mask, kind=f"synthetic {kind}")


def _outliers(root: Path, size: tuple[int, int], rng: np.random.Generator) -> Iterator[Anomaly]:
    folder = OutlierFolder(root, seed=int(rng.integers(2**31)))
    everywhere = np.ones(size, dtype=bool)
    for _ in range(min(MOST_OUTLIERS, len(folder))):
        yield Anomaly(folder.sample(rng, size), everywhere, kind="outlier exposure")
