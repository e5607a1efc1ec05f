"""From a chunk of images to rows and pictures; chunks one after another in threads."""

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from threading import Event

from blemish.errors import BlemishError
from blemish.imaging.frames import Frame
from blemish.imaging.heatmaps import encode_png, overlay
from blemish.imaging.images import ImageError, read_image
from blemish.imaging.outputs import same_file
from blemish.io.files import atomic_write, make_folder
from blemish.io.storage import is_url
from blemish.io.text import printable
from blemish.model.detector import BATCH_SIZE, Detector, FailedImage, ScoredImage
from blemish.prediction.outputs import Places, raw_bytes

UNREADABLE = "unreadable"

# Whole batches, so that an image meets the same others in the network whatever the number of workers and
# however often the run was killed: its score is the same to the last bit.
CHUNK = 4 * BATCH_SIZE


@dataclass(frozen=True)
class Item:
    """An image to be scored: its place in the list, its name as given, where its pictures go.

    The name of a frame ends in its number: a.tif#2.
    """

    position: int
    name: str
    places: Places
    frame: int | None = None

    @property
    def file(self) -> str:
        """The path of its file."""
        return self.name if self.frame is None else self.name.removesuffix(f"#{self.frame}")

    @property
    def source(self) -> str | Frame:
        """What is read."""
        return self.name if self.frame is None else Frame(self.file, self.frame)


@dataclass(frozen=True)
class Row:
    """What is kept of one image; `fault` says why there is no score.

    ``remark`` says in a sentence or more what was lost in reading it, None if nothing.
    ``state`` is that of the file when it was read (see `file_state`), ``regions`` a list in JSON; ``brightness`` and
    ``sharpness`` are those of `drift_statistics`, where the model has something to compare them with.
    """

    position: int
    state: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    regions: str = "[]"
    fault: str | None = None
    brightness: float | None = None
    sharpness: float | None = None
    remark: str | None = None


Chunk = Sequence[Item]
# Rows of chunks, in any order of the chunks.
Engine = Callable[[Iterable[Chunk]], Generator[list[Row], None, None]]


def file_state(name: str) -> str:
    """Size and time of change of a file, to see later whether it is another one; empty where that is not known."""
    if is_url(name):
        return ""
    try:
        status = os.stat(name)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def score_chunk(detector: Detector, chunk: Chunk) -> Iterator[Row]:
    """Scores images and writes their pictures: a row is given out when its pictures are on the disk."""
    states = [file_state(item.file) for item in chunk]
    results = zip(chunk, states, detector.stream([item.source for item in chunk]), strict=True)
    while batch := list(islice(results, BATCH_SIZE)):
        # Written one after another and then brought to the disk together: that costs one wait and not eight.
        with ExitStack() as files:
            rows = [_row(detector, item, state, result, files) for item, state, result in batch]
        yield from rows


def in_threads(detector: Detector, *, workers: int) -> Engine:
    """Chunks in this process, some at a time: decoding, network and drawing leave Python's lock to others."""
    return partial(_in_threads, detector, workers)


def _in_threads(detector: Detector, workers: int, chunks: Iterable[Chunk]) -> Generator[list[Row], None, None]:
    stopped = Event()

    def work(chunk: Chunk) -> list[Row]:
        return list(takewhile(lambda _: not stopped.is_set(), score_chunk(detector, chunk)))

    waiting: deque[Future[list[Row]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work, chunk))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()


def _row(detector: Detector, item: Item, state: str, result: ScoredImage | FailedImage, files: ExitStack) -> Row:
    if isinstance(result, FailedImage):
        return Row(item.position, state, UNREADABLE, fault=result.reason)
    try:
        return _drawn(detector, item, state, result, files)
    except MemoryError:  # its pictures take more than its pixels did
        item.places.remove()
        fault = f"{printable(item.name)}: too large for this machine's memory; shrink it first"
        return Row(item.position, state, UNREADABLE, fault=fault)


def _drawn(detector: Detector, item: Item, state: str, scored: ScoredImage, files: ExitStack) -> Row:
    """The row of an image whose pictures are written: all of them, or where memory does not do, none."""
    image, result = None, scored
    if item.places.overlay is not None:
        try:
            state_now = file_state(item.file)
            image = read_image(item.source, detector.reading)
            if not result.is_of(image):  # another file has taken its place: row and picture are to be of one
                again = detector.score_again(image, path=item.file, source=item.name)
                if isinstance(again, FailedImage):
                    return Row(item.position, state_now, UNREADABLE, fault=again.reason)
                state, result = state_now, again
        except ImageError as error:  # gone since it was scored
            return Row(item.position, state, UNREADABLE, fault=str(error))
    regions = detector.regions(result)
    pictures: list[tuple[Path, bytes]] = []
    if image is not None and item.places.overlay is not None:
        picture = overlay(image, result.anomaly_map, detector.scale, regions=regions, ignored=result.full_ignored())
        pictures.append((item.places.overlay, encode_png(picture)))
    if item.places.raw is not None:
        pictures.append((item.places.raw, raw_bytes(result.full_map(), item.places.raw)))
    for place, content in pictures:
        _write(place, content, item, files)
    return Row(
        item.position,
        state,
        result.verdict,
        result.score,
        result.p_value,
        regions=json.dumps([region.as_json() for region in regions]),
        brightness=result.light.get("brightness"),
        sharpness=result.light.get("sharpness"),
        remark="; ".join(result.remarks) or None,
    )


def _write(place: Path, content: bytes, item: Item, files: ExitStack) -> None:
    make_folder(place.parent)
    if place.is_symlink():
        place.unlink()  # the link gives way to the picture, and not the file behind it
    elif same_file(place, item.file):
        raise BlemishError(f"{printable(place)} is, by a link, the image itself; choose another folder for the results")
    files.enter_context(atomic_write(place)).write(content)
