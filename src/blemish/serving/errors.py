"""Requests that get no answer but a reason."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from blemish.errors import BlemishError


class RefusalError(BlemishError):
    """A request is turned down with an HTTP status and one sentence that says what to do."""

    def __init__(self, status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The refusal as {"error": sentence}."""
        return JSONResponse({"error": str(self)}, status_code=self.status, headers=self.headers)


def busy(sentence: str) -> RefusalError:
    """429: the same request may well succeed a second later."""
    return RefusalError(429, sentence, headers={"Retry-After": "1"})
