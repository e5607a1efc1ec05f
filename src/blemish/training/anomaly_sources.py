"""Everything anomalous that a training can learn from: labelled images, outlier exposure and synthetic anomalies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.datasets.pixels import Pixels
from blemish.errors import BlemishError
from blemish.imaging.reading import Reading
from blemish.synthetic.augment import Invariances, relit
from blemish.synthetic.defect_transplant import transplant
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.registry import SyntheticAnomaly

MAX_LABELLED = 960  # training images made of labelled ones, over all defect types; more where there are more labels
MAX_OUTLIERS = 500
LARGE = 0.05  # of the image: a defect of that size fits nowhere but where it is
SUSPICIOUS = 0.75  # of an image's largest value: where a defect without a mask is taken to be

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
Map = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]  # image (H, W, 3) to anomaly map (H, W)


@dataclass(frozen=True)
class Anomaly:
    """One anomalous training image: uint8 (H, W, 3), bool (H, W) and its defect type or source."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    kind: str


def nominal_copies(
    images: Images, nominal: Sequence[int], number: int, rng: np.random.Generator, *, invariances: Invariances
) -> Iterator[npt.NDArray[np.uint8]]:
    """Altered copies of nominal images drawn at random."""
    for _ in range(number):
        image = np.asarray(images[nominal[int(rng.integers(len(nominal)))]])
        yield relit(invariances.draw(rng, image.shape[:2]).apply(image), rng)


def labelled_anomalies(
    pixels: Pixels,
    labelled: Sequence[int],
    nominal: Sequence[int],
    *,
    invariances: Invariances,
    suspect: Map,
    rng: np.random.Generator,
) -> list[Anomaly]:
    """Labelled defects as they are, turned, and set into nominal images; each defect type equally often.

    Args:
        pixels: the training images.
        labelled: indices of those labelled as defective.
        nominal: indices of nominal ones.
        invariances: how they may be turned.
        suspect: the detector so far: where there is no mask, the defect is taken to be where its map is high.
        rng: decides all draws.

    Raises:
        BlemishError: a mask cannot be read.
    """
    known = [_with_mask(pixels, index, suspect) for index in labelled]
    by_kind = {kind: [one for one in known if one.kind == kind] for kind in sorted({one.kind for one in known})}
    made = list(known)
    while len(made) < max(MAX_LABELLED, 2 * len(known)):
        for defects in by_kind.values():
            one = defects[int(rng.integers(len(defects)))]
            target = np.asarray(pixels.images[nominal[int(rng.integers(len(nominal)))]])
            small = one.mask.mean() < LARGE
            transplanted = small and rng.random() < 0.5
            made.append(
                _transplanted(one, target, rng, invariances) if transplanted else _altered(one, rng, invariances)
            )
    return made


def outlier_anomalies(
    root: Path, size: tuple[int, int], rng: np.random.Generator, *, reading: Reading | None = None
) -> list[Anomaly]:
    """Outlier exposure: images of a folder, anomalous everywhere. Raises BlemishError when it cannot be used."""
    folder = OutlierFolder(root, reading=reading)
    everywhere = np.ones(size, dtype=bool)
    count = min(MAX_OUTLIERS, len(folder))
    return [Anomaly(folder.sample(rng, size), everywhere, kind="outlier exposure") for _ in range(count)]


def synthetic_anomalies(
    images: Images, nominal: Sequence[int], make: SyntheticAnomaly, number: int, rng: np.random.Generator, *, name: str
) -> list[Anomaly]:
    """Copies of random nominal images with a synthetic anomaly; copies that it left as they were are drawn again.

    Args:
        images: all training images, uint8 (N, H, W, 3).
        nominal: indices of nominal ones.
        make: the synthetic anomaly.
        number: how many copies.
        rng: decides all draws.
        name: of the synthetic anomaly.

    Raises:
        BlemishError: it makes something that is no image and mask of this size, or changes no image.
    """
    made: list[Anomaly] = []
    for _ in range(2 * number):
        image = np.asarray(images[nominal[int(rng.integers(len(nominal)))]])
        copy = make(image, rng)
        if copy.image.shape != image.shape or copy.image.dtype != np.uint8 or copy.mask.shape != image.shape[:2]:
            raise BlemishError(
                f"the synthetic anomaly {name} made an image {copy.image.dtype} {copy.image.shape} and a mask "
                f"{copy.mask.shape} of a uint8 {image.shape}: both must keep its size"
            )
        if copy.mask.any():
            made.append(Anomaly(copy.image, copy.mask.astype(bool), kind=f"synthetic {name}"))
        if len(made) == number:
            return made
    if not made:
        raise BlemishError(f"the synthetic anomaly {name} changes none of these images: leave it out")
    return made


def _with_mask(pixels: Pixels, index: int, suspect: Map) -> Anomaly:
    image, mask = np.asarray(pixels.images[index]), pixels.mask(index)
    if mask is None or not mask.any():
        values = suspect(image)
        mask = values >= SUSPICIOUS * values.max()
    return Anomaly(image, mask, kind=str(pixels.samples[index].defect))


def _altered(one: Anomaly, rng: np.random.Generator, invariances: Invariances) -> Anomaly:
    pose = invariances.draw(rng, one.mask.shape)
    mask = pose.apply_to_mask(one.mask)
    if not mask.any():  # a defect at the edge that left the image
        return one
    return Anomaly(relit(pose.apply(one.image), rng), mask, one.kind)


def _transplanted(
    one: Anomaly, target: npt.NDArray[np.uint8], rng: np.random.Generator, invariances: Invariances
) -> Anomaly:
    made = transplant(one.image, one.mask, target, rng, pose=invariances.draw(rng, one.mask.shape))
    if made is None:
        return _altered(one, rng, invariances)
    return Anomaly(relit(made.image, rng), made.mask, one.kind)
