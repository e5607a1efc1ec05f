"""Requests that are refused with an HTTP status and a reason."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from blemish.errors import BlemishError


class RequestError(BlemishError):
    """A request is refused with an HTTP status and one sentence that says what to do."""

    def __init__(self, status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The response {"error": sentence}."""
        return JSONResponse({"error": str(self)}, status_code=self.status, headers=self.headers)


def too_many_requests(sentence: str) -> RequestError:
    """The error 429; the same request may succeed a second later."""
    return RequestError(429, sentence, headers={"Retry-After": "1"})
