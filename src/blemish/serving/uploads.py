"""Request bodies: counted while they arrive, so that one too large or too slow is never held in memory whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from blemish.io.text import printable
from blemish.serving.errors import RefusalError, busy
from blemish.serving.limits import Limits

RAW_NAME = "image"  # what the one image of a raw body is called

Take = Callable[[int], None]


@dataclass(frozen=True)
class Upload:
    """One file as it was sent, under a printable name."""

    name: str
    content: bytes


class BodyMemory:
    """A bound on the bytes of all bodies together: many clients at once must not fill the machine."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Take]:
        """One request's part: a function that takes bytes or raises RefusalError; they are given back at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.held + count > self.capacity:
                raise busy("the server holds as many uploads as it can; send the request again in a second")
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
    """The files of a request, at least one. Raises RefusalError for a body that is too large, slow or damaged."""
    try:
        async with asyncio.timeout(limits.receive_seconds):
            chunks = _counted(request, limits, take)
            if is_form(request):
                return await _read_form(request, chunks, limits)
            return [Upload(RAW_NAME, b"".join([chunk async for chunk in chunks]))]
    except TimeoutError as error:
        raise RefusalError(408, f"the body did not arrive within {limits.receive_seconds:g} seconds") from error


async def _counted(request: Request, limits: Limits, take: Take) -> AsyncGenerator[bytes, None]:
    too_large = RefusalError(
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


class _FormParser(MultiPartParser):
    """Starlette's parser, which holds files in memory and knows whether the form came to its end."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _read_form(request: Request, chunks: AsyncGenerator[bytes, None], limits: Limits) -> list[Upload]:
    parser = _FormParser(request.headers, chunks, max_files=limits.batch, max_fields=0)
    parser.spool_max_size = limits.request_bytes + 1  # no image is ever written to disk
    try:
        return await _files_of(parser)
    except MultiPartException as error:
        raise RefusalError(400, _form_fault(error.message, limits)) from error
    except UnicodeError as error:  # the client may name any of Python's encodings for its file names
        raise RefusalError(400, "a file name of the multipart body cannot be read; send it in UTF-8") from error
    finally:
        for file in parser._files_to_close_on_error:  # whatever became of the form
            file.close()


async def _files_of(parser: _FormParser) -> list[Upload]:
    form = await parser.parse()
    if not parser.ended:
        raise RefusalError(400, "the multipart body ends before its last boundary; send it whole")
    uploads = [
        Upload(printable(part.filename or RAW_NAME), await part.read())
        for _, part in form.multi_items()
        if isinstance(part, UploadFile)
    ]
    if not uploads:
        raise RefusalError(400, "the multipart body holds no file; send images as in curl -F images=@part.png")
    return uploads


def _form_fault(message: str, limits: Limits) -> str:
    """Starlette's words in ours."""
    if message.startswith("Too many files"):
        return f"more than {limits.batch} images in one request; send several requests"
    if message.startswith("Too many fields"):
        return "a part of the multipart body is not a file; send images as in curl -F images=@part.png"
    return f"the multipart body cannot be read: {message.rstrip('.')}"
