"""What a detector says of one image."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.conformal.split import Verdict
from blemish.imaging.resizing import resize_mask, to_network_size, upscale
from blemish.imaging.types import Mask
from blemish.process.deprecation import renamed_attribute


@dataclass(frozen=True)
class ScoredImage:
    """What the detector says of one image.

    Attributes:
        source: the path, or "image 3" for the fourth image given as pixels.
        score: maximum of the anomaly map; higher is more anomalous, never rescaled.
        p_value: share of nominal images expected to score at least this high, in (0, 1].
        verdict: see `Calibration.verdict`.
        anomaly_map: float32 (H, W) at network size.
        size: (height, width) of the image itself.
        ignored: where pixels are ignored, bool (H, W) at network size; None where none are.
        drift_features: its brightness and sharpness, see `drift_statistics`; empty where the model has no reference.
        remarks: what was lost in reading it, a sentence each.
        pixels_digest: BLAKE2b digest of the pixels at network size, empty where it is not known; see `is_of`.
    """

    source: str
    score: float
    p_value: float
    verdict: Verdict
    anomaly_map: npt.NDArray[np.float32]
    size: tuple[int, int]
    ignored: Mask | None = None
    drift_features: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    pixels_digest: str = ""

    light = renamed_attribute("light", "drift_features")

    def is_of(self, image: Image.Image) -> bool:
        """Whether an image, as `read_image` reads it, has the pixels that were scored; True if that is not known."""
        if not self.pixels_digest:
            return True
        same_size = (image.height, image.width) == self.size
        return same_size and digest(to_network_size(image, self.anomaly_map.shape)) == self.pixels_digest

    def full_map(self) -> npt.NDArray[np.float32]:
        """The anomaly map at the image's own size, float32 (height, width); 0 where pixels are ignored."""
        full, ignored = upscale(self.anomaly_map, self.size), self.full_ignored()
        return full if ignored is None else np.where(ignored, np.float32(0), full)

    def full_ignored(self) -> Mask | None:
        """Where pixels are ignored, bool (height, width) at the image's own size; None where none are."""
        return None if self.ignored is None else resize_mask(self.ignored, self.size, rule="corner")


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be scored, and why in one sentence."""

    source: str
    reason: str


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """BLAKE2b digest, 32 hexadecimal digits, of pixels (H, W, 3)."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
