"""What would the detector say if a part of the image, or its light, were that of another image?

Covering takes a suspicious region from the images that carry a cue; putting on gives it to images that do not. Either
changes the image in other ways too, so each is told beside a control: the same done with images without the cue.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.audit.data import Images, Indices, Mask, Material, rescore
from blemish.faithfulness.inpainting import inpaint
from blemish.model.detector import Detector

MOST = 40  # images a question is put to
THUMBNAIL = 8  # what fills a hole comes from an image that is alike on every eighth pixel

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Change:
    """Scores of some images before and after a change.

    Attributes:
        images: indices of the images (n,).
        before, after: their scores (n,).
        threshold: from here on a score is an alarm.
        pixels: the changed images, uint8 (n, H, W, 3).
        maps: their anomaly maps, float32 (n, H, W).
    """

    images: Indices
    before: Scores
    after: Scores
    threshold: float
    pixels: Images
    maps: npt.NDArray[np.float32]

    @property
    def alarms(self) -> int:
        """Images that were alarms before."""
        return int((self.before >= self.threshold).sum())

    @property
    def gone(self) -> Indices:
        """Images that were alarms and are none any more."""
        return self.images[(self.before >= self.threshold) & (self.after < self.threshold)]

    @property
    def new(self) -> Indices:
        """Images that were no alarms and have become ones."""
        return self.images[(self.before < self.threshold) & (self.after >= self.threshold)]

    @property
    def calm(self) -> int:
        """Images that were no alarms before."""
        return len(self.images) - self.alarms


def cover(detector: Detector, material: Material, images: Indices, region: Mask, *, donors: Indices) -> Change:
    """The region (H, W) of each image filled in from the donor that looks most like it outside the region."""
    images = _some(images)
    return _change(detector, material, images, _nearest(material, images, region, donors), region)


def put_on(detector: Detector, material: Material, images: Indices, region: Mask, *, donors: Indices) -> Change:
    """The region (H, W) of each image filled in from the donors, one after the other."""
    images = _some(images)
    return _change(detector, material, images, np.resize(donors, len(images)), region)


def restyle(detector: Detector, material: Material, images: Indices, changed: Images) -> Change:
    """The images as `changed` (n, H, W, 3) has them."""
    maps = rescore(detector, changed)
    return _as_change(material, images, changed, maps)


def _change(detector: Detector, material: Material, images: Indices, donors: Indices, region: Mask) -> Change:
    pixels = material.pixels
    changed = np.stack(
        [inpaint(pixels[one], pixels[donor], region) for one, donor in zip(images, donors, strict=True)]
    ) if len(images) else np.empty((0, *pixels.shape[1:]), np.uint8)  # fmt: skip
    return _as_change(material, images, changed, rescore(detector, changed))


def _as_change(material: Material, images: Indices, changed: Images, maps: npt.NDArray[np.float32]) -> Change:
    after = maps.max(axis=(1, 2)).astype(np.float64)
    return Change(images, material.scores[images], after, material.threshold, changed, maps)


def _nearest(material: Material, images: Indices, region: Mask, donors: Indices) -> Indices:
    small = material.pixels[:, ::THUMBNAIL, ::THUMBNAIL].astype(np.float32)  # (N, h, w, 3)
    outside = ~region[::THUMBNAIL, ::THUMBNAIL]
    chosen = []
    for one in images:
        others = donors[donors != one]
        differences = ((small[others] - small[one]) ** 2)[:, outside]
        chosen.append(others[int(differences.sum(axis=(1, 2)).argmin())])
    return np.array(chosen, dtype=np.intp)


def _some(images: Indices) -> Indices:
    if len(images) <= MOST:
        return images
    return images[np.linspace(0, len(images) - 1, MOST).round().astype(int)]
