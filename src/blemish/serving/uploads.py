"""Request bodies, counted while they arrive: one that is too large or too slow is never held in memory whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from blemish.io.text import printable
from blemish.serving.errors import RequestError, too_many_requests
from blemish.serving.forms import FormFiles
from blemish.serving.limits import Limits

RAW_NAME = "image"  # what the one image of a raw body is called

Take = Callable[[int], None]


@dataclass(frozen=True)
class Upload:
    """One file as it was sent, under a printable name."""

    name: str
    content: bytes


class BodyMemory:
    """A bound on the bytes of all request bodies together."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Take]:
        """A function that takes bytes for one request or raises RequestError; the end of the block gives them back."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.held + count > self.capacity:
                raise too_many_requests(
                    "the server holds as many uploads as it can; send the request again in a second"
                )
            self.held += count
            taken += count

        try:
            yield take
        finally:
            self.held -= taken


def is_form(request: Request) -> bool:
    """Whether the body is multipart/form-data; any other body is taken for one image, whatever its type says."""
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


async def read_uploads(request: Request, limits: Limits, take: Take) -> list[Upload]:
    """The files of a request, at least one. Raises RequestError for a body that is too large, slow or damaged."""
    try:
        async with asyncio.timeout(limits.receive_seconds):
            chunks = _counted(request, limits, take)
            if is_form(request):
                form = FormFiles(request.headers["content-type"], max_files=limits.batch)
                async for chunk in chunks:
                    form.feed(chunk)
                return [Upload(printable(name or RAW_NAME), content) for name, content in form.close()]
            return [Upload(RAW_NAME, b"".join([chunk async for chunk in chunks]))]
    except TimeoutError as error:
        raise RequestError(408, f"the body did not arrive within {limits.receive_seconds:g} seconds") from error


async def _counted(request: Request, limits: Limits, take: Take) -> AsyncGenerator[bytes, None]:
    too_large = RequestError(
        413, f"the body is above the limit of {limits.request_bytes:,} bytes; send smaller or fewer images"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.request_bytes:
        raise too_large  # before a byte of it is read
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.request_bytes:
            raise too_large
        take(len(chunk))
        yield chunk
