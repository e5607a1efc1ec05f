"""Stops work that takes too long, from another thread than the one that runs it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic


class StoppedError(Exception):
    """The work was stopped because its answer is no longer needed."""


class Stop:
    """A stop switch for one job: its thread registers how each part is stopped, and any other thread may ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self.asked_at: float | None = None

    @contextmanager
    def by(self, end: Callable[[], None]) -> Iterator[None]:
        """A part of the job that `end`, called from another thread, stops early. Raises StoppedError if it was."""
        with self._lock:
            if self.asked_at is not None:
                raise StoppedError
            self._end = end
        try:
            yield
        except Exception as error:
            if self.asked_at is not None:
                raise StoppedError from error
            raise
        finally:
            with self._lock:
                self._end = None

    def ask(self) -> None:
        """Stops the current part and lets no other begin. Returns at once."""
        with self._lock:
            self.asked_at = self.asked_at or monotonic()
            if self._end is not None:
                self._end()
