"""Measuring trained networks on the calibration set, nominal images that they have not learned from.

The graph that will be written scores the images, not the torch module: what runs is calibrated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.conformal.drift import IMAGE_STATISTICS, drift_statistics
from blemish.conformal.regions import RegionCalibration
from blemish.conformal.split import Calibration
from blemish.datasets.pixels import Pixels
from blemish.datasets.sampling import every_nth
from blemish.model.backends import open_graph
from blemish.networks.detector import CalibratedNetwork, MapNetwork
from blemish.training.onnx_export import to_onnx

BATCH = 16


@dataclass(frozen=True)
class CalibrationMeasurement:
    """What is measured of one network on its calibration set.

    Attributes:
        scores: of each image.
        typical_level: the median over the images of their maps' medians.
        regions: the largest excess of each image.
    """

    scores: tuple[float, ...]
    typical_level: float
    regions: RegionCalibration


def measure_calibration(
    network: MapNetwork,
    pixels: Pixels,
    fit: Sequence[int],
    calibration: Sequence[int],
    *,
    level_images: int,
    progress: Callable[[int, int], None],
) -> CalibrationMeasurement:
    """Scores the images `calibration` by the exported graph of a network that learned from the images `fit`.

    The scores of `level_images` of the latter give the level of regions.
    """
    graph = to_onnx(CalibratedNetwork(network, [0.0]), network.size)
    session = open_graph(graph, "onnxruntime", "f32")
    known = list(every_nth(fit, level_images))
    chosen = [*calibration, *known]
    maps: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        of_batch, _, _ = session.run(np.array(pixels.images[batch]))
        maps += [np.where(pixels.valid_mask(index), m, 0) for index, m in zip(batch, of_batch, strict=True)]
        progress(len(maps), len(chosen))
    unseen, seen = maps[: len(calibration)], maps[len(calibration) :]
    medians = [np.median(m[pixels.valid_mask(index)]) for index, m in zip(calibration, unseen, strict=True)]
    return CalibrationMeasurement(
        scores=tuple(float(m.max()) for m in unseen),
        typical_level=float(np.median(medians)),
        regions=RegionCalibration.from_maps([float(m.max()) for m in seen], unseen),
    )


def calibrate(
    parts: Sequence[CalibrationMeasurement], *, false_alarm_rate: float
) -> tuple[Calibration, RegionCalibration, float]:
    """One calibration of scores, one of regions, and the typical level of maps.

    Of several networks, each of which left one fold out, the calibration is that of the smallest of their maps; see
    `blemish.conformal.cross`. The highest of their levels makes excesses no larger than they are at each one's own.
    """
    scores = tuple(score for part in parts for score in part.scores)
    folds = tuple(len(part.scores) for part in parts) if len(parts) > 1 else ()
    regions = RegionCalibration(
        max(part.regions.level for part in parts), tuple(one for part in parts for one in part.regions.largest)
    )
    typical_level = float(np.median([part.typical_level for part in parts]))
    return Calibration(scores, false_alarm_rate, folds=folds), regions, typical_level


def drift_reference(pixels: Pixels, good: Sequence[int], *, at_most: int) -> dict[str, tuple[float, ...]]:
    """Brightness and sharpness of the nominal images themselves, for `blemish.conformal.drift`.

    Of more than `at_most` images so many are taken, evenly chosen.
    """
    chosen = every_nth(good, at_most)
    found = [drift_statistics(pixels.images[index], 0.0, ignored=pixels.ignored.get(index)) for index in chosen]
    return {name: tuple(round(one[name], 3) for one in found) for name in IMAGE_STATISTICS}
