"""Threads that score, with a bounded number of images before them."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from blemish.serving.refusals import busy

T = TypeVar("T")


class Workers:
    """A pool of threads that takes a job only while fewer than `capacity` are unfinished.

    Args:
        count: number of threads.
        capacity: the most jobs accepted and unfinished.
        on_wait: called with the seconds that a job waited, when it begins.
    """

    def __init__(self, *, count: int, capacity: int, on_wait: Callable[[float], None]) -> None:
        self.count = count
        self.capacity = capacity
        self._on_wait = on_wait
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="scorer")
        self._lock = threading.Lock()
        self._unfinished = 0

    @property
    def unfinished(self) -> int:
        """Jobs waiting or at work."""
        return self._unfinished

    def refuse_if_full(self, jobs: int = 1) -> None:
        """Raises RefusalError (429) where so many jobs would not be accepted now."""
        if self._unfinished + jobs > self.capacity:
            raise busy(f"the queue is full ({self._unfinished} of {self.capacity}); send the request again in a second")

    async def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """The results of all jobs, in order; all are accepted or none. Raises RefusalError when the queue is full.

        On cancellation the jobs that have not begun are taken out of the queue.
        """
        futures = self._accept(jobs)
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Waits for the jobs at work and drops those that wait."""
        self._pool.shutdown(cancel_futures=True)

    def _accept(self, jobs: Sequence[Callable[[], T]]) -> list[Future[T]]:
        with self._lock:
            self.refuse_if_full(len(jobs))
            self._unfinished += len(jobs)
        futures = [self._pool.submit(self._timed, job, perf_counter()) for job in jobs]
        for future in futures:
            future.add_done_callback(self._finish)
        return futures

    def _timed(self, job: Callable[[], T], accepted: float) -> T:
        self._on_wait(perf_counter() - accepted)
        return job()

    def _finish(self, _: object) -> None:
        with self._lock:
            self._unfinished -= 1
