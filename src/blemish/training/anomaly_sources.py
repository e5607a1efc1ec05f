"""Everything anomalous that a training can learn from: labelled images, outlier exposure and synthetic anomalies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.datasets.pixels import Pixels
from blemish.errors import BlemishError
from blemish.imaging.reading import Reading
from blemish.synthetic.augment import Invariances, Pose, jitter_brightness_contrast
from blemish.synthetic.defect_transplant import transplant
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.registry import SyntheticAnomaly
from blemish.training.config import AugmentationConfig, DefectBranchConfig

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
Map = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]  # image (H, W, 3) to anomaly map (H, W)


@dataclass(frozen=True)
class Anomaly:
    """One anomalous training image: uint8 (H, W, 3), bool (H, W) and its defect type or source."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    kind: str


@dataclass(frozen=True)
class ImageAugmentation:
    """How images are altered.

    Attributes:
        config: by how much.
        aspect: how high a pixel is over how wide: copies are turned as the part itself is.
    """

    config: AugmentationConfig
    aspect: float = 1.0

    def pose(self, rng: np.random.Generator, size: tuple[int, int]) -> Pose:
        """A random pose of an image (height, width)."""
        limits = Invariances(max_zoom=self.config.max_zoom, max_shift=self.config.max_shift, aspect=self.aspect)
        return limits.draw(rng, size)

    def relight(self, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """The image (H, W, 3) in another light."""
        return jitter_brightness_contrast(image, rng, contrast=self.config.contrast, brightness=self.config.brightness)

    def alter(self, anomaly: Anomaly, rng: np.random.Generator) -> Anomaly:
        """A turned copy in another light; the anomaly itself where its defect has left the image."""
        pose = self.pose(rng, anomaly.mask.shape)
        mask = pose.apply_to_mask(anomaly.mask)
        if not mask.any():  # a defect at the edge that left the image
            return anomaly
        return Anomaly(self.relight(pose.apply(anomaly.image), rng), mask, anomaly.kind)

    def transplants(self, anomaly: Anomaly, rng: np.random.Generator) -> bool:
        """Whether this copy of a defect is one to transplant: small ones are, at random."""
        small = bool(anomaly.mask.mean() < self.config.max_transplant_area)
        return small and rng.random() < self.config.transplant_probability

    def transplant(self, anomaly: Anomaly, target: npt.NDArray[np.uint8], rng: np.random.Generator) -> Anomaly:
        """The defect set into a nominal image (H, W, 3), in another light; an altered copy where it does not fit."""
        made = transplant(
            anomaly.image,
            anomaly.mask,
            target,
            rng,
            pose=self.pose(rng, anomaly.mask.shape),
            margin=self.config.transplant_margin,
            ring=self.config.transplant_ring,
            feather=self.config.transplant_feather,
            places=self.config.transplant_places,
        )
        if made is None:
            return self.alter(anomaly, rng)
        return Anomaly(self.relight(made.image, rng), made.mask, anomaly.kind)


def nominal_copies(
    images: Images, nominal: Sequence[int], number: int, rng: np.random.Generator, *, augmentation: ImageAugmentation
) -> Iterator[npt.NDArray[np.uint8]]:
    """Altered copies of nominal images drawn at random."""
    for _ in range(number):
        image = np.asarray(images[nominal[int(rng.integers(len(nominal)))]])
        yield augmentation.relight(augmentation.pose(rng, image.shape[:2]).apply(image), rng)


def labelled_anomalies(
    pixels: Pixels,
    labelled: Sequence[int],
    nominal: Sequence[int],
    *,
    augmentation: ImageAugmentation,
    predict_map: Map,
    rng: np.random.Generator,
    config: DefectBranchConfig,
) -> list[Anomaly]:
    """Labelled defects as they are, altered, and set into nominal images; each defect type equally often.

    Args:
        pixels: the training images.
        labelled: indices of those labelled as defective.
        nominal: indices of nominal ones.
        augmentation: how they are altered.
        predict_map: the detector so far: where there is no mask, the defect is taken to be where its map is high.
        rng: decides all draws.
        config: how many.

    Raises:
        BlemishError: a mask cannot be read.
    """
    known = [_with_mask(pixels, index, predict_map, config.pseudo_mask_level) for index in labelled]
    kinds = sorted({anomaly.kind for anomaly in known})
    by_kind = {kind: [anomaly for anomaly in known if anomaly.kind == kind] for kind in kinds}
    made = list(known)
    while len(made) < max(config.labelled_images, 2 * len(known)):
        for defects in by_kind.values():
            anomaly = defects[int(rng.integers(len(defects)))]
            target = np.asarray(pixels.images[nominal[int(rng.integers(len(nominal)))]])
            if augmentation.transplants(anomaly, rng):
                made.append(augmentation.transplant(anomaly, target, rng))
            else:
                made.append(augmentation.alter(anomaly, rng))
    return made


def outlier_anomalies(
    root: Path, size: tuple[int, int], rng: np.random.Generator, *, at_most: int, reading: Reading | None = None
) -> list[Anomaly]:
    """Outlier exposure: images of a folder, anomalous everywhere. Raises BlemishError when it cannot be used."""
    folder = OutlierFolder(root, reading=reading)
    everywhere = np.ones(size, dtype=bool)
    count = min(at_most, len(folder))
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


def _with_mask(pixels: Pixels, index: int, predict_map: Map, level: float) -> Anomaly:
    """A labelled image with its mask, or with that of the values from a share of its map's largest on."""
    image, mask = np.asarray(pixels.images[index]), pixels.mask(index)
    if mask is None or not mask.any():
        values = predict_map(image)
        mask = values >= level * values.max()
    return Anomaly(image, mask, kind=str(pixels.samples[index].defect))
