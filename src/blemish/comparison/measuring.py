"""What is measured of one model file: figures with their intervals, milliseconds, megabytes, and each image's score."""

import os
import time
from pathlib import Path

import numpy as np

from blemish.comparison.records import ImageResult, Run
from blemish.datasets.layouts import DataSet
from blemish.datasets.sampling import evenly
from blemish.evaluation.confidence import intervals
from blemish.evaluation.results import EvaluatedImage, Evaluation, ScoredSplit
from blemish.evaluation.run import evaluate
from blemish.imaging.types import Mask
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.process.progress import Progress

TIMED = 20  # images


def measure_run(
    detector: Detector, model: Path, tests: DataSet, *, method: str, seed: int, seconds: float, progress: Progress
) -> Run:
    """Evaluates a model file on test images.

    Args:
        detector: opened from the file.
        model: the file.
        tests: its `test` samples count.
        method, seed, seconds: of the training.
        progress: see `blemish.evaluation.run.evaluate`.

    Raises:
        BlemishError: no test image is left, or none can be read.
    """
    evaluation = evaluate(detector, tests, progress=progress)
    metrics = dict(evaluation.metrics)
    return Run(
        method=method,
        seed=seed,
        per_defect=metrics.pop("per_defect"),
        figures=metrics,
        intervals=intervals(evaluation.images),
        milliseconds=_milliseconds(detector, evaluation),
        megabytes=os.path.getsize(model) / 1e6,
        seconds=seconds,
        model=detector.fingerprint,
        supervision=detector.metadata.supervision,
        calibration_statement=evaluation.calibration_statement,
        notes=tuple(reason for _, reason in evaluation.failed) + evaluation.mask_warnings,
        images=tuple(
            ImageResult(
                path=name_of(image.sample.path, tests),
                anomalous=image.sample.anomalous,
                score=image.scored.score,
                p_value=image.scored.p_value,
                verdict=image.scored.verdict,
                peak_inside=_peak_inside(image, mask),
            )
            for image, mask in ScoredSplit(evaluation.images).with_masks()
        ),
    )


def name_of(path: Path, data: DataSet) -> str:
    """What a test image is called in the records: its path below the data set's folder, on one line."""
    return printable(os.path.relpath(path, data.root))


def _peak_inside(image: EvaluatedImage, mask: Mask | None) -> bool | None:
    """Whether the highest value of the anomaly map lies in the mask, the "pointing game"; None without a mask."""
    if mask is None or not mask.any():
        return None
    peak = np.unravel_index(np.argmax(image.scored.full_map()), mask.shape)
    return bool(mask[peak])


def _milliseconds(detector: Detector, evaluation: Evaluation) -> float:
    """Median time in which one image is read and scored, one after another."""
    paths = [image.sample.path for image in evenly(evaluation.images, TIMED)]
    detector.predict(paths[0])  # the first run of a graph takes longer
    times = []
    for path in paths:
        started = time.perf_counter()
        detector.predict(path)
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
