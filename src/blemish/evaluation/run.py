"""Evaluating a model file on the test split of a folder, leaving out every image it has learned from."""

import time
from dataclasses import asdict
from typing import Any

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.mask_warnings import MaskCensus
from blemish.errors import BlemishError
from blemish.evaluation.figures import measure
from blemish.evaluation.results import EvaluatedImage, Evaluation, ScoredSplit
from blemish.imaging.errors import ImageError
from blemish.imaging.masks import read_mask
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS
from blemish.model.scored_image import FailedImage, ScoredImage
from blemish.process.progress import Progress, no_progress

# Of the metadata: lists with an entry for each image, and tables of which `settings` says the essence.
_LEFT_OUT = ("used_images", "roles", "calibration", "regions", "drift_reference", "config", "plan")


def evaluate(detector: Detector, data: DataSet, *, progress: Progress = no_progress) -> Evaluation:
    """Scores the test split of a folder and computes all figures of `blemish.plugins.FIGURES`.

    Args:
        detector: the detector to evaluate.
        data: its `test` samples count. Images that the detector was trained or calibrated on are left out; they are
            known by the fingerprints in the model file.
        progress: called with the stage "scoring", the images done and all there are.

    Returns:
        The figures, and every image with its anomaly map, score and verdict.

    Raises:
        BlemishError: there is no test image, none that the detector has not learned from, or none that can be read.

    Example:
        >>> from blemish import Detector, read_data_set
        >>> evaluation = evaluate(Detector.load("screws.onnx"), read_data_set("screws/"))
        >>> evaluation.metrics["image_auroc"]
        1.0
    """
    samples, failed = _unseen(detector, data)
    left_out = len(data.test) - len(samples) - len(failed)
    images: list[EvaluatedImage] = []
    fully_ignored = 0
    started = time.perf_counter()
    for sample, result in zip(samples, detector.predict_iter(sample.path for sample in samples), strict=True):
        if isinstance(result, FailedImage):
            failed.append((result.source, result.reason))
        elif _anomalous_only_where_ignored(sample, result):
            fully_ignored += 1
        else:
            images.append(EvaluatedImage(sample, result))
        progress("scoring", len(images) + len(failed) + fully_ignored, len(data.test) - left_out)
    seconds = time.perf_counter() - started
    if not images:
        raise BlemishError(f"{data.root}: no test image could be read; run blemish doctor on it")
    census = MaskCensus(data.root)
    split = ScoredSplit(images, seconds=seconds, census=census)
    metrics = measure(split)  # reads the masks
    return Evaluation(
        model=detector.name,
        data=data.root.resolve().name,
        images=images,
        failed=failed + split.faulty_masks,
        metrics=metrics,
        scale=detector.scale,
        false_alarm_rate=detector.calibration.false_alarm_rate,
        calibration_statement=detector.calibration.statement(),
        metadata=_summary(detector),
        left_out=left_out,
        fully_ignored=fully_ignored,
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


def _anomalous_only_where_ignored(sample: Sample, scored: ScoredImage) -> bool:
    """Whether all that is anomalous of an image is ignored."""
    ignored = scored.full_ignored()
    if ignored is None or sample.mask is None:
        return False
    try:
        mask = read_mask(sample.mask, size=scored.size)
    except ImageError:
        return False  # reported with the pixel figures
    return bool(mask.any()) and not (mask & ~ignored).any()


def _summary(detector: Detector) -> dict[str, Any]:
    """The metadata of the model file as far as a page shows it."""
    metadata = asdict(detector.metadata)
    for name in _LEFT_OUT:
        del metadata[name]
    if metadata["ignored"] is None:
        del metadata["ignored"]
    else:
        del metadata["ignored"]["png"]
    return metadata | {
        "calibration_images": detector.calibration.images,
        "threshold": detector.calibration.threshold,
        "fingerprint": detector.fingerprint,
    }
