"""Scoring on Ray, on this machine or on a cluster: the extra [ray].

The driver lists the images, keeps the journal and joins the table, as in a run without Ray; Ray Data carries
chunks of images to actors that hold the model, and their rows back. The actors write the pictures themselves.
"""

import logging
import os
import platform
import socket
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError
from blemish.imaging.opening import frames_kept_open
from blemish.io.files import temporary_folder
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.prediction.engine import Chunk, Item, Row, score_chunk
from blemish.prediction.journal import FILE
from blemish.prediction.outputs import OutputPaths

if TYPE_CHECKING:
    import pyarrow

# Columns and their Arrow types. File names are bytes: they need not be text.
ITEM_TYPES = {"position": "int64", "name": "binary", "overlay": "binary", "anomaly_map": "binary", "frame": "int64"}
ROW_TYPES = {
    "position": "int64", "state": "string", "verdict": "string", "score": "float64", "p_value": "float64",
    "regions": "string", "error": "string", "brightness": "float64", "sharpness": "float64",
    "remark": "string",
}  # fmt: skip
RUN_ERROR = "run error"

LOCAL = "local"
SECONDS_TO_ANSWER = 10
CHUNKS_AT_A_TIME = 4000  # so that the list of a million images does not go through Ray's memory in one piece


@dataclass(frozen=True)
class Job:
    """What an actor needs, wherever it starts; the model travels as bytes.

    Attributes:
        model_name: the file name of the model.
        model: its content.
        false_alarm_rate: as for `Detector.load`.
        folder: where the command was given; relative names of images belong to it.
        out: the folder of the results.
        ignore_mask: a path that all machines see.
    """

    model_name: str
    model: bytes
    false_alarm_rate: float | None
    folder: str
    out: str
    ignore_mask: str | None = None


class ScoreChunk:
    """The actor: loads the model once, then scores one chunk after another on one core."""

    def __init__(self, job: Job) -> None:
        with temporary_folder() as folder:
            file = folder / job.model_name
            file.write_bytes(job.model)
            self._detector = Detector.load(
                file, false_alarm_rate=job.false_alarm_rate, threads=1, ignore_mask=job.ignore_mask
            )
        if os.path.isdir(job.folder):  # without this folder, an image with a relative name is reported as missing
            os.chdir(job.folder)
        self._out = job.out

    def __call__(self, table: "pyarrow.Table") -> "pyarrow.Table":
        """Items to rows, both as Arrow tables with one column a field; or a table with the error that ends the run."""
        try:
            return _as_table(self._rows(table), ROW_TYPES)
        except BlemishError as error:  # Ray would wrap an exception and lose its sentence
            return _as_table([{RUN_ERROR: str(error)}], {RUN_ERROR: "string"})

    def _rows(self, table: "pyarrow.Table") -> list[dict[str, Any]]:
        chunk = [_item(**columns) for columns in table.to_pylist()]
        if any(item.outputs != OutputPaths(None, None) for item in chunk) and not os.path.exists(f"{self._out}/{FILE}"):
            raise BlemishError(
                f"the machine {platform.node()} does not see {printable(self._out)}: name a folder that all machines "
                "share, or draw no overlays: heatmaps=False (--no-heatmaps)"
            )
        with frames_kept_open():
            return [asdict(row) for row in score_chunk(self._detector, chunk)]


class RayEngine:
    """An engine for `predict` that scores on Ray.

    Args:
        model: the model file.
        out: the folder for the results; overlays and maps need one that all machines see under this path.
        address: "local" starts Ray on this machine, "auto" or host:port joins a cluster.
        workers: actors, one core each; all cores that Ray has unless said otherwise.
        false_alarm_rate, ignore_mask: as for `Detector.load`.

    Raises:
        BlemishError: Ray is not installed, the address is none, or nothing answers there.
    """

    def __init__(
        self,
        model: Path,
        out: Path,
        *,
        address: str = LOCAL,
        workers: int | None = None,
        false_alarm_rate: float | None = None,
        ignore_mask: Path | None = None,
    ) -> None:
        _import_ray()
        if address not in (LOCAL, "auto"):
            if ":" not in address:
                raise BlemishError(
                    f"{printable(address)} is no address of Ray's: give auto, host:6379 or ray://host:10001, or put "
                    "--ray behind everything else to run on this machine"
                )
            _check_reachable(address)
        self._address = address
        self._workers = workers
        self._job = Job(
            model.name,
            model.read_bytes(),
            false_alarm_rate,
            folder=os.getcwd(),
            out=os.path.abspath(out),
            ignore_mask=None if ignore_mask is None else os.path.abspath(ignore_mask),
        )

    def __call__(self, chunks: Iterable[Chunk]) -> Generator[list[Row], None, None]:
        """Gives the rows of every chunk as they come back, in any order of the chunks."""
        waiting = iter(chunks)
        with _connected(self._address, self._workers) as ray:
            actors = self._workers or int(ray.cluster_resources()["CPU"])
            while tables := [_as_table(_columns(chunk), ITEM_TYPES) for chunk in islice(waiting, CHUNKS_AT_A_TIME)]:
                # One block a chunk, so that a chunk stays whole and its images share batches as without Ray.
                scored = ray.data.from_arrow(tables).map_batches(
                    ScoreChunk,
                    fn_constructor_args=(self._job,),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=min(actors, len(tables))),
                    num_cpus=1,
                )
                for table in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
                    rows = table.to_pylist()
                    if RUN_ERROR in table.column_names:
                        raise BlemishError(rows[0][RUN_ERROR])
                    yield [Row(**columns) for columns in rows]


@contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """Ray, quiet, with a cluster behind it; one that was there before stays."""
    ray = _import_ray()
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command line has its own
    if ray.is_initialized():
        yield ray
        return
    here: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **here)
    except Exception as error:  # what it raises depends on the kind of address
        raise _no_answer(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises BlemishError where nothing listens at host:port: Ray itself would go on trying for ten minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> BlemishError:
    return BlemishError(
        f"no Ray cluster answers at {printable(address)} ({type(error).__name__}); start one with ray start --head"
    )


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unasked
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its core calls a large argument an error
    try:
        import pyarrow  # noqa: F401  (Ray Data needs it and does not bring it)
        import ray.data
    except ImportError as error:
        raise BlemishError('scoring on Ray (--ray) needs the package ray: pip install "blemish[ray]"') from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _columns(chunk: Chunk) -> list[dict[str, Any]]:
    return [
        {
            "position": item.position,
            "name": os.fsencode(item.name),
            "overlay": _absolute(item.outputs.overlay),
            "anomaly_map": _absolute(item.outputs.anomaly_map),
            "frame": item.frame,
        }
        for item in chunk
    ]


def _item(
    position: int, name: bytes, overlay: bytes | None, anomaly_map: bytes | None, frame: int | None = None
) -> Item:
    paths = (None if path is None else Path(os.fsdecode(path)) for path in (overlay, anomaly_map))
    return Item(position, os.fsdecode(name), OutputPaths(*paths), frame)


def _absolute(path: Path | None) -> bytes | None:
    return None if path is None else os.fsencode(os.path.abspath(path))


def _as_table(rows: list[dict[str, Any]], types: dict[str, str]) -> "pyarrow.Table":
    import pyarrow

    return pyarrow.Table.from_pylist(rows, pyarrow.schema(list(types.items())))
