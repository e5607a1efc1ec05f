"""Near duplicates: photographs of one part under other light or shifted by a few pixels, which form groups.

Small grey pictures are compared by the correlation of their fine detail, at the shift where it is highest. Local
contrast is normalised, and the mean picture of all images is subtracted. The detail of one part appears in each of its
photographs, however bright. Different parts of one kind share shapes but no detail. So a pair counts only where its
correlation lies far above the median of the image's correlations with all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter

from blemish.datasets.sampling import evenly
from blemish.process.threads import readers

SIDE = 128  # pixels of the longer side
MAX_IMAGES = 500  # that are compared, evenly chosen
MAX_QUERIES = 64  # of these, each compared with all
MIN_IMAGES = 8  # the median over fewer means little
MAX_SHIFT = 12  # pixels
MIN_CORRELATION = 0.6  # of fine detail, for a near duplicate
MIN_EXCESS = 0.5  # of that correlation over the median of all others
MIN_SHARE = 0.1  # of images with a near duplicate, for images to seem to come in groups

_FRAME = 144  # SIDE + MAX_SHIFT and more, so that shifted pictures do not reach around
_DETAIL = 1.0  # sigma in pixels below which detail is fine
_NEIGHBOURHOOD = 4.0  # sigma within which contrast is made equal
_FAINT = 0.5  # grey levels that count as no contrast


@dataclass(frozen=True)
class NearDuplicates:
    """The near duplicates among some images.

    Attributes:
        asked: the number of images whose nearest image was searched for.
        pairs: the index of each that has a near duplicate, and the index of the duplicate.
    """

    asked: int
    pairs: tuple[tuple[int, int], ...]

    @property
    def suspicious(self) -> bool:
        """Whether there are so many that images seem to come in groups."""
        return len(self.pairs) >= max(2, MIN_SHARE * self.asked)


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The small grey picture (H, W) that is compared, `SIDE` pixels on its longer side."""
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize(size, how))


def find(pictures: Sequence[npt.NDArray[np.uint8]]) -> NearDuplicates:
    """Searches for near duplicates.

    Args:
        pictures: thumbnails (H, W), see `thumbnail`; `MAX_QUERIES` of them are compared with all.
    """
    if len(pictures) < MIN_IMAGES:
        return NearDuplicates(0, ())
    spectra = fft.rfft2(_details(pictures), workers=readers())
    asked = evenly(range(len(pictures)), MAX_QUERIES)
    pairs = []
    for image in asked:
        agreement = np.delete(_agreement(spectra, image), image)
        nearest = int(agreement.argmax())
        if agreement[nearest] >= max(MIN_CORRELATION, np.median(agreement) + MIN_EXCESS):
            pairs.append((image, nearest + (nearest >= image)))
    return NearDuplicates(len(asked), tuple(pairs))


def _agreement(spectra: npt.NDArray[np.complex64], image: int) -> npt.NDArray[np.float32]:
    """The largest correlation (N,) of an image with each, over shifts of up to `MAX_SHIFT` pixels."""
    products = fft.irfft2(spectra[image].conj() * spectra, s=(_FRAME, _FRAME), workers=readers())
    near = np.r_[: MAX_SHIFT + 1, -MAX_SHIFT:0]
    return products[:, near][:, :, near].max((1, 2))


def _details(pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Fine detail of each picture in a frame of zeros, (N, H, W), of length one."""
    frames = np.zeros((len(pictures), _FRAME, _FRAME), np.float32)
    for frame, picture in zip(frames, pictures, strict=True):
        grey = picture.astype(np.float32)
        detail = grey - gaussian_filter(grey, _DETAIL)
        detail /= np.sqrt(gaussian_filter(detail**2, _NEIGHBOURHOOD)) + _FAINT
        frame[: picture.shape[0], : picture.shape[1]] = detail - detail.mean()
    frames -= frames.mean(0)
    return frames / np.maximum(np.linalg.norm(frames, axis=(1, 2), keepdims=True), 1e-9)
