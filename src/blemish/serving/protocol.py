"""uvicorn's HTTP/1.1 connection with deadlines, which uvicorn lacks.

It subclasses internals of uvicorn, so that pyproject.toml bounds the versions of uvicorn and h11 from above. Raise the
bounds after tests/serving has passed with the newer versions.
"""

import asyncio
import math
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

DEADLINE_SECONDS = 10.0
MAX_CONNECTION_RATIO = 2  # of open connections to `limit_concurrency`; each costs a file descriptor


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose client is slow where the application cannot see it.

    That is while it sends a header, while it sends the rest of a body that was answered unread (an answer like
    413 has then arrived, which closing at once would destroy), and while it does not take an answer.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sending: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client: the deadline of its first header starts."""
        super().connection_made(transport)
        self._watch_sending(late=True)
        if len(self.connections) > MAX_CONNECTION_RATIO * (self.limit_concurrency or math.inf):
            transport.abort()  # up to this number, a client beyond limit_concurrency is answered 503

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        super().connection_lost(exc)
        self._watch_sending(late=False)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """A part of a header or body has arrived."""
        super().data_received(data)
        header_begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        self._watch_sending(late=header_begun or self._answered_unread())

    def on_response_complete(self) -> None:
        """An answer is written."""
        super().on_response_complete()
        if self._answered_unread():
            self._watch_sending(late=True)

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP, unless an answer has begun already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if (
            self.cycle is not None
        ):  # the rest of the application's answer is dropped, and is no failure of the application
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        super().pause_writing()
        self._taking = self._taking or self.loop.call_later(DEADLINE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._taking:
            self._taking.cancel()
            self._taking = None

    def _answered_unread(self) -> bool:
        answered = self.cycle is not None and self.cycle.response_complete
        return answered and self.conn.their_state is h11.SEND_BODY

    def _watch_sending(self, *, late: bool) -> None:
        """Starts the clock, leaves a running one as it is, or stops it."""
        if late:
            self._sending = self._sending or self.loop.call_later(DEADLINE_SECONDS, self.transport.abort)
        elif self._sending:
            self._sending.cancel()
            self._sending = None
