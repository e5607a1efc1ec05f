"""A detector that has never seen some of the good images, and what it makes of them."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from blemish.datasets.layouts import DataSet, Sample
from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage
from blemish.training.run import train
from draws import link

Array = np.ndarray
Change = Callable[[Image.Image], Image.Image]

KEPT_AWAY = 1 / 3  # of the good training images
DRIFTS: dict[str, Change] = {
    "none": lambda image: image,
    "brightness -20 %": lambda image: image.point(lambda value: round(0.8 * value)),
    "blur, sigma 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blur, sigma 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
}


@dataclass(frozen=True)
class Scored:
    """Of N images scores (N,), maps (N, H, W) at network size, brightness and sharpness (N,) each."""

    scores: Array
    maps: Array
    light: dict[str, Array]

    def statistics(self) -> dict[str, Array]:
        """What a drift check watches, by its names."""
        return {"score": self.scores} | self.light


@dataclass(frozen=True)
class Material:
    """Everything scored of one detector and its data.

    Attributes:
        name: of the data and the seed.
        detector: trained without the new images.
        new: the new good images, as they are and changed, by `DRIFTS`.
        kept_away: how many of them, the first, were kept away from training; the others are of the test folder.
        anomalous: the anomalous test images.
        nominal: the paths of all good images of the data, to be used with other detectors.
        defects: the paths of all anomalous ones.
    """

    name: str
    detector: Detector
    new: dict[str, Scored]
    kept_away: int
    anomalous: Scored
    nominal: list[Path]
    defects: list[Path]

    @property
    def calibration(self) -> Array:
        """The scores in the file (n,)."""
        return np.asarray(self.detector.calibration.scores, np.float32)


def prepare(data: DataSet, *, seed: int, size: int) -> Material:
    """Trains with the defaults on two thirds of the good training images and scores all that it has not seen."""
    away, rest = keep_away(data, seed=seed)
    new = [sample.path for sample in (*away, *data.test) if not sample.anomalous]
    defects = [sample.path for sample in data.test if sample.anomalous]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        detector = train(link(rest, Path(folder) / "data").root, model, seed=seed, size=(size, size))
        return Material(
            name=f"{data.root.resolve().name}, seed {seed}",
            detector=detector,
            new={name: score(detector, new, change) for name, change in DRIFTS.items()},
            kept_away=len(away),
            anomalous=score(detector, defects),
            nominal=[sample.path for sample in (*data.train, *data.test) if not sample.anomalous],
            defects=defects,
        )


def keep_away(data: DataSet, *, seed: int) -> tuple[list[Sample], DataSet]:
    """A third of the training images, drawn by chance as calibration images are, and the data without them."""
    # Another draw than the training's own split, which is made with the seed itself.
    order = np.random.default_rng((seed, 1)).permutation(len(data.train))
    away = set(order[: round(KEPT_AWAY * len(data.train))].tolist())
    kept = tuple(sample for index, sample in enumerate(data.train) if index not in away)
    return [sample for index, sample in enumerate(data.train) if index in away], replace(data, train=kept)


def score(detector: Detector, paths: Sequence[Path], change: Change = lambda image: image) -> Scored:
    results = []
    for path in paths:
        (result,) = detector.predict_iter([change(read_image(path))])
        if isinstance(result, FailedImage):
            raise BlemishError(result.reason)
        results.append(result)
    return Scored(
        scores=np.array([one.score for one in results], np.float32),
        maps=np.stack([one.anomaly_map for one in results]),
        light={name: np.array([one.drift_features[name] for one in results]) for name in ("brightness", "sharpness")},
    )
