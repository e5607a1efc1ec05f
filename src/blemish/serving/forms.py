"""The files of a multipart/form-data body, parsed while the body arrives and never written to disk."""

import codecs

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from blemish.serving.errors import RequestError

FILE_HINT = "send images as in curl -F images=@part.png"


class FormFiles:
    """Takes a body chunk by chunk and keeps the files in it.

    Args:
        content_type: the header of the request, which names the boundary between the parts.
        max_files: the most files that are taken.

    Raises:
        RequestError: the header names no boundary.
    """

    def __init__(self, content_type: str, *, max_files: int) -> None:
        _, options = parse_options_header(content_type)
        self._encoding = _known_encoding(options.get(b"charset", b"utf-8").decode("latin-1"))
        self._max_files = max_files
        self._files: list[tuple[str | None, bytes]] = []
        self._ended = False
        self._header_name, self._header_value, self._disposition = b"", b"", b""
        self._file_name: str | None = None
        self._content: list[bytes] = []
        if not options.get(b"boundary"):
            raise _unreadable("its header names no boundary")
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_to_header_name,
                    "on_header_value": self._add_to_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_content,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:  # a boundary that is too long
            raise _unreadable("it is damaged") from error

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body. Raises RequestError for a damaged one, and for a part that is no file."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _unreadable("it is damaged") from error

    def close(self) -> list[tuple[str | None, bytes]]:
        """Name and content of every file, in order. Raises RequestError where there is none or the end is missing."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise _unreadable("it is damaged") from error
        if not self._ended:
            raise RequestError(400, "the multipart body ends before its last boundary; send it whole")
        if not self._files:
            raise RequestError(400, f"the multipart body holds no file; {FILE_HINT}")
        return self._files

    def _begin_part(self) -> None:
        self._disposition, self._content = b"", []

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name, self._header_value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _unreadable("a part of it has no name")
        if b"filename" not in options:
            raise RequestError(400, f"a part of the multipart body is not a file; {FILE_HINT}")
        if len(self._files) == self._max_files:
            raise RequestError(400, f"more than {self._max_files} images in one request; send several requests")
        self._file_name = self._decoded(options[b"filename"]) or None

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end_part(self) -> None:
        self._files.append((self._file_name, b"".join(self._content)))

    def _end(self) -> None:
        self._ended = True

    def _decoded(self, name: bytes) -> str:
        try:
            return name.decode(self._encoding)
        except UnicodeDecodeError:
            return name.decode("latin-1")
        except (LookupError, UnicodeError) as error:  # the client may name any of Python's encodings
            raise RequestError(400, "a file name of the multipart body cannot be read; send it in UTF-8") from error


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "latin-1"


def _unreadable(reason: str) -> RequestError:
    return RequestError(400, f"the multipart body cannot be read: {reason}")
