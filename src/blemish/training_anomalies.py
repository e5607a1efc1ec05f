"""Everything anomalous a training can learn from: synthetic anomalies, labelled images, outlier exposure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from blemish.datasets.pixels import Pixels
from blemish.imaging.reading import Reading
from blemish.synthetic import Synthetic
from blemish.synthetic.confetti import confetti
from blemish.synthetic.outliers import OutlierFolder
from blemish.synthetic.scars import scar
from blemish.synthetic.transplant import transplant
from blemish.synthetic.turned import Freedom, relit

SyntheticKind = Literal["confetti", "scars"]
AnomalyKind = Literal["none", "confetti", "scars"]

MOST_LABELLED = 960  # training images made of labelled ones, over all defect types; more where there are more labels
MOST_OUTLIERS = 500
LARGE = 0.05  # of the image: a defect of that size fits nowhere but where it is
SUSPICIOUS = 0.75  # of an image's largest value: where a defect without a mask is taken to be

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
Light = Callable[[npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.uint8]]  # an image (H, W, 3), its copy
Map = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]  # image (H, W, 3) to anomaly map (H, W)


@dataclass(frozen=True)
class Anomaly:
    """One anomalous training image: uint8 (H, W, 3), bool (H, W) and its defect type or source."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    kind: str


def paint(
    images: Images,
    index: int,
    kind: SyntheticKind,
    rng: np.random.Generator,
    *,
    nominal: Sequence[int],
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Synthetic:
    """A synthetic anomaly on one of the images, where pixels are not ignored; scars have another one's texture."""
    image = np.asarray(images[index])
    where = None if ignored is None else ~ignored
    if kind == "confetti":
        made = confetti(image, rng)
    else:
        made = scar(image, rng, source=np.asarray(images[nominal[int(rng.integers(len(nominal)))]]), where=where)
    return made if where is None else replace(made, mask=made.mask & where)


@dataclass(frozen=True)
class Alteration:
    """How copies of images are made to look like others of their kind.

    Attributes:
        freedom: how they may be turned.
        light: what makes them brighter or darker.
    """

    freedom: Freedom
    light: Light = relit


def nominal_copies(
    images: Images, nominal: Sequence[int], number: int, rng: np.random.Generator, *, alteration: Alteration
) -> Iterator[npt.NDArray[np.uint8]]:
    """Altered copies of nominal images drawn at random."""
    for _ in range(number):
        image = np.asarray(images[nominal[int(rng.integers(len(nominal)))]])
        yield alteration.light(alteration.freedom.draw(rng, image.shape[:2]).apply(image), rng)


def labelled_anomalies(
    pixels: Pixels,
    labelled: Sequence[int],
    nominal: Sequence[int],
    *,
    alteration: Alteration,
    suspect: Map,
    rng: np.random.Generator,
) -> list[Anomaly]:
    """Labelled defects as they are, turned, and set into nominal images; each defect type equally often.

    Args:
        pixels: the training images.
        labelled: indices of those labelled as defective.
        nominal: indices of nominal ones.
        alteration: how they may be altered.
        suspect: the detector so far: where there is no mask, the defect is taken to be where its map is high.
        rng: decides all draws.

    Raises:
        BlemishError: a mask cannot be read.
    """
    known = [_with_mask(pixels, index, suspect) for index in labelled]
    by_kind = {kind: [one for one in known if one.kind == kind] for kind in sorted({one.kind for one in known})}
    made = list(known)
    while len(made) < max(MOST_LABELLED, 2 * len(known)):
        for defects in by_kind.values():
            one = defects[int(rng.integers(len(defects)))]
            target = np.asarray(pixels.images[nominal[int(rng.integers(len(nominal)))]])
            small = one.mask.mean() < LARGE
            transplanted = small and rng.random() < 0.5
            made.append(_transplanted(one, target, rng, alteration) if transplanted else _altered(one, rng, alteration))
    return made


def outlier_anomalies(
    root: Path, size: tuple[int, int], rng: np.random.Generator, *, reading: Reading | None = None
) -> list[Anomaly]:
    """Outlier exposure: images of a folder, anomalous everywhere. Raises BlemishError when it cannot be used."""
    folder = OutlierFolder(root, reading=reading)
    everywhere = np.ones(size, dtype=bool)
    count = min(MOST_OUTLIERS, len(folder))
    return [Anomaly(folder.sample(rng, size), everywhere, kind="outlier exposure") for _ in range(count)]


def _with_mask(pixels: Pixels, index: int, suspect: Map) -> Anomaly:
    image, mask = np.asarray(pixels.images[index]), pixels.mask(index)
    if mask is None or not mask.any():
        values = suspect(image)
        mask = values >= SUSPICIOUS * values.max()
    return Anomaly(image, mask, kind=str(pixels.samples[index].defect))


def _altered(one: Anomaly, rng: np.random.Generator, alteration: Alteration) -> Anomaly:
    pose = alteration.freedom.draw(rng, one.mask.shape)
    mask = pose.apply_to_mask(one.mask)
    if not mask.any():  # a defect at the edge that left the image
        return one
    return Anomaly(alteration.light(pose.apply(one.image), rng), mask, one.kind)


def _transplanted(
    one: Anomaly, target: npt.NDArray[np.uint8], rng: np.random.Generator, alteration: Alteration
) -> Anomaly:
    made = transplant(one.image, one.mask, target, rng, pose=alteration.freedom.draw(rng, one.mask.shape))
    if made is None:
        return _altered(one, rng, alteration)
    return Anomaly(alteration.light(made.image, rng), made.mask, one.kind)
