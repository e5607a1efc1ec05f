"""All measures of all heatmaps on a sample of anomalous test images."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blemish.datasets.layouts import DataSet, Sample
from blemish.datasets.sampling import evenly, every_nth
from blemish.errors import BlemishError
from blemish.evaluation.metrics import PixelMetrics
from blemish.faithfulness.inpainting import NormalImages, Pixels, inpaint, inpaint_from_surroundings
from blemish.faithfulness.measures import (
    Explainer,
    Map,
    Mask,
    deletion_auc,
    insertion_auc,
    mass_inside,
    pointing_game,
    shift_correlation,
)
from blemish.imaging.images import load
from blemish.imaging.masks import read_mask
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask
from blemish.model.detector import Detector
from blemish.process.progress import Progress, no_progress

MODEL_MAP = "blemish"  # the name of the model's own map among the methods
MAX_FILL_IMAGES = 250  # good images whose mean fills in
LEVEL_IMAGES = 4  # good images that decide which level of a heatmap is nominal:
LEVEL_QUANTILE = 0.95  # of their pixels lie below it
MAX_SHIFTED = 6  # images of which maps are made twice more


@dataclass(frozen=True)
class HeatmapFigures:
    """Means over images of what `blemish.faithfulness.measures` says of one kind of heatmap.

    Attributes:
        deletion: share of the score that is left when the most marked pixels take the good images' mean; lower is
            better. Where parts lie anywhere, the mean is no part, and filling it in is itself an anomaly.
        deletion_healed: the same when they take the colours of their surroundings.
        insertion: share of the score that comes with them; higher is better.
        pixel_auroc, mass_inside, pointing: how the map fits the masks, over images with one; None without any.
        shift: correlation of the maps of slightly moved images, over the first six images.
        milliseconds: median time of a map, for one image at a time.
    """

    deletion: float
    deletion_healed: float
    insertion: float
    pixel_auroc: float | None
    mass_inside: float | None
    pointing: float | None
    shift: float
    milliseconds: float


@dataclass(frozen=True)
class Study:
    """What was found.

    Attributes:
        images: number of anomalous images.
        masks: number of those with a mask.
        filled_from: number of good images whose mean was filled in.
        methods: figures by the name of the heatmap; the model's own is called "blemish".
    """

    images: int
    masks: int
    filled_from: int
    methods: dict[str, HeatmapFigures]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Subject:
    pixels: Pixels
    mask: Mask | None


def study(
    model: Path,
    detector: Detector,
    data: DataSet,
    *,
    images: int,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Study:
    """Measures the model's heatmaps and those of gradient, integrated gradients and occlusion of the same score.

    Args:
        model: the model file.
        detector: the same, loaded.
        data: a folder with good and anomalous images; images are drawn from its test split.
        images: how many anomalous ones, each defect in turn.
        seed: decides which.
        progress: called with the stage "faithfulness", the heatmaps studied and all there are.

    Returns:
        The figures of each kind of heatmap.

    Raises:
        BlemishError: a package is missing, the graph has no gradient, the data hold no good or no anomalous image, or
            an image or mask cannot be read.
    """
    try:
        from blemish.faithfulness.attribution import attribution_methods
    except ImportError as error:
        raise BlemishError(
            'faithfulness (--faithfulness) needs more packages: pip install "blemish[explain]"'
        ) from error
    if detector.ignore_mask is not None:
        raise BlemishError(
            "faithfulness is that of the model's own map: leave out ignore_mask (--ignore-mask), or train with it"
        )

    size = detector.metadata.size
    reading = detector.reading
    subjects = [_subject(sample, size, reading) for sample in _drawn(data.test, images, np.random.default_rng(seed))]
    good = [sample.path for sample in (*data.train, *data.test) if not sample.anomalous]
    fill = NormalImages(every_nth(good, MAX_FILL_IMAGES), size, reading)
    unseen = [sample.path for sample in data.test if not sample.anomalous] or good
    nominal = [load(path, size, reading)[0] for path in evenly(unseen, LEVEL_IMAGES)]
    explainers: dict[str, Explainer] = {MODEL_MAP: lambda pixels, _: detector.forward(pixels[None])[0][0]}
    explainers |= attribution_methods(model, detector)
    steps, done, methods = len(explainers) * len(subjects), 0, {}

    def step() -> None:
        nonlocal done
        done += 1
        progress("faithfulness", done, steps)

    for name, explain in explainers.items():
        methods[name] = _figures(detector, partial(_explain, explain, fill.mean), subjects, nominal, fill.mean, step)
    masks = sum(subject.mask is not None for subject in subjects)
    return Study(images=len(subjects), masks=masks, filled_from=fill.images, methods=methods)


def _explain(explain: Explainer, fill: Pixels, pixels: Pixels) -> Map:
    return explain(pixels, fill)


def _figures(
    detector: Detector,
    explain: Callable[[Pixels], Map],
    subjects: Sequence[_Subject],
    nominal: Sequence[Pixels],
    fill: Pixels,
    step: Callable[[], None],
) -> HeatmapFigures:
    def score(batch: Pixels) -> np.ndarray:
        return detector.forward(batch)[1]

    level = float(np.quantile([explain(pixels) for pixels in nominal], LEVEL_QUANTILE))
    rows, on_masks = [], []
    shifts: list[float] = []
    seconds: list[float] = []
    with PixelMetrics() as metrics:
        for subject in subjects:
            started = time.perf_counter()
            heatmap = explain(subject.pixels)
            seconds.append(time.perf_counter() - started)
            rows.append(
                (
                    deletion_auc(score, subject.pixels, lambda pixels, marked: inpaint(pixels, fill, marked), heatmap),
                    deletion_auc(score, subject.pixels, inpaint_from_surroundings, heatmap),
                    insertion_auc(score, subject.pixels, fill, heatmap),
                )
            )
            if len(shifts) < MAX_SHIFTED:
                shifts.append(shift_correlation(explain, subject.pixels, heatmap))
            if subject.mask is not None:
                metrics.update(heatmap, subject.mask)
                on_masks.append((mass_inside(heatmap, subject.mask, level=level), pointing_game(heatmap, subject.mask)))
            step()
        pixel_auroc = metrics.compute().auroc if on_masks else None
    deletion, healed, insertion = np.mean(rows, axis=0).tolist()
    mass, pointing = np.mean(on_masks, axis=0).tolist() if on_masks else (None, None)
    return HeatmapFigures(
        deletion=deletion,
        deletion_healed=healed,
        insertion=insertion,
        pixel_auroc=pixel_auroc,
        mass_inside=mass,
        pointing=pointing,
        shift=float(np.mean(shifts)),
        milliseconds=1000 * statistics.median(seconds),
    )


def _drawn(test: Sequence[Sample], images: int, rng: np.random.Generator) -> list[Sample]:
    """Anomalous samples, one of each defect in turn, at random within a defect."""
    by_defect: dict[str, list[Sample]] = {}
    for sample in test:
        if sample.defect is not None:
            by_defect.setdefault(sample.defect, []).append(sample)
    if not by_defect:
        raise BlemishError("faithfulness is measured on anomalous test images, and there is none: add test/<defect>/")
    shuffled = {name: [of[i] for i in rng.permutation(len(of))] for name, of in sorted(by_defect.items())}
    rounds = range(max(map(len, shuffled.values())))
    return [of[turn] for turn in rounds for of in shuffled.values() if turn < len(of)][:images]


def _subject(sample: Sample, size: tuple[int, int], reading: Reading) -> _Subject:
    pixels, own = load(sample.path, size, reading)
    mask = None if sample.mask is None else resize_mask(read_mask(sample.mask, size=own), size, rule="any")
    return _Subject(pixels, mask if mask is not None and mask.any() and not mask.all() else None)
