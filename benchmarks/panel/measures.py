"""What a run measures: figures of images and of pixels, false alarms, time and memory."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.conformal.split import Calibration
from blemish.datasets.layouts import Sample
from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.imaging.images import load
from blemish.imaging.masks import read_mask
from blemish.imaging.resizing import upscale
from blemish.imaging.types import Size
from panel.features import SIZE
from panel.methods import Score

RATES = {"alarms_01": 0.01, "alarms_05": 0.05, "alarms_10": 0.1}
SLACK = 1e-9  # p-values are fractions, which binary numbers round


@dataclass(frozen=True, eq=False)
class Seen:
    """A test image's map at network size (H, W), its score, the image's own size and the milliseconds it took."""

    sample: Sample
    map: npt.NDArray[np.float32]
    score: float
    size: Size
    milliseconds: float


def see(score: Score, samples: Iterable[Sample]) -> dict[Path, Seen]:
    """Every image scored once, by its file."""
    seen = {}
    for sample in samples:
        pixels, size = load(sample.path, (SIZE, SIZE))
        # The processor's time, not the clock's: whatever else the computer does counts least.
        started = time.process_time()
        anomaly_map, value = score(pixels[None])
        milliseconds = 1000 * (time.process_time() - started)
        seen[sample.path] = Seen(sample, anomaly_map, value, size, milliseconds)
    return seen


def figures(images: Sequence[Seen], calibration: Calibration | None) -> dict[str, Any]:
    """The columns of a run that test images decide; those of pixels at the images' own sizes."""
    anomalous = np.array([one.sample.anomalous for one in images])
    scores = np.array([one.score for one in images])
    by_pixel = pixel_figures(images)
    return {
        "images": len(images),
        "image_auroc": auroc(anomalous, scores),
        "pixel_auroc": by_pixel[0],
        "aupro": by_pixel[1],
        **alarms(anomalous, scores, calibration),
        "image_ms": statistics.median(one.milliseconds for one in images),
    }


def pixel_figures(images: Sequence[Seen]) -> tuple[float | None, float | None]:
    """Pixel AUROC and AUPRO over good images and defective ones with a mask; None where there is no mask."""
    if not any(one.sample.mask for one in images):
        return None, None
    with PixelMetrics() as pixels:
        for one in images:
            if not one.sample.anomalous:
                pixels.update(upscale(one.map, one.size), np.zeros(one.size, dtype=bool))
            elif one.sample.mask is not None:
                pixels.update(upscale(one.map, one.size), read_mask(one.sample.mask, size=one.size))
        result = pixels.compute()
    return result.auroc, result.aupro


def alarms(
    anomalous: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], calibration: Calibration | None
) -> dict[str, float | None]:
    """The rate promised, what is detected at it, and the false alarms at each of `RATES`."""
    if calibration is None:
        return dict.fromkeys(("promised", "detection", *RATES))
    p = np.array([calibration.p_value(score) for score in scores])
    found = np.array([calibration.verdict(score) == "anomalous" for score in scores])
    realised = {name: float((p[~anomalous] <= rate + SLACK).mean()) for name, rate in RATES.items()}
    return {"promised": calibration.effective_rate, "detection": float(found[anomalous].mean()), **realised}
