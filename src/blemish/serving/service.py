"""State shared by all requests: detectors, limits, the queue, metrics, and whether the server shuts down."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import PurePath
from time import monotonic
from typing import TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request

from blemish.errors import BlemishError
from blemish.io.text import printable
from blemish.model.backends import watched_runs
from blemish.model.detector import Detector
from blemish.model.scored_image import ScoredImage
from blemish.serving.decoders import Decoders
from blemish.serving.errors import RequestError
from blemish.serving.hosts import Hosts
from blemish.serving.limits import Limits
from blemish.serving.metrics import Metrics
from blemish.serving.schemas import FailureAnswer, Heatmap, ScoreAnswer, draw_upload, score_upload
from blemish.serving.stopping import Stop
from blemish.serving.uploads import BodyMemory, Upload, read_uploads
from blemish.serving.workers import Workers

T = TypeVar("T")

FIRST_RUN_SECONDS = 60.0


class Service:
    """Detectors behind a bounded queue.

    Args:
        detectors: each is called by its file's name without suffix.
        limits: bounds on what clients can ask for.
        workers: threads that score, one image each.
        api_key: the key that clients must send; None asks for none.
        hosts: the names allowed in the Host header; None allows any.

    Raises:
        BlemishError: no detector, or two of one name.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        limits: Limits | None = None,
        workers: int = 1,
        api_key: str | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        self.models = _by_name(detectors)
        self.limits = limits or Limits()
        self.api_key = api_key
        self.hosts = hosts
        self.memory = BodyMemory(self.limits.memory_bytes)
        self.metrics = Metrics(self.models)
        self.decoders = Decoders(workers, self.limits, on_death=self.metrics.decoder_died)
        self.workers = Workers(
            count=workers,
            capacity=self.limits.queue,
            on_wait=self.metrics.waited,
            on_stop=self.metrics.stopped,
        )
        self.metrics.watch_queue(lambda: self.workers.unfinished, self.limits.queue)
        self.metrics.watch_workers(lambda: self.workers.stuck, workers)
        self.draining = False
        self._accepted = 0

    @property
    def stuck(self) -> bool:
        """Whether every worker is stuck, so that no image can be scored."""
        return self.workers.stuck >= self.workers.count

    def warm_up(self) -> None:
        """Starts the processes that decode and scores a black image with every model.

        The first run of a graph takes many times as long as the next. Raises BlemishError where no process starts or
        the run of a model does not end.
        """
        self.decoders.start()
        try:
            for name, detector in self.models.items():
                asyncio.run(_first_run(name, detector))
        except BaseException:
            self.close()
            raise

    def model(self, name: str | None) -> str:
        """The name of the model asked for; without a name, of the only one. Raises RequestError."""
        names = ", ".join(self.models)
        if name is None and len(self.models) > 1:
            raise RequestError(400, f"several models are served: name one, as in ?model=NAME ({names})")
        if name is not None and name not in self.models:
            raise RequestError(404, f"no model is called {name!r}; there is {names}")
        return name or next(iter(self.models))

    async def score(self, request: Request, model: str) -> list[ScoreAnswer | FailureAnswer]:
        """Scores every file of a request. Raises RequestError, or ClientDisconnect when the client has left."""
        job = partial(score_upload, self.models[model], model=model, decoders=self.decoders)
        answers = await self._work(request, job, most=self.limits.batch)
        for answer in answers:
            self._count(model, answer)
        return answers

    async def draw(self, request: Request, model: str) -> Heatmap | FailureAnswer:
        """Scores the one file of a request and draws its heatmap. Raises as `score` does."""
        job = partial(draw_upload, self.models[model], decoders=self.decoders)
        (answer,) = await self._work(request, job, most=1)
        self._count(model, answer.scored if isinstance(answer, Heatmap) else answer)
        return answer

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Around a request that was accepted and has to be answered."""
        self._accepted += 1
        try:
            yield
        finally:
            self._accepted -= 1

    async def drain(self, *, at_least: float) -> None:
        """Refuses new work and returns when every accepted request is answered, but not before `at_least` seconds.

        Until then health checks are answered, so that a balancer sees that this server shuts down.
        """
        self.draining = True
        started = monotonic()
        longest = at_least + self.limits.receive_seconds + self.limits.answer_seconds
        while monotonic() - started < (longest if self._accepted else at_least):
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Ends workers and decoding processes; a stuck thread ends with this process."""
        self.workers.close()
        self.decoders.close()

    async def _work(self, request: Request, job: Callable[[Upload, Stop], T], *, most: int) -> list[T]:
        self.workers.check_capacity()  # before the body is read
        with self.memory.share() as take:
            uploads = await read_uploads(request, self.limits, take)
            if len(uploads) > most:
                raise RequestError(400, f"{len(uploads)} images were sent where one is expected; send one a request")
            work = self.workers.run([partial(job, upload) for upload in uploads])
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    return await _unless_gone(request, work)
            except TimeoutError as error:
                raise RequestError(
                    503,
                    f"no answer within {self.limits.answer_seconds:g} seconds; send fewer or smaller images",
                    headers={"Retry-After": "1"},
                ) from error

    def _count(self, model: str, answer: ScoreAnswer | ScoredImage | FailureAnswer) -> None:
        if isinstance(answer, FailureAnswer):
            self.metrics.unreadable(model)
        else:
            self.metrics.scored(model, answer)


async def _first_run(name: str, detector: Detector) -> None:
    black = np.zeros((*detector.metadata.size, 3), np.uint8)

    def run(stop: Stop) -> None:
        with watched_runs(stop.by):
            detector.score([black])

    worker = Workers(count=1, capacity=1, on_wait=lambda seconds: None, on_stop=lambda: None)
    try:
        async with asyncio.timeout(FIRST_RUN_SECONDS):
            await worker.run([run])
    except TimeoutError as error:
        raise BlemishError(
            f"{name}: no answer to a first image within {FIRST_RUN_SECONDS:g} seconds; is the model file whole?"
        ) from error
    finally:
        worker.close()


def _by_name(detectors: Sequence[Detector]) -> dict[str, Detector]:
    models: dict[str, Detector] = {}
    for detector in detectors:
        name = printable(PurePath(detector.name).stem)
        if name in models:
            raise BlemishError(f"two models are called {name}: rename one of the files")
        models[name] = detector
    if not models:
        raise BlemishError("there is no model to serve; name at least one")
    return models


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of the work; the work is cancelled when the client closes the connection."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_client_leaves(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
