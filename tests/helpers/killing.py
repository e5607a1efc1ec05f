"""Runs that are killed."""

from collections.abc import Iterator
from pathlib import Path

from blemish.model.detector import Detector
from blemish.prediction.engine import Engine, ThreadEngine


class KilledError(Exception):
    """Stands for whatever ends a process; the journal gets no chance to say goodbye but that of its rollback."""


def dying_after(chunks: int, detector: Detector, error: type[BaseException] = KilledError) -> Engine:
    def engine(waiting) -> Iterator:
        for number, rows in enumerate(ThreadEngine(detector, workers=1)(waiting)):
            if number == chunks:
                raise error
            yield rows

    return engine


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
