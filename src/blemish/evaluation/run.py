"""Evaluating a model file on the test split of a folder, leaving out every image it has learned from."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.mask_warnings import MaskCensus
from blemish.errors import BlemishError
from blemish.evaluation.metrics import PixelMetrics, auroc, average_precision, f1_max
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import HeatmapScale
from blemish.imaging.masks import mask_name, read_mask, read_mask_with_notes
from blemish.imaging.reading import Reading
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS
from blemish.model.scored_image import FailedImage, ScoredImage

Progress = Callable[[int, int], None]


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
        hidden: anomalous images of which all that is anomalous is ignored; they count neither way.
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
    hidden: int = 0
    reading: Reading = field(default_factory=Reading)
    mask_warnings: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """What was lost in reading the images, a sentence each."""
        return [remark for one in self.images for remark in one.scored.remarks]


def evaluate(detector: Detector, data: DataSet, *, progress: Progress | None = None) -> Evaluation:
    """Scores the test split of `data` and measures.

    Args:
        detector: the model to evaluate.
        data: its `test` samples count; those used in training or calibration are left out by fingerprint.
        progress: called with the images done and all there are.

    Raises:
        BlemishError: there is no test image, or none that the model has not seen.
    """
    samples, failed = _unseen(detector, data)
    left_out = len(data.test) - len(samples) - len(failed)
    images: list[EvaluatedImage] = []
    hidden = 0
    started = time.perf_counter()
    for sample, result in zip(samples, detector.predict_iter(sample.path for sample in samples), strict=True):
        if isinstance(result, FailedImage):
            failed.append((result.source, result.reason))
        elif _hidden(sample, result):
            hidden += 1
        else:
            images.append(EvaluatedImage(sample, result))
        if progress is not None:
            progress(len(images) + len(failed) + hidden, len(data.test) - left_out)
    seconds = time.perf_counter() - started
    if not images:
        raise BlemishError(f"{data.root}: no test image could be read; run blemish doctor on it")
    census = MaskCensus(data.root)
    metrics = _measure(images, failed, census) | {"images_per_second": len(images) / seconds}
    return Evaluation(
        model=detector.name,
        data=data.root.resolve().name,
        images=images,
        failed=failed,
        metrics=metrics,
        scale=detector.scale,
        false_alarm_rate=detector.calibration.false_alarm_rate,
        calibration_statement=detector.calibration.statement(),
        metadata=_summary(detector),
        left_out=left_out,
        hidden=hidden,
        reading=detector.reading,
        mask_warnings=census.warnings(),
    )


def _unseen(detector: Detector, data: DataSet) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Test samples the model has not learned from, and those that cannot be read."""
    if not data.test:
        raise BlemishError(f"{data.root}: no test images in it; add test/good/ and test/<defect>/")
    used = set(detector.metadata.used_images)
    samples, failed = [], []
    for sample in data.test:
        try:
            if fingerprint(sample.path)[:FINGERPRINT_DIGITS] not in used:
                samples.append(sample)
        except BlemishError as error:
            failed.append((str(sample.path), str(error)))
    if not samples and not failed:
        raise BlemishError(f"{data.root}: the model was trained or calibrated on every test image in it; give others")
    return samples, failed


def _hidden(sample: Sample, scored: ScoredImage) -> bool:
    """Whether all that is anomalous of an image is ignored."""
    ignored = scored.full_ignored()
    if ignored is None or sample.mask is None:
        return False
    try:
        mask = read_mask(sample.mask, size=scored.size)
    except ImageError:
        return False  # told later, with the pixel figures
    return bool(mask.any()) and not (mask & ~ignored).any()


def _measure(images: Sequence[EvaluatedImage], failed: list[tuple[str, str]], census: MaskCensus) -> dict[str, Any]:
    anomalous = np.array([one.sample.anomalous for one in images])
    alarms = np.array([one.scored.verdict == "anomalous" for one in images])
    both = bool(anomalous.any() and not anomalous.all())
    scores = np.array([one.scored.score for one in images])
    faulty_masks: list[tuple[str, str]] = []
    pixel_auroc, aupro = _pixel_figures(images, faulty_masks, census)
    failed.extend(faulty_masks)
    return {
        "images": len(images),
        "image_auroc": auroc(anomalous, scores) if both else None,
        "image_ap": average_precision(anomalous, scores) if both else None,
        "f1_max": f1_max(anomalous, scores).f1 if both else None,
        "pixel_auroc": pixel_auroc,
        "aupro": aupro,
        "false_alarm_rate": float(alarms[~anomalous].mean()) if not anomalous.all() else None,
        "detection_rate": float(alarms[anomalous].mean()) if anomalous.any() else None,
        "unsure": sum(one.scored.verdict == "unsure" for one in images),
        "ignored": float(np.mean([0 if one.scored.ignored is None else one.scored.ignored.mean() for one in images])),
        "per_defect": {defect: _defect_figures(images, defect) for defect in _defects(images)},
    }


def _defects(images: Sequence[EvaluatedImage]) -> list[str]:
    return sorted({one.sample.defect for one in images if one.sample.defect is not None})


def _defect_figures(images: Sequence[EvaluatedImage], defect: str) -> dict[str, Any]:
    """The same figures for one defect type against all nominal images."""
    chosen = [one for one in images if one.sample.defect in (defect, None)]
    anomalous = np.array([one.sample.anomalous for one in chosen])
    scores = np.array([one.scored.score for one in chosen])
    return {
        "images": int(anomalous.sum()),
        "image_auroc": auroc(anomalous, scores) if not anomalous.all() else None,
        "pixel_auroc": _pixel_figures(chosen, [])[0],
        "detected": sum(one.scored.verdict == "anomalous" for one in chosen if one.sample.anomalous),
        "detection_rate": float(np.mean([one.scored.verdict == "anomalous" for one in chosen if one.sample.anomalous])),
    }


def _pixel_figures(
    images: Sequence[EvaluatedImage], faulty: list[tuple[str, str]], census: MaskCensus | None = None
) -> tuple[float | None, float | None]:
    """Pixel AUROC and AUPRO over nominal images and anomalous ones with a mask, at the images' own sizes."""
    with PixelMetrics() as pixels:
        nominal = anomalous = False
        for one, mask in _masks(images, faulty, census):
            ignored = one.scored.full_ignored()
            counted = mask if ignored is None else mask[~ignored]
            pixels.update(one.scored.full_map(), mask, ignored=ignored)
            anomalous |= bool(counted.any())
            nominal |= not counted.all()
        if not (nominal and anomalous):
            return None, None
        result = pixels.compute()
        return result.auroc, result.aupro


def _masks(
    images: Sequence[EvaluatedImage], faulty: list[tuple[str, str]], census: MaskCensus | None
) -> Iterator[tuple[EvaluatedImage, np.ndarray]]:
    for one in images:
        if not one.sample.anomalous:
            yield one, np.zeros(one.scored.size, dtype=bool)
        elif one.sample.mask is not None:
            try:
                read = read_mask_with_notes(one.sample.mask, size=one.scored.size)
            except ImageError as error:
                faulty.append((mask_name(one.sample.mask), str(error)))
                continue
            if census is not None:
                census.add(one.sample.mask, read.facts)
            yield one, read.pixels


def _summary(detector: Detector) -> dict[str, Any]:
    metadata = asdict(detector.metadata)
    del metadata["used_images"], metadata["calibration"]
    if metadata["ignored"] is None:
        del metadata["ignored"]
    else:
        del metadata["ignored"]["png"]
    return metadata | {
        "calibration_images": detector.calibration.images,
        "threshold": detector.calibration.threshold,
        "fingerprint": detector.fingerprint,
    }
