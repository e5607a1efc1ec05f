"""The model file of a run: the trained network, calibrated on nominal images that it has not learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from blemish import __version__
from blemish.datasets.duplicates import digest
from blemish.datasets.network_size import Shape
from blemish.datasets.pixels import Pixels, read_pixels
from blemish.datasets.samples import Sample
from blemish.datasets.splits import Split, split_nominal
from blemish.errors import BlemishError
from blemish.experiments.data.tasks import Images, ResizeSpec, Task, resized, select
from blemish.experiments.deployed import PreparedNetwork
from blemish.experiments.gaussian import network_side
from blemish.experiments.recipe import MethodName, Recipe
from blemish.experiments.runs import Run
from blemish.experiments.tables import METHOD_NAMES
from blemish.imaging.headers import upright_sizes
from blemish.imaging.reading import Reading
from blemish.imaging.survey import survey_depth
from blemish.io.files import fingerprint
from blemish.model.metadata import FINGERPRINT_DIGITS, ModelMetadata
from blemish.networks.detector import DetectorNetwork
from blemish.training.config import TrainConfig
from blemish.training.record import PACKAGES, high_end
from blemish.training.steps.calibration import calibrate, drift_reference, measure_calibration

MODEL_NAME = "model.onnx"
CONFIG = TrainConfig()  # of `blemish train`, whose defaults hold for the calibration and for Gaussians
MAPS: Mapping[MethodName, str] = {
    "hsc": "the map is flat, the score in every pixel",
    "autoencoder": "the map is the squared error of the reconstruction",
}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The nominal training images of a run, and which of them calibrate its model file.

    Attributes:
        images: all of them, as the run reads them.
        pixels: all of them, as a model file reads them.
        split: who is learned from, and who calibrates.
    """

    images: Images
    pixels: Pixels
    split: Split

    @property
    def fit(self) -> Images:
        """The images that are learned from."""
        return select(self.images, self.split.fit)


def hold_out(task: Task, recipe: Recipe, method: MethodName, *, seed: int) -> HeldOut:
    """Holds out a fifth of the nominal images at random; copies of an image are all on one side.

    Raises BlemishError where there are fewer than two images, or one can no longer be read.
    """
    side = network_side(recipe.size) if method == "gaussian" else recipe.size
    pixels = _pixels(task.nominal, side)
    copies = [digest(image) for image in pixels.images]
    rate = CONFIG.false_alarm_rate
    split = split_nominal(len(copies), false_alarm_rate=rate, seed=seed, validate=False, groups=copies)
    return HeldOut(task.nominal, pixels, split)


def model_metadata(
    network: PreparedNetwork | DetectorNetwork,
    held_out: HeldOut,
    *,
    run: Run,
    layout: str,
    labelled: Sequence[Path],
    circumstances: Mapping[str, str],
    data: str,
) -> ModelMetadata:
    """Calibrates the network of a run, and gives what its model file says about it.

    Args:
        network: trained on `held_out.fit`.
        held_out: the nominal images.
        run: what was run.
        layout: of the data set's folder.
        labelled: files of the anomalous images that it was trained on.
        circumstances: the notes of the run: mode, epochs, anomalies and so on.
        data: name of the data set's folder.
    """
    pixels, split = held_out.pixels, held_out.split
    levels = CONFIG.calibration.level_images
    measured = measure_calibration(
        network, pixels, split.fit, split.calibration, level_images=levels, progress=_no_progress
    )
    scores, regions, low = calibrate([measured], false_alarm_rate=CONFIG.false_alarm_rate)
    fingerprints = [full[:FINGERPRINT_DIGITS] for full in pixels.fingerprints]
    of_labelled = [fingerprint(path)[:FINGERPRINT_DIGITS] for path in labelled]
    used = tuple(sorted([*fingerprints, *of_labelled]))
    return ModelMetadata(
        size=network.size,
        supervision=_supervision(run, circumstances),
        settings=_settings(run, held_out, network.size) | {"circumstances": dict(circumstances)},
        data={
            "name": data,
            "layout": layout,
            "nominal_class": run.nominal_class if layout in ("one-vs-rest", "reference") else None,
            "train_images": len(split.fit) + len(labelled),
            "calibration_images": scores.images,
            "fingerprint": sha256("".join(used).encode()).hexdigest(),
        },
        used_images=used,
        roles={
            "fit": tuple(fingerprints[index] for index in split.fit),
            "validation": (),
            "calibration": tuple(fingerprints[index] for index in split.calibration),
            "labelled": tuple(of_labelled),
        },
        calibration=scores,
        heatmap_low=low,
        heatmap_high=high_end(low, scores.threshold),
        regions=regions,
        drift_reference=drift_reference(pixels, range(len(pixels.images)), at_most=CONFIG.calibration.drift_images),
        bits=pixels.reading.bits,
        versions={"blemish": __version__} | {name: version(name) for name in PACKAGES},
    )


def _supervision(run: Run, circumstances: Mapping[str, str]) -> str:
    anomalies = circumstances["anomalies"]
    learned = "good images only" if anomalies == "none" else f"good images + {anomalies}"
    return "; ".join(filter(None, [f"{METHOD_NAMES[run.method]} as in the paper: {learned}", MAPS.get(run.method)]))


def _settings(run: Run, held_out: HeldOut, size: tuple[int, int]) -> dict[str, Any]:
    """What the model file has under "settings", by the names that `blemish train` gives."""
    shape = Shape.of([known for known in upright_sizes(held_out.images.files) if known is not None])
    reading = held_out.pixels.reading
    return {
        "method": run.method,
        "backbone": CONFIG.backbone if run.method == "gaussian" else run.recipe.network,
        "size": list(size),
        "image_ratio": shape.ratio if shape.ratios and shape.is_one else None,
        "sigma": run.recipe.sigma,
        "seed": run.seed,
        "false_alarm_rate": CONFIG.false_alarm_rate,
        "bits": reading.bits if reading.seen else None,
        "experiment": run.recipe.name,
    }


def _pixels(images: Images, side: int) -> Pixels:
    """The images at network size, uint8 (N, S, S, 3), from their files by the resizing of all model files."""
    size = (side, side)
    if images.files:
        reading = survey_depth(images.files).reading
        samples = [Sample(path) for path in images.files]
        pixels = read_pixels(samples, size, reading=reading, progress=_no_progress, notify=_ignore)
        if len(pixels.samples) < len(samples):
            raise BlemishError("an image of the data can no longer be read; start the command again")
        return pixels
    raw = torch.stack([images.read(index) for index in range(len(images))])  # (N, C, H, W)
    stack = raw.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    at_size = resized(stack, ResizeSpec(3, side, square=True)).pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return Pixels(
        (), at_size, tuple(sha256(image.tobytes()).hexdigest() for image in stack), reading=Reading(seen=False)
    )


def _no_progress(done: int, total: int) -> None:
    """Reading and calibrating take seconds."""


def _ignore(sentence: str) -> None:
    """The data set was read before, and its faults were named."""
