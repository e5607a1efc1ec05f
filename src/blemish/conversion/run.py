"""Exports of a model file to other runtimes and precisions, each with its own calibration.

1. The held-back images that the model was calibrated on are found again in its data, and scored again; in a model of
   an earlier release without its second opinion, which knows them.
2. The graph is quantised, or given to OpenVINO as it is, and scores the same images in its own runtime.
3. Where that moves verdicts or p-values too far, nothing is written. Otherwise these scores calibrate the export.
4. Both files are timed, and measured on the test split where the data have one, which decides nothing.
"""

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
from blemish.conversion.calibration_images import held_back_images
from blemish.conversion.onnx_edit import backbone_convolutions, first_opinion, quantise, with_metadata
from blemish.datasets.layouts import DataSet, read_data_set
from blemish.errors import BlemishError
from blemish.evaluation.figures import figures_in
from blemish.evaluation.run import evaluate
from blemish.imaging.images import load
from blemish.imaging.outputs import MODEL, check_overwriting
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
# What early layers round away goes through all others: where int8 everywhere is too coarse, the deepest may bear it.
INT8_SHARES = (1, 1 / 2, 1 / 4)
SAME = 1e-3  # relative; other processors and versions of the runtime differ by less
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
    model: Path,
    data: Path | None,
    output: Path,
    *,
    target: Format,
    good: Sequence[Path] = (),
    bad: Sequence[Path] = (),
    masks: Sequence[Path] = (),
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Export:
    """Writes the model for another runtime or precision, and measures it beside the model.

    Args:
        model: a file that `blemish train` wrote.
        data: the folder it was trained on; it may be None where folders were named by hand.
        output: the .onnx file to write.
        target: the format.
        good, bad, masks: the folders that were named by hand for training, if they were.
        tolerance: how far p-values of the calibration images may move, in 0..1; see `Agreement`.
        threads: processor threads while measuring; all cores unless said otherwise.
        progress: called with the stage, the steps done and all there are.

    Raises:
        BlemishError: the model is an export already, the data are not those it was calibrated on, a package is
            missing, the output is an input or has no name of a model file, the processor lacks the precision, or
            verdicts or p-values move by more than the tolerance.
    """
    check_overwriting(output, (model, data), kind=MODEL)
    check_output_file(output)
    original = Detector.load(model, threads=threads)
    metadata = original.metadata
    if (metadata.runtime, metadata.precision) != ("onnxruntime", "f32") or metadata.any_size:
        raise BlemishError(f"{printable(model)} is an export itself: give the file that blemish train wrote")
    data_set = read_data_set(data, nominal_class=metadata.data.get("nominal_class"), good=good, bad=bad, masks=masks)
    pixels = np.stack([load(path, metadata.size, original.reading)[0] for path in held_back_images(metadata, data_set)])
    of_model = model.read_bytes()
    before = calibration_scores(of_model, pixels, "onnxruntime", "f32", threads=threads)
    _refuse_other_scores(before, metadata.calibration.scores, data_set)

    runtime, precision = TARGETS[target]
    for candidate in _candidates(of_model, precision, pixels, progress):
        after = calibration_scores(candidate.model, pixels, runtime, precision, threads=threads)
        rate = metadata.calibration.false_alarm_rate
        agreed = agreement(before, after, false_alarm_rate=rate, tolerance=tolerance)
        if agreed.holds:
            break
    else:
        raise BlemishError(f"{target} decides otherwise: {agreed.statement()}; keep {printable(model)} as it is")
    # Excesses of regions are those of the original's maps.
    exported = replace(
        metadata, calibration=Calibration(after, rate), regions=None, runtime=runtime, precision=precision
    )
    with atomic_write(output) as file:
        file.write(with_metadata(candidate.model, exported))

    detector = Detector.load(output, threads=threads)
    ms_before, ms_after = time_one_image((original, detector), pixels)
    test_before, test_after = (
        _test_figures(one, data_set, stage, progress) for one, stage in ((original, "test"), (detector, "test again"))
    )
    return Export(output, agreed, candidate.int8_convolutions, ms_before, ms_after, test_before, test_after)


def calibration_scores(
    model: bytes, pixels: Pixels, runtime: Runtime, precision: Precision, *, threads: int | None
) -> tuple[float, ...]:
    """Scores, without a second opinion, of held-back images: uint8 (N, H, W, 3) at network size."""
    return score(open_graph(first_opinion(model), runtime, precision, threads=threads), pixels)


def score(graph: Graph, pixels: Pixels) -> tuple[float, ...]:
    """Scores of uint8 pixels (N, H, W, 3) at network size."""
    batches = (pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE))
    return tuple(float(one) for batch in batches for one in graph.run(batch)[1])


def time_one_image(detectors: Sequence[Detector], pixels: Pixels, *, runs: int = TIMED_RUNS) -> list[float]:
    """Median milliseconds of each for one image at a time, taken in turns: other load on the machine hits all."""
    times: list[list[float]] = [[] for _ in detectors]
    for run in range(runs + 3):
        image = pixels[run % len(pixels)][None]
        for detector, taken in zip(detectors, times, strict=True):
            started = time.perf_counter()
            detector.forward(image)
            taken.append(1000 * (time.perf_counter() - started))
    return [statistics.median(taken[3:]) for taken in times]  # without the first ones, which lay out memory


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


def _refuse_other_scores(scores: Sequence[float], expected: Sequence[float], data: DataSet) -> None:
    """Raises where the images found again do not have the scores in the model file, and so are not those images."""
    if len(scores) != len(expected) or not np.allclose(scores, expected, rtol=SAME, atol=SAME):
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
