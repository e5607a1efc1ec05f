"""One run from the list of images to the files that stay."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import PIL

from blemish import __version__
from blemish.conformal.fdr import Discoveries, check_fdr_supported, control_fdr, min_rejections
from blemish.conformal.split import Calibration
from blemish.errors import BlemishError
from blemish.imaging.outputs import check_folder_name
from blemish.imaging.results import HEATMAPS, MAPS, Results, check_only_results, check_own_table
from blemish.io.files import make_folder
from blemish.io.text import counted, printable
from blemish.model.detector import Detector
from blemish.prediction.engine import CHUNK, UNREADABLE, Engine, ThreadEngine
from blemish.prediction.journal import Journal, open_journal
from blemish.prediction.listing import each_frame, find_images
from blemish.prediction.outputs import MapFormat, OutputSpec
from blemish.prediction.tables import TableFormat, key, require_packages, write_regions, write_table
from blemish.process.deprecation import renamed_arguments
from blemish.process.progress import Progress, no_progress

Frames = Literal["first", "all"]
Notify = Callable[[str], None]


@dataclass(frozen=True)
class DriftReport:
    """Whether images looked as in calibration: the image that raised the alarm and in what, or None; and in words."""

    image: str | None
    statistic: str | None
    direction: str | None
    images: int
    statement: str


@dataclass(frozen=True)
class Prediction:
    """What `predict` did: images by verdict, those that could not be read, and those an earlier run had done.

    ``discoveries`` is the number of images discovered at the false-discovery rate that was asked, if one was;
    ``drift`` is what the drift check says of the images in their order, None where the model knows nothing to compare;
    ``results_left_out`` is the number of given images that are results of Blemish and were not scored.
    """

    anomalous: int
    unsure: int
    ok: int
    failed: int
    resumed: int
    seconds: float
    discoveries: int | None = None
    drift: DriftReport | None = None
    results_left_out: int = 0

    @property
    def images(self) -> int:
        """Images scored; the failed ones are not among them."""
        return self.anomalous + self.unsure + self.ok


@renamed_arguments(raw="save_maps", fresh="restart")
def predict(  # noqa: PLR0913  (an option of a run each)
    detector: Detector,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    heatmaps: bool = True,
    save_maps: MapFormat | None = None,
    table: TableFormat = "csv",
    false_discovery_rate: float | None = None,
    frames: Frames = "first",
    workers: int = 1,
    engine: Engine | None = None,
    restart: bool = False,
    progress: Progress = no_progress,
    notify: Notify | None = None,
) -> Prediction:
    """Scores images and writes scores.csv, regions.json, heatmaps/ and maps/ into the folder `out`.

    Overlays and maps keep the images' folders below their common parent. An image that cannot be read gets a row with
    the verdict "unreadable", and the run continues. Where `out` holds an unfinished run of the same model and options,
    its rows are kept and only the missing images are scored; the table is that of one run. Memory does not grow with
    the number of images.

    Example:
        >>> detector = Detector.load("screws.onnx")
        >>> prediction = predict(detector, "screws/test/", "out/", save_maps="npy")
        >>> prediction.images
        5

    Args:
        detector: the model.
        paths: image files, folders (searched to any depth), patterns such as `line?/*.png`, and URLs; one or several.
        out: the folder for the results; it is made if it does not exist.
        heatmaps: draw an overlay of every image.
        save_maps: also write the anomaly maps, float32 (H, W) at each image's own size, in this format: "tiff", "npy".
        table: the format of the table, "csv" or "parquet".
        false_discovery_rate: also say which images are discovered at this rate in all of them together, see
            `blemish.conformal.fdr`; 8 bytes an image have to fit into memory.
        frames: "all" makes each frame of a file with several a row of its own, called a.tif#1, a.tif#2, and so on; the
            headers of all files are then read first. "first" scores the first frame and says so.
        workers: threads that score at the same time; load the detector with `threads=1` when there are several.
        engine: what scores instead of threads in this process, see `blemish.prediction.ray_engine`.
        restart: score every image again and drop the rows of an unfinished run.
        progress: called with the stage "scoring", the images done and the number of all images.
        notify: called with one sentence for every image that cannot be read, or only in part (such as values beyond the
            bit depth), and for an unfinished run.

    Returns:
        The number of images by verdict, and what else the run found.

    Raises:
        BlemishError: no image is found, none can be read, a result cannot be written, or a false-discovery rate is
            asked of a cross-conformal model.
    """
    started = time.perf_counter()
    notify = notify or (lambda sentence: None)
    require_packages(table)
    if false_discovery_rate is not None:
        check_fdr_supported(detector.calibration, false_discovery_rate)
    spec = OutputSpec(Path(out), overlays=heatmaps, maps=save_maps, frames=frames == "all")
    _check_outputs(spec, detector)
    left_out = Results()
    images = _listed(paths, spec, left_out)
    make_folder(spec.out)
    with open_journal(spec) as journal:
        journal.begin(_settings(detector, spec), images, restart=restart)
        _notify_of_earlier_runs(journal, spec, left_out, notify)
        resumed = journal.done
        _score(journal, engine or ThreadEngine(detector, workers=workers), progress, notify)
        discoveries = None
        if false_discovery_rate is not None:
            discoveries = _discover(detector.calibration, journal, false_discovery_rate, notify)
        write_table(journal.results(), spec.out, table, discoveries=discoveries)
        write_regions(journal.results(), spec.out)
        verdicts = journal.verdicts()
        drift = _drift(detector, journal) if detector.metadata.drift_reference else None
    if verdicts[UNREADABLE] == verdicts.total():
        raise BlemishError(
            f"nothing was scored: {counted(verdicts.total(), 'file')} given, and no image that can be read"
        )
    return Prediction(
        anomalous=verdicts["anomalous"],
        unsure=verdicts["unsure"],
        ok=verdicts["ok"],
        failed=verdicts[UNREADABLE],
        resumed=resumed,
        seconds=time.perf_counter() - started,
        discoveries=None if discoveries is None else int(discoveries.discovered.sum()),
        drift=drift,
        results_left_out=left_out.number,
    )


def _check_outputs(spec: OutputSpec, detector: Detector) -> None:
    """Raises BlemishError where the results would replace an input or files that Blemish has not written."""
    check_folder_name(spec.out)
    check_own_table(spec.out, () if detector.ignore_mask is None else (detector.ignore_mask.path,))
    for folder in spec.folders:
        check_only_results(folder)


def _listed(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], spec: OutputSpec, left_out: Results
) -> Iterator[str]:
    """The names of all images. Raises BlemishError at once where there is none, before any folder is made."""
    images = find_images(paths, results=left_out)
    images = chain([next(images)], images)
    return each_frame(images) if spec.frames else images


def _notify_of_earlier_runs(journal: Journal, spec: OutputSpec, left_out: Results, notify: Notify) -> None:
    if (sentence := left_out.sentence()) is not None:
        notify(sentence)
    if journal.earlier is not None:
        _remove_partial_files(spec.out)
        notify(f"{printable(spec.out)}: {journal.earlier}")


def _discover(calibration: Calibration, journal: Journal, rate: float, notify: Notify) -> Discoveries | None:
    p_values = np.fromiter((row.p_value for _, row in journal.results() if row.p_value is not None), np.float64)
    if len(p_values) == 0:
        return None
    least = min_rejections(len(p_values), calibration_images=calibration.images, false_discovery_rate=rate)
    if least > 1:
        notify(
            f"{calibration.images:,} calibration images support {least:,} discoveries or more among "
            f"{len(p_values):,} images: fewer could be chance"
        )
    return control_fdr(p_values, false_discovery_rate=rate)


def _drift(detector: Detector, journal: Journal) -> DriftReport:
    """The drift check over all images in the order of the list, up to the first alarm."""
    check = detector.drift_check()
    for name, row in journal.results():
        if row.score is None or row.brightness is None or row.sharpness is None:
            continue
        values = {"score": row.score, "brightness": row.brightness, "sharpness": row.sharpness}
        if (alarm := check.add(values)) is not None:
            return DriftReport(key(name), alarm.statistic, alarm.direction, check.images, check.statement())
    return DriftReport(None, None, None, check.images, check.statement())


def _settings(detector: Detector, spec: OutputSpec) -> str:
    """All that determines the row and the output files of an image."""
    return json.dumps(
        {
            "version": __version__,
            "model": detector.fingerprint,
            "versions": _versions(detector),
            "false_alarm_rate": detector.calibration.false_alarm_rate,
            "heatmaps": spec.overlays,
            "maps": spec.maps,
            "frames": spec.frames,
            "rows": 3,  # counts up when the columns of the journal change
            "ignore": detector.ignore_mask.fingerprint if detector.ignore_mask else None,
        }
    )


def _versions(detector: Detector) -> list[str]:
    """Versions of the packages that decode, resize and score: another version may give other last digits."""
    runtime = import_module(detector.metadata.runtime)  # onnxruntime and onnxruntime-gpu are one module
    return [PIL.__version__, np.__version__, str(runtime.__version__)]


def _remove_partial_files(out: Path) -> None:
    """Removes the files that were being written when a run was killed."""
    for folder, pattern in ((out, ".*.partial"), (out / HEATMAPS, "**/.*.partial"), (out / MAPS, "**/.*.partial")):
        for file in folder.glob(pattern):
            file.unlink()


def _score(journal: Journal, engine: Engine, progress: Progress, notify: Notify) -> None:
    try:
        with closing(engine(journal.pending(CHUNK))) as chunks:
            for rows in chunks:
                journal.record(rows)
                for sentence in (text for row in rows for text in (row.error, row.remark)):
                    if sentence is not None:
                        notify(sentence)
                progress("scoring", journal.done, journal.total)
    except (KeyboardInterrupt, BlemishError) as error:  # the disk may be full: rows so far are kept
        journal.commit()
        if journal.done and isinstance(error, KeyboardInterrupt):
            notify(f"{journal.done:,} of {counted(journal.total, 'image')} done: the same command goes on from here")
        raise
    journal.commit()
