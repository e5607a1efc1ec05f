"""Random training images for methods that learn by gradient: half of each batch nominal, half anomalous.

Every draw has a random generator of its own, seeded by (seed, epoch, position): so a resumed training draws what it
would have drawn, and several processes draw the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from blemish.synthetic.augment import random_crop
from blemish.synthetic.outlier_exposure import OutlierFolder
from blemish.synthetic.registry import synthetic_anomaly
from blemish.training.anomaly_sources import Anomaly, ImageAugmentation, synthetic_anomalies
from blemish.training.config import FcddConfig
from blemish.training.data import TrainingData

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
Masks = npt.NDArray[np.bool_]  # (N, H, W)
Source = Callable[[np.random.Generator], Anomaly]  # draws an anomalous image


class ImageDraws:
    """Draws nominal and anomalous images, altered at random.

    Images with a synthetic anomaly count as anomalous everywhere, as in the paper: masks of what was changed made
    detectors worse on two of three sets (docs/paper.md).

    Anomalous ones are labelled defects, each type as often as any other; images of the outlier-exposure folder; and
    nominal images with a synthetic anomaly. Each source that there is gives the same share.

    Args:
        data: what to learn from.
        nominal: indices of the nominal images to draw from.
        augmentation: how images are altered.
        config: the constants of FCDD.
        seed: decides every draw.

    Raises:
        BlemishError: there is no anomalous image to learn from, or a mask cannot be read.
    """

    def __init__(
        self,
        data: TrainingData,
        nominal: Sequence[int],
        *,
        augmentation: ImageAugmentation,
        config: FcddConfig,
        seed: int,
    ) -> None:
        self._data = data
        self._nominal = nominal
        self._augmentation = augmentation
        self._config = config
        self._seed = seed
        self._size: tuple[int, int] = data.pixels.images.shape[1:3]
        self._sources = list(self._find_sources())

    def batches(self, epoch: int, *, steps: int, size: int) -> Iterator[tuple[Images, Masks]]:
        """The batches of an epoch, see `batch`; the next one is drawn while one is learned from."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.batch, epoch, 0, size=size)
            for step in range(steps):
                batch = waiting.result()
                if step + 1 < steps:
                    waiting = pool.submit(self.batch, epoch, step + 1, size=size)
                yield batch

    def batch(self, epoch: int, step: int, *, size: int) -> tuple[Images, Masks]:
        """Images and masks of what is anomalous, the first half nominal.

        The mask of an image whose anomalous part is not known is true everywhere.
        """
        images, masks = [], []
        for place in range(size):
            rng = np.random.default_rng((self._seed, epoch, step, place))
            image, mask = self._anomalous(rng) if 2 * place >= size else self._good(rng)
            images.append(image)
            masks.append(mask)
        drawn = np.stack(masks)
        if self._data.input_mask is not None:
            drawn &= ~self._data.input_mask.ignored.cpu().numpy()
        return np.stack(images), drawn

    def _good(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        image = self._nominal_image(rng)
        return self._altered(Anomaly(image, np.zeros(self._size, dtype=bool), ""), rng)

    def _anomalous(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        anomaly = self._sources[int(rng.integers(len(self._sources)))](rng)
        return self._altered(anomaly, rng)

    def _altered(
        self, anomaly: Anomaly, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Turned where `rotate` says so, else cropped at equal chance; in another light."""
        if self._config.rotate:
            made = self._augmentation.alter(anomaly, rng)
            return made.image, made.mask
        image, mask = anomaly.image, anomaly.mask
        if rng.random() < 0.5:
            image, mask = random_crop(image, mask, rng, max_zoom=self._config.max_zoom)
        return self._augmentation.relight(image, rng), mask

    def _nominal_image(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        return np.asarray(self._data.pixels.images[self._nominal[int(rng.integers(len(self._nominal)))]])

    def _find_sources(self) -> Iterator[Source]:
        data = self._data
        if data.labelled:
            yield self._labelled()
        folder = None if data.outliers is None else OutlierFolder(data.outliers, reading=data.pixels.reading)
        everywhere = np.ones(self._size, dtype=bool)
        if folder is not None:
            yield lambda rng: Anomaly(folder.sample(rng, self._size), everywhere, "outlier exposure")
        if data.synthetic != "none":
            make = synthetic_anomaly(data.synthetic, outliers=folder)
            images, nominal, name = data.pixels.images, self._nominal, data.synthetic

            def synthetic(rng: np.random.Generator) -> Anomaly:
                (made,) = synthetic_anomalies(images, nominal, make, 1, rng, name=name)
                return Anomaly(made.image, everywhere, made.kind)

            yield synthetic

    def _labelled(self) -> Source:
        """Draws labelled defects, half of the small ones set into a nominal image."""
        kinds = defaultdict(list)
        for index in self._data.labelled:
            mask = self._data.pixels.mask(index)
            if mask is None or not mask.any():
                mask = np.ones(self._size, dtype=bool)
            kind = str(self._data.pixels.samples[index].defect)
            kinds[kind].append(Anomaly(np.asarray(self._data.pixels.images[index]), mask, kind))
        known = [kinds[kind] for kind in sorted(kinds)]

        def draw(rng: np.random.Generator) -> Anomaly:
            defects = known[int(rng.integers(len(known)))]
            anomaly = defects[int(rng.integers(len(defects)))]
            if self._augmentation.transplants(anomaly, rng):
                return self._augmentation.transplant(anomaly, self._nominal_image(rng), rng)
            return anomaly

        return draw
