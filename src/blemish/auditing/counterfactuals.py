"""Counterfactual tests: what would the score be if a part of the image, or its light, were that of another image?

A cue is removed from the images that carry it, and inserted into images that do not. Either changes the image in other
ways too, so each is compared with a control: the same done with images without the cue.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.auditing.data import AuditData, Images, Indices, Maps, Mask, rescore
from blemish.datasets.sampling import evenly
from blemish.faithfulness.inpainting import inpaint
from blemish.model.detector import Detector

MAX_CHANGED = 40  # images a cue is removed from or inserted into
THUMBNAIL_STEP = 8  # pixels: images are compared on every eighth row and column

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Change:
    """Scores of n images before and after a change.

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
    maps: Maps

    @property
    def alarms(self) -> int:
        """How many images were alarms before."""
        return int((self.before >= self.threshold).sum())

    @property
    def non_alarms(self) -> int:
        """How many images were no alarms before."""
        return len(self.images) - self.alarms

    @property
    def lost(self) -> Indices:
        """The images that were alarms and are none after the change."""
        return self.images[(self.before >= self.threshold) & (self.after < self.threshold)]

    @property
    def gained(self) -> Indices:
        """The images that were no alarms and are alarms after the change."""
        return self.images[(self.before < self.threshold) & (self.after >= self.threshold)]


def remove_cue(detector: Detector, data: AuditData, images: Indices, region: Mask, *, donors: Indices) -> Change:
    """Fills the region of each image from the most similar donor.

    Args:
        detector: scores the changed images.
        data: the images of the audit.
        images: indices of those that carry the cue; at most `MAX_CHANGED` of them are changed.
        region: bool (H, W), where the cue lies.
        donors: indices of images without the cue; an image is never its own donor. Similarity is the least squared
            difference outside the region.
    """
    images = _sample(images)
    return _fill(detector, data, images, _nearest(data, images, region, donors), region)


def insert_cue(detector: Detector, data: AuditData, images: Indices, region: Mask, *, donors: Indices) -> Change:
    """Fills the region of each image from the donors in turn; the arguments are those of `remove_cue`."""
    images = _sample(images)
    return _fill(detector, data, images, np.resize(donors, len(images)), region)


def replace_images(detector: Detector, data: AuditData, images: Indices, changed: Images) -> Change:
    """Replaces whole images, of these indices (n,), by `changed`, uint8 (n, H, W, 3)."""
    maps = rescore(detector, changed)
    after = maps.max(axis=(1, 2)).astype(np.float64)
    return Change(images, data.scores[images], after, data.threshold, changed, maps)


def _fill(detector: Detector, data: AuditData, images: Indices, donors: Indices, region: Mask) -> Change:
    changed = np.empty((len(images), *data.pixels.shape[1:]), np.uint8)
    for place, (image, donor) in enumerate(zip(images, donors, strict=True)):
        changed[place] = inpaint(data.pixels[image], data.pixels[donor], region)
    return replace_images(detector, data, images, changed)


def _nearest(data: AuditData, images: Indices, region: Mask, donors: Indices) -> Indices:
    """The most similar donor of each image outside the region, (n,)."""
    thumbnails = data.pixels[:, ::THUMBNAIL_STEP, ::THUMBNAIL_STEP].astype(np.float32)  # (N, h, w, 3)
    outside = ~region[::THUMBNAIL_STEP, ::THUMBNAIL_STEP]
    chosen = []
    for image in images:
        candidates = donors[donors != image]
        differences = ((thumbnails[candidates] - thumbnails[image]) ** 2)[:, outside]
        chosen.append(candidates[int(differences.sum(axis=(1, 2)).argmin())])
    return np.array(chosen, dtype=np.intp)


def _sample(images: Indices) -> Indices:
    return images[evenly(range(len(images)), MAX_CHANGED)]
