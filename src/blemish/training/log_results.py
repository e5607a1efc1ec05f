"""What a training log gets once the model file is written: heatmaps of fixed images, scores and final figures."""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

import numpy as np
from PIL import Image

from blemish.datasets.groups import below
from blemish.imaging.heatmaps import overlay
from blemish.model.detector import Detector
from blemish.training.log import TrainingLog
from blemish.training.prepare import Preparation

HEATMAPS = 8  # images at most
LABELLED = 4  # of them at most, where there are labelled defects


def log_results(log: TrainingLog, detector: Detector, prepared: Preparation, *, seconds: float) -> None:
    """Logs what the detector makes of images that it was trained and calibrated with.

    Args:
        log: open.
        detector: loaded from the model file.
        prepared: the images, and what became of them.
        seconds: that the training took.
    """
    pixels, roles = prepared.images.pixels, prepared.roles()
    chosen = choose_images(prepared, detector.metadata.calibration.scores)
    maps, _, _ = detector.forward(np.array(pixels.images[chosen]))
    for index, anomaly_map in zip(chosen, maps, strict=True):
        valid = pixels.valid_mask(index)
        picture = overlay(
            Image.fromarray(np.array(pixels.images[index])),
            np.where(valid, anomaly_map, 0),
            detector.scale,
            mask=pixels.mask(index),
            ignored=None if valid.all() else ~valid,
        )
        role = "labelled" if index in roles["labelled"] else "calibration"
        log.heatmap(f"{role}/{_name(prepared, index)}", picture)
    calibration, settings = detector.calibration, detector.metadata.settings
    log.histogram("calibration scores", calibration.scores)
    height, width = detector.metadata.size
    log.figures(
        {
            "seconds": seconds,
            "training images": detector.metadata.data["train_images"],
            "calibration images": calibration.images,
            "threshold": calibration.threshold,
            "false-alarm rate": calibration.effective_rate,
            "method": settings["method"],
            "backbone": settings["backbone"],
            "size": f"{height} x {width}",
            "seed": str(settings["seed"]),
            "supervision": detector.metadata.supervision,
            "calibration": calibration.statement(),
        }
    )


def choose_images(prepared: Preparation, scores: Sequence[float]) -> list[int]:
    """Labelled defects, of each type in turn, then the calibration images with the highest scores.

    Args:
        prepared: the images, and what became of them.
        scores: of the calibration images, in their order.

    Returns:
        Indices of all images that were read.
    """
    roles = prepared.roles()
    labelled = list(_of_each_type(prepared, roles["labelled"]))[:LABELLED]
    descending = np.argsort(-np.asarray(scores), kind="stable")[: HEATMAPS - len(labelled)]
    return labelled + [roles["calibration"][place] for place in descending]


def _name(prepared: Preparation, index: int) -> str:
    """An image's path below the data folder; of a file elsewhere its number and name, and not where it lies."""
    path, root = prepared.images.pixels.samples[index].path, prepared.images.data_set.root
    return below(path, root) if path.is_relative_to(root) else f"{index} {path.name}"


def _of_each_type(prepared: Preparation, labelled: Sequence[int]) -> Iterator[int]:
    """The first image of each type of defect, then the second of each, and so on."""
    types: dict[str, list[int]] = {}
    for index in labelled:
        types.setdefault(str(prepared.images.pixels.samples[index].defect), []).append(index)
    return (index for index in chain(*zip_longest(*types.values())) if index is not None)
