"""Scored test images, what figures are computed from, and the result of an evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.datasets.layouts import Sample
from blemish.datasets.mask_warnings import MaskCensus
from blemish.evaluation.metrics import PixelMetrics, PixelResult
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import HeatmapScale
from blemish.imaging.masks import mask_name, read_mask_with_notes
from blemish.imaging.reading import Reading
from blemish.model.scored_image import ScoredImage
from blemish.process.deprecation import renamed_attribute

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluatedImage:
    """A test image and what the detector says of it."""

    sample: Sample
    scored: ScoredImage


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation found.

    Attributes:
        model, data: names of the model file and of the folder.
        images: the scored test images.
        failed: path and reason of every image or mask that could not be read.
        metrics: figures by the names that `blemish evaluate --json` prints; None where the data cannot say.
        scale: the detector's colour scale with its threshold.
        false_alarm_rate: the asked rate.
        calibration_statement: which rate the threshold holds, in one sentence.
        metadata: the model file's metadata, without its long lists.
        left_out: test images that the model was trained or calibrated on.
        reading: how the model reads images.
        fully_ignored: anomalous images of which all that is anomalous is ignored; they count neither way.
        mask_warnings: sentences on masks that spoil the figures: empty ones, inverted ones, such that lose values.
    """

    model: str
    data: str
    images: list[EvaluatedImage]
    failed: list[tuple[str, str]]
    metrics: dict[str, Any]
    scale: HeatmapScale
    false_alarm_rate: float
    calibration_statement: str
    metadata: dict[str, Any]
    left_out: int
    fully_ignored: int = 0
    reading: Reading = field(default_factory=Reading)
    mask_warnings: tuple[str, ...] = ()

    hidden = renamed_attribute("hidden", "fully_ignored")

    @property
    def remarks(self) -> list[str]:
        """What was lost in reading the images, a sentence each."""
        return [remark for image in self.images for remark in image.scored.remarks]


@dataclass(frozen=True, eq=False)
class ScoredSplit:
    """N scored test images: what every figure is computed from.

    Attributes:
        images: the images with their samples, anomaly maps, scores, p-values and verdicts.
        seconds: how long scoring them took.
        census: gathers what is suspicious about the masks.
        faulty_masks: path and reason of every mask that could not be read.
    """

    images: Sequence[EvaluatedImage]
    seconds: float = 0.0
    census: MaskCensus | None = None
    faulty_masks: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def anomalous(self) -> Mask:
        """Bool (N,), whether the folder calls an image anomalous."""
        return np.array([image.sample.anomalous for image in self.images], dtype=bool)

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """Float (N,), higher = more anomalous."""
        return np.array([image.scored.score for image in self.images], dtype=np.float64)

    @cached_property
    def alarms(self) -> Mask:
        """Bool (N,), whether the verdict is "anomalous"; "unsure" is no alarm."""
        return np.array([image.scored.verdict == "anomalous" for image in self.images], dtype=bool)

    @property
    def has_both_kinds(self) -> bool:
        """Whether there are nominal and anomalous images."""
        return bool(self.anomalous.any() and not self.anomalous.all())

    @property
    def defects(self) -> list[str]:
        """The types of defects, sorted."""
        return sorted({image.sample.defect for image in self.images if image.sample.defect is not None})

    def of_defect(self, defect: str) -> "ScoredSplit":
        """The images with one type of defect and all nominal ones."""
        return ScoredSplit([image for image in self.images if image.sample.defect in (defect, None)])

    def with_masks(self) -> Iterator[tuple[EvaluatedImage, Mask | None]]:
        """Every image with its mask, bool (H, W) at the image's own size, all False for nominal images.

        None for an anomalous image without a mask, or with one that cannot be read.
        """
        return ((image, self._mask(image)) for image in self.images)

    @cached_property
    def pixels(self) -> PixelResult | None:
        """Pixel AUROC and AUPRO at the images' own sizes; None without both nominal and anomalous pixels.

        Computing it fills `census` and `faulty_masks`.
        """
        with PixelMetrics() as pixels:
            nominal = anomalous = False
            for image in self.images:
                mask = self._mask(image, census=self.census, faulty=self.faulty_masks)
                if mask is None:
                    continue
                ignored = image.scored.full_ignored()
                counted = mask if ignored is None else mask[~ignored]
                pixels.update(image.scored.full_map(), mask, ignored=ignored)
                anomalous |= bool(counted.any())
                nominal |= not counted.all()
            return pixels.compute() if nominal and anomalous else None

    def _mask(
        self,
        image: EvaluatedImage,
        *,
        census: MaskCensus | None = None,
        faulty: list[tuple[str, str]] | None = None,
    ) -> Mask | None:
        sample = image.sample
        if not sample.anomalous:
            return np.zeros(image.scored.size, dtype=bool)
        if sample.mask is None:
            return None
        try:
            mask = read_mask_with_notes(sample.mask, size=image.scored.size)
        except ImageError as error:
            if faulty is not None:
                faulty.append((mask_name(sample.mask), str(error)))
            return None
        if census is not None:
            census.add(sample.mask, mask.facts)
        return mask.pixels
