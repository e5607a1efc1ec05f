"""Exports of a model file to other runtimes and precisions, each with its own calibration.

1. The calibration images of the model are found in its data and scored; a model of an earlier release is scored
   without its refit model, which was fitted to them.
2. The graph is quantised, or given to OpenVINO as it is, and scores the same images in its own runtime.
3. Where verdicts or p-values move too far, nothing is written. Otherwise these scores calibrate the export.
4. Both files are timed, and measured on the test split if the data have one. These figures are for information only.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blemish.conformal.split import Calibration
from blemish.conversion.agreement import Agreement, agreement
from blemish.conversion.calibration_images import find_calibration_images
from blemish.conversion.onnx_edit import backbone_convolutions, quantise, with_metadata, without_refit
from blemish.datasets.layouts import DataSet, read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.figures import figures_in
from blemish.evaluation.run import evaluate
from blemish.imaging.images import load
from blemish.imaging.outputs import MODEL, check_overwriting
from blemish.io.arguments import one_of, one_path
from blemish.io.files import atomic_write, check_output_file
from blemish.io.text import printable
from blemish.model.backends import Graph, open_graph
from blemish.model.detector import BATCH_SIZE, Detector
from blemish.model.metadata import Precision, Runtime
from blemish.process.progress import Progress, no_progress

Format = Literal["onnx-int8", "openvino", "openvino-bf16"]
Pixels = npt.NDArray[np.uint8]

TARGETS: dict[Format, tuple[Runtime, Precision]] = {
    "onnx-int8": ("onnxruntime", "int8"),
    "openvino": ("openvino", "f32"),
    "openvino-bf16": ("openvino", "bf16"),
}
TOLERANCE = 0.1
# Rounding in early layers propagates through all others: where int8 everywhere is too coarse, the deepest may do.
INT8_SHARES = (1, 1 / 2, 1 / 4)
MAX_RELATIVE_DIFFERENCE = 1e-3  # between scores on different processors and versions of the runtime
TIMED_RUNS = 30


@dataclass(frozen=True)
class Export:
    """A written export beside the model it was made from.

    Attributes:
        file: where it is.
        agreement: what it makes of the calibration images.
        int8_convolutions: how many of the backbone's convolutions compute in int8.
        ms_before, ms_after: median milliseconds of the graph, pixels to score, one image at a time.
        test_before, test_after: figures on the test split, None where the data cannot say.
    """

    file: Path
    agreement: Agreement
    int8_convolutions: int
    ms_before: float
    ms_after: float
    test_before: dict[str, float | None]
    test_after: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """All figures in one flat object; those of the model itself end in `_before`."""
        flat = {"file": printable(self.file), "int8_convolutions": self.int8_convolutions} | asdict(self.agreement)
        flat |= {"ms_per_image_before": self.ms_before, "ms_per_image": self.ms_after}
        return flat | {f"{name}_before": value for name, value in self.test_before.items()} | self.test_after


@dataclass(frozen=True)
class _Candidate:
    """A graph that may become the export."""

    model: bytes
    int8_convolutions: int


def export(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    target: Format,
    good: Sequence[Path] = (),
    bad: Sequence[Path] = (),
    masks: Sequence[Path] = (),
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Export:
    """Writes the model for another runtime or precision, calibrates it, and measures it beside the model.

    Example:
        >>> made = export("screws.onnx", "screws/", "screws.int8.onnx", target="onnx-int8")  # doctest: +SKIP
        >>> print(made.ms_after, made.agreement.statement())  # doctest: +SKIP

    Args:
        model: a file that `blemish train` wrote.
        data: the folder it was trained on; it may be None where folders were named by hand.
        output: the .onnx file to write.
        target: the format: "onnx-int8", "openvino", or "openvino-bf16".
        good, bad, masks: the folders that were named by hand for training, if they were.
        tolerance: how far p-values of the calibration images may move, in 0..1; see `Agreement`.
        threads: processor threads while measuring; all cores unless said otherwise.
        progress: called with the stage, the steps done and the number of all steps.

    Returns:
        The file, its agreement with the model, and the figures of both.

    Raises:
        BlemishError: the model is an export already, the data are not those it was calibrated on, a package is
            missing, the output is an input or has no name of a model file, the processor lacks the precision, or
            verdicts or p-values move by more than the tolerance.
    """
    model, output = one_path(model, "model"), one_path(output, "output")
    data = None if data is None else one_path(data, "data")
    one_of(target, "target", TARGETS)
    check_overwriting(output, (model, data), kind=MODEL)
    check_output_file(output)
    original = Detector.load(model, threads=threads)
    metadata = original.metadata
    if (metadata.runtime, metadata.precision) != ("onnxruntime", "f32") or metadata.any_size:
        raise BlemishError(f"{printable(model)} is an export itself: give the file that blemish train wrote")
    data_set = read_data_set(data, nominal_class=metadata.data.get("nominal_class"), good=good, bad=bad, masks=masks)
    images = find_calibration_images(metadata, data_set)
    pixels = np.stack([load(path, metadata.size, original.reading)[0] for path in images])
    candidate, agreed, scores = _convert(
        model, original, pixels, data_set, target=target, tolerance=tolerance, threads=threads, progress=progress
    )
    runtime, precision = TARGETS[target]
    exported = replace(
        metadata,
        calibration=Calibration(scores, metadata.calibration.false_alarm_rate),
        regions=None,  # their calibration belongs to the maps of the original
        runtime=runtime,
        precision=precision,
    )
    with atomic_write(output) as file:
        file.write(with_metadata(candidate.model, exported))

    detector = Detector.load(output, threads=threads)
    ms_before, ms_after = time_one_image((original, detector), pixels)
    test_before = _test_figures(original, data_set, "test", progress)
    test_after = _test_figures(detector, data_set, "test again", progress)
    return Export(output, agreed, candidate.int8_convolutions, ms_before, ms_after, test_before, test_after)


def _convert(
    model: Path,
    original: Detector,
    pixels: Pixels,
    data: DataSet,
    *,
    target: Format,
    tolerance: float,
    threads: int | None,
    progress: Progress,
) -> tuple[_Candidate, Agreement, tuple[float, ...]]:
    """The first candidate that agrees with the model, and its scores of the calibration images.

    Raises BlemishError where none agrees.
    """
    content = model.read_bytes()
    calibration = original.metadata.calibration
    before = calibration_scores(content, pixels, "onnxruntime", "f32", threads=threads)
    _check_scores(before, calibration.scores, data)
    runtime, precision = TARGETS[target]
    for candidate in _candidates(content, precision, pixels, progress):
        after = calibration_scores(candidate.model, pixels, runtime, precision, threads=threads)
        agreed = agreement(before, after, false_alarm_rate=calibration.false_alarm_rate, tolerance=tolerance)
        if agreed.holds:
            return candidate, agreed, after
    raise BlemishError(f"{target} decides differently: {agreed.statement()}; keep {printable(model)} as it is")


def calibration_scores(
    model: bytes, pixels: Pixels, runtime: Runtime, precision: Precision, *, threads: int | None
) -> tuple[float, ...]:
    """Scores, without a refit model, of calibration images: uint8 (N, H, W, 3) at network size."""
    return score(open_graph(without_refit(model), runtime, precision, threads=threads), pixels)


def score(graph: Graph, pixels: Pixels) -> tuple[float, ...]:
    """Scores of uint8 pixels (N, H, W, 3) at network size."""
    batches = (pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE))
    return tuple(float(value) for batch in batches for value in graph.run(batch)[1])


def time_one_image(detectors: Sequence[Detector], pixels: Pixels, *, runs: int = TIMED_RUNS) -> list[float]:
    """Median milliseconds of each for one image at a time, taken in turns, so that other load hits all alike."""
    times: list[list[float]] = [[] for _ in detectors]
    for run in range(runs + 3):
        image = pixels[run % len(pixels)][None]
        for detector, taken in zip(detectors, times, strict=True):
            started = time.perf_counter()
            detector.forward(image)
            taken.append(1000 * (time.perf_counter() - started))
    return [statistics.median(taken[3:]) for taken in times]  # the first runs allocate memory


def _candidates(model: bytes, precision: Precision, pixels: Pixels, progress: Progress) -> Iterator[_Candidate]:
    """Graphs to try, the fastest first."""
    if precision != "int8":
        yield _Candidate(model, 0)
        return
    convolutions = backbone_convolutions(model)
    for step, share in enumerate(INT8_SHARES):
        progress("int8", step, len(INT8_SHARES))
        deepest = convolutions[-max(1, round(share * len(convolutions))) :]
        yield _Candidate(quantise(model, deepest, pixels), len(deepest))


def _check_scores(scores: Sequence[float], expected: Sequence[float], data: DataSet) -> None:
    """Raises BlemishError where the images do not have the scores in the model file, and so are other images."""
    if len(scores) != len(expected) or not np.allclose(
        scores, expected, rtol=MAX_RELATIVE_DIFFERENCE, atol=MAX_RELATIVE_DIFFERENCE
    ):
        raise BlemishError(
            f"{printable(data.root)}: the images held back for calibration do not score as they did in training; "
            "give the folder with the file names it had then"
        )


def _test_figures(detector: Detector, data: DataSet, stage: str, progress: Progress) -> dict[str, float | None]:
    names = [figure.name for figure in figures_in("export")]
    if not data.test:
        return dict.fromkeys(names)
    metrics = evaluate(detector, data, progress=lambda _, done, total: progress(stage, done, total)).metrics
    return {name: metrics[name] for name in names}
