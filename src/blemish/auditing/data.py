"""What an audit works on: the images of a folder, training images included, with their anomaly maps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.sampling import evenly
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.ignore_mask import of_record
from blemish.imaging.images import read_picture
from blemish.imaging.masks import read_mask_with_notes
from blemish.imaging.resizing import resize_mask, to_network_size
from blemish.model.detector import BATCH_SIZE, Detector
from blemish.process.progress import Progress, no_progress

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
Maps = npt.NDArray[np.float32]  # (N, H, W)
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

COMPARED_SIDE = 256  # pixels
MAX_IMAGES = 400  # of each side, evenly chosen: more make an audit slower, hardly surer
MIN_NOMINAL = 10


@dataclass(frozen=True, eq=False)
class AuditData:
    """N images at network size (H, W) and what the detector says of them.

    Attributes:
        samples: their records.
        pixels: uint8 (N, H, W, 3).
        compared: the same at `COMPARED_SIDE` pixels a side, whatever the network's size: a small network sees less
            than there is.
        masks: bool (N, H, W), where a mask of the folder says that the defect is; nothing in images without one.
        ignored: bool (H, W), the ignore mask in the model file.
        maps: float32 (N, H, W).
        threshold: from here on a score is an alarm.
        failed: path and reason of every image or mask that could not be read.
        left_out: images left out because there are more than `MAX_IMAGES`.
        remarks: what was lost in reading images, a sentence each.
        mask_warnings: sentences on masks that are empty, inverted or lose values.
    """

    samples: tuple[Sample, ...]
    pixels: Images
    compared: Images
    masks: Mask
    ignored: Mask
    maps: Maps
    threshold: float
    failed: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    remarks: tuple[str, ...] = ()
    mask_warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Network size (height, width)."""
        return self.maps.shape[1], self.maps.shape[2]

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """(N,), the maxima of the maps."""
        return self.maps.max(axis=(1, 2)).astype(np.float64)

    @cached_property
    def alarmed(self) -> Mask:
        """(N,), whether an image is called anomalous."""
        return np.asarray(self.scores >= self.threshold)

    @cached_property
    def anomalous(self) -> Mask:
        """(N,), whether the folder calls an image anomalous."""
        return np.array([sample.anomalous for sample in self.samples])


def gather(detector: Detector, data: DataSet, *, progress: Progress) -> AuditData:
    """Reads and scores both splits of a folder: unlike an evaluation, an audit may use what was learned from.

    Args:
        detector: the detector.
        data: the folder.
        progress: called with the stages "reading" and "scoring", the images done and all there are.

    Raises:
        BlemishError: fewer than `MIN_NOMINAL` good images can be read.
    """
    size = detector.metadata.size
    everything = (*data.test, *data.train)
    sides = [[sample for sample in everything if sample.anomalous is side] for side in (False, True)]
    chosen = [sample for side in sides for sample in evenly(side, MAX_IMAGES)]
    samples: list[Sample] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    compared: list[npt.NDArray[np.uint8]] = []
    masks: list[Mask] = []
    failed: list[tuple[str, str]] = []
    remarks: list[str] = []
    census = MaskCensus(data.root)
    for done, sample in enumerate(chosen, start=1):
        try:
            picture = read_picture(sample.path, detector.reading)
            mask = _read_mask(sample, picture.size, size, census)
        except ImageError as error:
            failed.append((str(sample.path), str(error)))
        else:
            samples.append(sample)
            remarks.extend(picture.remarks)
            pixels.append(to_network_size(picture.image, size))
            compared.append(to_network_size(picture.image, (COMPARED_SIDE, COMPARED_SIDE)))
            masks.append(mask)
        progress("reading", done, len(chosen))
    good = sum(not sample.anomalous for sample in samples)
    if good < MIN_NOMINAL:
        raise BlemishError(f"{data.root}: {good} good images that can be read; an audit needs {MIN_NOMINAL} or more")
    images = np.stack(pixels)
    ignored = of_record(detector.metadata.ignored, detector.metadata.size)
    return AuditData(
        samples=tuple(samples),
        pixels=images,
        compared=np.stack(compared),
        masks=np.stack(masks),
        ignored=np.zeros(size, dtype=bool) if ignored is None else ignored,
        maps=rescore(detector, images, progress=progress),
        threshold=detector.calibration.threshold,
        failed=tuple(failed),
        left_out=len(everything) - len(chosen),
        remarks=tuple(remarks),
        mask_warnings=census.warnings(),
    )


def rescore(detector: Detector, images: Images, *, progress: Progress = no_progress) -> Maps:
    """Anomaly maps (N, H, W) of images (N, H, W, 3) at network size."""
    maps = np.empty(images.shape[:3], np.float32)
    for start in range(0, len(images), BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(images))
        maps[start:stop] = detector.forward(images[start:stop])[0]
        progress("scoring", stop, len(images))
    return maps


def _read_mask(sample: Sample, own_size: tuple[int, int], size: tuple[int, int], census: MaskCensus) -> Mask:
    """The mask at network size: a pixel is in it where any part of it is."""
    if sample.mask is None:
        return np.zeros(size, dtype=bool)
    read = read_mask_with_notes(sample.mask, size=own_size)
    census.add(sample.mask, read.facts)
    return resize_mask(read.pixels, size, rule="touched")
