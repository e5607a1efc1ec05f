"""The server process: a socket, uvicorn, and a shutdown that answers every accepted request."""

import asyncio
import math
import os
import signal
import socket
from types import FrameType

import uvicorn

from blemish.errors import BlemishError
from blemish.serving.app import make_app
from blemish.serving.protocol import DeadlineProtocol
from blemish.serving.service import Service

MIN_DRAIN_SECONDS = 1.0  # for so long at least, health checks can see that the server is shutting down
INTERRUPTED = 130  # the status of every verb that Ctrl-C ended
KEEP_ALIVE_SECONDS = 75  # longer than nginx keeps its connections (60), so that the server never closes first


class Server(uvicorn.Server):
    """uvicorn, which on SIGTERM or SIGINT first answers all that it has accepted and only then stops listening.

    A second signal ends the process at once.
    """

    def __init__(self, service: Service) -> None:
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                make_app(service),
                http=DeadlineProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=limits.connections,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(limits.receive_seconds + limits.answer_seconds),
            )
        )
        self._service = service

    async def main_loop(self) -> None:
        """Runs until a signal comes and every accepted request is answered."""
        await super().main_loop()
        draining = asyncio.ensure_future(self._service.drain(at_least=MIN_DRAIN_SECONDS))
        while not draining.done() and not self.force_exit:  # a second Ctrl-C
            await asyncio.wait([draining], timeout=0.1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the shutdown; the second ends the process, whatever the workers do."""
        if self.should_exit:
            self._service.decoders.kill()
            if sig != signal.SIGINT:
                signal.signal(sig, signal.SIG_DFL)
                signal.raise_signal(sig)
            os.write(2, b"blemish: interrupted\n")  # print may wait for a lock that the interrupted code holds
            os._exit(INTERRUPTED)
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 stands for any free one. Raises BlemishError where there can be none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BlemishError(
            f"cannot listen on {host}:{port}: {reason.lower()}; choose another host or port (--host, --port)"
        ) from error
    # Connections inherit it. Without, the body of an answer waits 40 ms for the client to confirm the header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url(listener: socket.socket) -> str:
    """Where a listening socket can be reached, as http://host:port."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
