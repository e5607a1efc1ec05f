"""Ending work that takes too long, from another thread than the one that does it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic


class StoppedError(Exception):
    """The work was ended because nobody waits for it any more."""


class Stop:
    """The end of one piece of work: its thread says how each part can be ended, any other thread may ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self.asked_at: float | None = None

    @contextmanager
    def by(self, end: Callable[[], None]) -> Iterator[None]:
        """A part of the work that `end`, called from another thread, ends early. Raises StoppedError where it was."""
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
        """Ends the part that is at work and lets no other begin. Returns at once."""
        with self._lock:
            self.asked_at = self.asked_at or monotonic()
            if self._end is not None:
                self._end()
