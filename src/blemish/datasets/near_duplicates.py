"""Images that are nearly the same: photographs of one part under other light or a few pixels aside, which are groups.

Fine detail is compared, in small grey pictures at the shift at which they agree best, with local contrast made equal
and what all images have in common taken away. Detail of one part returns in each of its photographs, however bright.
Parts that are only alike by nature share shapes, but no detail, and then with many others: a pair counts where it
agrees far better than either image does with most.
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
MAX_IMAGES = 500  # looked at, evenly chosen
MAX_ASKED = 64  # of these, each compared with all
MIN_IMAGES = 8  # fewer tell nothing of what is usual
SHIFT = 12  # pixels
SAME = 0.6  # correlation of fine detail
ABOVE_USUAL = 0.5  # so far must it lie above the median over all others
SUSPICIOUS = 0.1  # share of the images asked that have a near duplicate

_FRAME = 144  # SIDE + SHIFT and more, so that shifted pictures do not reach around
_DETAIL = 1.0  # sigma in pixels below which detail is fine
_NEIGHBOURHOOD = 4.0  # sigma within which contrast is made equal
_FAINT = 0.5  # grey levels that count as no contrast


@dataclass(frozen=True)
class NearDuplicates:
    """What `find` found.

    Attributes:
        asked: images whose nearest one was looked for.
        pairs: indices of those that have a near duplicate, and of it.
    """

    asked: int
    pairs: tuple[tuple[int, int], ...]

    @property
    def suspicious(self) -> bool:
        """Whether there are so many that images seem to come in groups."""
        return len(self.pairs) >= max(2, SUSPICIOUS * self.asked)


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The small grey picture (H, W) that is compared, `SIDE` pixels on its longer side."""
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize(size, how))


def find(pictures: Sequence[npt.NDArray[np.uint8]]) -> NearDuplicates:
    """Looks for the near duplicates of some of the `pictures`, each (H, W) of `thumbnail`, among all of them."""
    if len(pictures) < MIN_IMAGES:
        return NearDuplicates(0, ())
    spectra = fft.rfft2(_details(pictures), workers=readers())
    asked = evenly(range(len(pictures)), MAX_ASKED)
    pairs = []
    for image in asked:
        agreement = np.delete(_agreement(spectra, image), image)
        nearest = int(agreement.argmax())
        if agreement[nearest] >= max(SAME, np.median(agreement) + ABOVE_USUAL):
            pairs.append((image, nearest + (nearest >= image)))
    return NearDuplicates(len(asked), tuple(pairs))


def _agreement(spectra: npt.NDArray[np.complex64], image: int) -> npt.NDArray[np.float32]:
    """The largest correlation (N,) of an image with each, over shifts of up to `SHIFT` pixels."""
    products = fft.irfft2(spectra[image].conj() * spectra, s=(_FRAME, _FRAME), workers=readers())
    near = np.r_[: SHIFT + 1, -SHIFT:0]
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
