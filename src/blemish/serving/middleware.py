"""The outermost layer of the application, which every request passes."""

from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blemish.serving.errors import RequestError
from blemish.serving.service import Service

WORK = "/v1/"
HEADERS = {
    # The page may load its own files and pictures made in it, and no other page may frame it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ServiceMiddleware:
    """Counts requests, adds security headers, refuses other sites' pages, and refuses work during the shutdown."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = perf_counter()
        status = 500  # what the server answers when the application raises

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if self._service.draining:
                    headers["Connection"] = "close"  # a balancer sends the client's next request to another server
            await send(message)

        try:
            await self._admit(scope, receive, send_marked)
        finally:
            route = getattr(
                scope.get("route"), "path", "other"
            )  # not the path as sent, which has unboundedly many values
            self._service.metrics.answered(route, status, perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._service.hosts is not None:
                self._service.hosts.check(scope["method"], scope["path"], scope["headers"])
        except RequestError as error:
            return await error.response()(scope, receive, send)
        if not scope["path"].startswith(WORK):
            return await self._app(scope, receive, send)
        if self._service.draining:
            shutdown = RequestError(
                503, "the server is shutting down; send the request again", headers={"Retry-After": "1"}
            )
            return await shutdown.response()(scope, receive, send)
        with self._service.accepted():
            await self._app(scope, receive, send)
