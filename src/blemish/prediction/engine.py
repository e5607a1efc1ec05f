"""Scores chunks of images, writes their output files and gives a row of each; threads score chunks in parallel."""

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from threading import Event

from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.frames import Frame
from blemish.imaging.heatmaps import encode_png, overlay
from blemish.imaging.images import read_image
from blemish.imaging.opening import frames_kept_open
from blemish.imaging.outputs import same_file
from blemish.imaging.regions import Region
from blemish.io.files import atomic_write, make_folder
from blemish.io.storage import is_url
from blemish.io.text import printable
from blemish.model.detector import BATCH_SIZE, Detector
from blemish.model.scored_image import FailedImage, ScoredImage
from blemish.prediction.outputs import OutputPaths, encode_map

UNREADABLE = "unreadable"

# Whole batches, so that an image meets the same others in the network whatever the number of workers and
# however often the run was killed: its score is the same to the last bit.
CHUNK = 4 * BATCH_SIZE


@dataclass(frozen=True)
class Item:
    """An image to be scored.

    Attributes:
        position: its number in the list.
        name: its name as given; that of a frame ends in its number: a.tif#2.
        outputs: the files to write for it.
        frame: the number of the frame in the file, from 1; None for a whole file.
    """

    position: int
    name: str
    outputs: OutputPaths
    frame: int | None = None

    @property
    def file(self) -> str:
        """The path of the file that holds the image."""
        return self.name if self.frame is None else self.name.removesuffix(f"#{self.frame}")

    @property
    def source(self) -> str | Frame:
        """The image as `read_image` takes it."""
        return self.name if self.frame is None else Frame(self.file, self.frame)


@dataclass(frozen=True)
class Row:
    """The result of one image.

    Attributes:
        position: its number in the list.
        state: that of the file when it was read, see `file_state`.
        verdict: "ok", "unsure", "anomalous", or "unreadable".
        score, p_value: None where the image could not be read.
        regions: a list in JSON.
        error: why there is no score, in one sentence; None where there is one.
        brightness, sharpness: those of `drift_statistics`; None where the model has nothing to compare them with.
        remark: what was lost in reading the image, in a sentence or more; None if nothing was.
    """

    position: int
    state: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    regions: str = "[]"
    error: str | None = None
    brightness: float | None = None
    sharpness: float | None = None
    remark: str | None = None


Chunk = Sequence[Item]
# Takes chunks and gives the rows of each, in any order of the chunks.
Engine = Callable[[Iterable[Chunk]], Generator[list[Row], None, None]]


def file_state(name: str) -> str:
    """Size and time of change of a file, by which a later run sees a change; empty where that is not known."""
    if is_url(name):
        return ""
    try:
        status = os.stat(name)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def score_chunk(detector: Detector, chunk: Chunk) -> Iterator[Row]:
    """Scores images and writes their output files: the row of an image comes after its files are on the disk."""
    states = [file_state(item.file) for item in chunk]
    results = zip(chunk, states, detector.predict_iter([item.source for item in chunk]), strict=True)
    while batch := list(islice(results, BATCH_SIZE)):
        # Written one after another and then brought to the disk together: that costs one wait and not eight.
        with ExitStack() as files:
            rows = [_row(detector, item, state, result, files) for item, state, result in batch]
        yield from rows


class ThreadEngine:
    """An engine that scores several chunks at a time in threads of this process.

    Decoding, network and drawing release Python's lock, so that threads run in parallel.

    Args:
        detector: the model.
        workers: number of threads.
    """

    def __init__(self, detector: Detector, *, workers: int) -> None:
        self._detector = detector
        self._workers = workers
        self._stopped = Event()

    def __call__(self, chunks: Iterable[Chunk]) -> Generator[list[Row], None, None]:
        """Gives the rows of every chunk in the order of the chunks; up to two chunks a thread wait."""
        waiting: deque[Future[list[Row]]] = deque()
        self._stopped.clear()
        with frames_kept_open(), ThreadPoolExecutor(self._workers) as pool:
            try:
                for chunk in chunks:
                    waiting.append(pool.submit(self._rows, chunk))
                    if len(waiting) > 2 * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._stopped.set()
                for future in waiting:
                    future.cancel()

    def _rows(self, chunk: Chunk) -> list[Row]:
        return list(takewhile(lambda _: not self._stopped.is_set(), score_chunk(self._detector, chunk)))


def _row(detector: Detector, item: Item, state: str, result: ScoredImage | FailedImage, files: ExitStack) -> Row:
    if isinstance(result, FailedImage):
        return Row(item.position, state, UNREADABLE, error=result.reason)
    try:
        return _with_outputs(detector, item, state, result, files)
    except MemoryError:  # drawing takes more memory than scoring did
        item.outputs.remove()
        error = f"{printable(item.name)}: too large for this machine's memory; shrink it first"
        return Row(item.position, state, UNREADABLE, error=error)


def _with_outputs(detector: Detector, item: Item, state: str, result: ScoredImage, files: ExitStack) -> Row:
    """The row of a scored image after its output files are written: all of them, or none where memory runs out."""
    image = None
    if item.outputs.overlay is not None:
        try:
            state_now = file_state(item.file)
            image = read_image(item.source, detector.reading)
            if not result.is_of(image):  # the file was replaced since: row and overlay must show the same image
                again = detector.score_again(image, path=item.file, source=item.name)
                if isinstance(again, FailedImage):
                    return Row(item.position, state_now, UNREADABLE, error=again.reason)
                state, result = state_now, again
        except ImageError as error:  # the file was removed since it was scored
            return Row(item.position, state, UNREADABLE, error=str(error))
    regions = detector.regions(result)
    for path, content in _encoded(detector, item, image, result, regions):
        _write(path, content, item, files)
    return Row(
        item.position,
        state,
        result.verdict,
        result.score,
        result.p_value,
        regions=json.dumps([region.as_json() for region in regions]),
        brightness=result.drift_features.get("brightness"),
        sharpness=result.drift_features.get("sharpness"),
        remark="; ".join(result.remarks) or None,
    )


def _encoded(
    detector: Detector, item: Item, image: Image.Image | None, result: ScoredImage, regions: Sequence[Region]
) -> list[tuple[Path, bytes]]:
    """Paths and contents of the image's output files; all are in memory before the first is written."""
    contents: list[tuple[Path, bytes]] = []
    if image is not None and item.outputs.overlay is not None:
        picture = overlay(image, result.anomaly_map, detector.scale, regions=regions, ignored=result.full_ignored())
        contents.append((item.outputs.overlay, encode_png(picture)))
    if item.outputs.anomaly_map is not None:
        contents.append((item.outputs.anomaly_map, encode_map(result.full_map(), item.outputs.anomaly_map)))
    return contents


def _write(path: Path, content: bytes, item: Item, files: ExitStack) -> None:
    make_folder(path.parent)
    if path.is_symlink():
        path.unlink()  # replaces the link itself, not the file that it points to
    elif same_file(path, item.file):
        raise BlemishError(f"{printable(path)} is, by a link, the image itself; choose another folder for the results")
    files.enter_context(atomic_write(path)).write(content)
