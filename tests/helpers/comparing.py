"""Trainings of a comparison that take no time, and runs to compute with."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from blemish.comparison.records import ImageResult, Run
from blemish.evaluation.metrics import auroc
from blemish.model.detector import Detector
from blemish.training import run as training


def pretend_to_train(
    patch: pytest.MonkeyPatch, model: Path, *, before: Callable[[str, int], object] | None = None
) -> list:
    """Every training copies a model file. Returns the list of methods and seeds that were trained, as it fills.

    `before` is called with method and seed, and may raise.
    """
    trained: list[tuple[str, int]] = []

    def train(root, output, config, **_):
        if before is not None:
            before(config.method, config.seed)
        trained.append((config.method, config.seed))
        shutil.copy(model, output)
        return Detector.load(output)

    patch.setattr(training, "train", train)
    return trained


def run_of(method: str, scores: Sequence[float], anomalous: Sequence[bool], *, seed: int = 0, **changes) -> Run:
    """A run with these scores; an image is an alarm from 0.5 on."""
    images = tuple(
        ImageResult(
            path=f"{number}.png",
            anomalous=kind,
            score=score,
            p_value=1 - score,
            verdict="anomalous" if score >= 0.5 else "ok",
        )
        for number, (score, kind) in enumerate(zip(scores, anomalous, strict=True))
    )
    both = len(set(anomalous)) == 2
    area = auroc(np.array(anomalous), np.array(scores, dtype=float)) if both else None
    values = {"figures": {"image_auroc": area}, "images": images, "milliseconds": 1.0, "megabytes": 2.0, "seconds": 3.0}
    return Run(method=method, seed=seed, **values | changes)
