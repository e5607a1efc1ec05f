"""A pool of scoring threads with a bounded queue."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any, TypeVar

from blemish.serving.errors import too_many_requests
from blemish.serving.stopping import Stop

T = TypeVar("T")

STUCK_SECONDS = 1.0  # a job that still runs so long after its stop is stuck; ending a process takes milliseconds


@dataclass(eq=False)
class _Job:
    work: Callable[[Stop], Any]
    future: Future[Any] = field(default_factory=Future)
    stop: Stop = field(default_factory=Stop)
    accepted: float = field(default_factory=perf_counter)


class Workers:
    """A pool of threads that takes a job only while fewer than `capacity` are unfinished.

    The threads are daemons, so that the process can end even if one cannot be stopped.

    Args:
        count: number of threads.
        capacity: the most jobs accepted and unfinished.
        on_wait: called with the seconds that a job waited, when it begins.
        on_stop: called when a running job is stopped.
    """

    def __init__(
        self, *, count: int, capacity: int, on_wait: Callable[[float], None], on_stop: Callable[[], None]
    ) -> None:
        self.count = count
        self.capacity = capacity
        self._on_wait = on_wait
        self._on_stop = on_stop
        self._lock = threading.Lock()
        self._unfinished = 0
        self._at_work: set[_Job] = set()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="scorer", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def unfinished(self) -> int:
        """Jobs that wait or run."""
        return self._unfinished

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return bool(self._at_work)

    @property
    def stuck(self) -> int:
        """Threads whose job still runs although it was stopped."""
        with self._lock:
            asked = [job.stop.asked_at for job in self._at_work]
        return sum(at is not None and monotonic() - at >= STUCK_SECONDS for at in asked)

    def check_capacity(self, jobs: int = 1) -> None:
        """Raises RequestError (429) where so many jobs do not fit into the queue now."""
        if self._unfinished + jobs > self.capacity:
            raise too_many_requests(
                f"the queue is full ({self._unfinished} of {self.capacity}); send the request again in a second"
            )

    async def run(self, jobs: Sequence[Callable[[Stop], T]]) -> list[T]:
        """The results of all jobs, in order; all are accepted or none. Raises RequestError when the queue is full.

        On cancellation, waiting jobs leave the queue and running jobs are stopped.
        """
        accepted = self._accept(jobs)
        try:
            return await asyncio.gather(*(asyncio.wrap_future(job.future) for job in accepted))
        finally:
            self._drop(accepted)

    def close(self, *, seconds: float = 1.0) -> None:
        """Drops waiting jobs, stops running ones, and waits up to `seconds` for their end."""
        with suppress(Empty):
            while job := self._jobs.get_nowait():
                job.future.cancel()
        for _ in self._threads:
            self._jobs.put(None)
        with self._lock:
            at_work = list(self._at_work)
        self._drop(at_work)
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))

    def _accept(self, jobs: Sequence[Callable[[Stop], T]]) -> list[_Job]:
        accepted = [_Job(work) for work in jobs]
        with self._lock:
            self.check_capacity(len(accepted))
            self._unfinished += len(accepted)
        for job in accepted:
            job.future.add_done_callback(self._finish)
            self._jobs.put(job)
        return accepted

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._at_work.add(job)
            self._on_wait(perf_counter() - job.accepted)
            try:
                result = job.work(job.stop)
            except BaseException as error:  # any exception is raised where the result is awaited
                self._ended(job)
                job.future.set_exception(error)
            else:
                self._ended(job)
                job.future.set_result(result)

    def _ended(self, job: _Job) -> None:
        with self._lock:
            self._at_work.discard(job)

    def _drop(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            if not job.future.done() and not job.future.cancel():
                job.stop.ask()
                self._on_stop()

    def _finish(self, _: object) -> None:
        with self._lock:
            self._unfinished -= 1
