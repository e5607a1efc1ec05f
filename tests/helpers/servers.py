"""Servers to talk to."""

import gzip
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.model.detector import Detector
from blemish.serving import protocol
from blemish.serving.server import Server, listen, url
from blemish.serving.service import Service
from helpers.images import noise, stained

httpx = pytest.importorskip("httpx", reason='the server is not installed: pip install "blemish[serve]"')


# One for all tests: every new one loads the machine's certificates.
client = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=20)


class Gated(Detector):
    """A detector that scores when it is let."""

    gate: threading.Event

    def predict_iter(self, *args: Any, **options: Any) -> Iterator[Any]:
        assert self.gate.wait(20)
        yield from super().predict_iter(*args, **options)


@contextmanager
def running(service: Service) -> Iterator[str]:
    """The address of a real server on loopback, in a thread of this process."""
    service.decoders.start()  # as the command line does: a short time-out is for the image alone
    uvicorn_server = Server(service)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield url(listener)
        finally:
            uvicorn_server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def encoded(pixels: np.ndarray | Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(stained(3, size=(40, 90)), "JPEG", exif=exif)


GOOD_FILES = {
    "png": encoded(noise(1)),
    "anomalous": encoded(stained(2, size=(90, 70))),
    "one pixel": encoded(noise(3, size=(1, 1))),
    "long": encoded(stained(4, size=(7, 900))),
    "jpeg turned": turned(),
    "16 bit tiff": encoded(Image.fromarray(noise(5)[..., 0].astype(np.uint16) * 256), "TIFF"),
    "transparent webp": encoded(
        Image.fromarray(np.dstack([stained(6), noise(7)[..., 0]]), "RGBA"), "WEBP", lossless=True
    ),
    "grey bmp": encoded(noise(8)[..., 0], "BMP"),
    "gif": encoded(noise(9)[..., 0], "GIF"),
}


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header says so; its checksum is right."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


BAD_FILES = {
    "empty": b"",
    "text": b"an image, honestly",
    "json": b'{"image": "part.png"}',
    "zeros": bytes(5000),
    "half a png": GOOD_FILES["anomalous"][: len(GOOD_FILES["anomalous"]) // 2],
    "half a jpeg": encoded(noise(1), "JPEG")[:900],
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "above the limit": png_claiming(1001, 1000),
    "pixel bomb": png_claiming(60_000, 60_000),
    "no pixels": png_claiming(0, 0),
    "broken chunk": GOOD_FILES["png"][:60] + b"\xff" * 40 + GOOD_FILES["png"][100:],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "gzip": gzip.compress(GOOD_FILES["png"]),
    "ico": encoded(noise(1, size=(32, 32)), "ICO"),
    "floating-point tiff": encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"),
}


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end


FILE_PART = b'Content-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + GOOD_FILES["png"]


MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}


BAD_REQUESTS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "no boundary": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART), "headers": {"Content-Type": "multipart/form-data"}},
        400,
    ),
    "empty boundary": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART), "headers": {"Content-Type": "multipart/form-data; boundary="}},
        400,
    ),
    "another boundary": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART), "headers": {"Content-Type": "multipart/form-data; boundary=C"}},
        400,
    ),
    "form cut off in a file": ("POST", "/v1/score", {"content": form(FILE_PART)[:200], "headers": MULTIPART}, 400),
    "form without its end": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART, end=b""), "headers": MULTIPART},
        400,
    ),
    "form cut off between files": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART, FILE_PART)[: len(form(FILE_PART)) + 30], "headers": MULTIPART},
        400,
    ),
    "empty form": ("POST", "/v1/score", {"content": b"--B--\r\n", "headers": MULTIPART}, 400),
    "no form": ("POST", "/v1/score", {"content": b"", "headers": MULTIPART}, 400),
    "form of garbage": ("POST", "/v1/score", {"content": bytes(range(256)) * 9, "headers": MULTIPART}, 400),
    "part without headers": ("POST", "/v1/score", {"content": form(b"\r\nx"), "headers": MULTIPART}, 400),
    "part without a name": (
        "POST",
        "/v1/score",
        {"content": form(b"Content-Disposition: form-data\r\n\r\nx"), "headers": MULTIPART},
        400,
    ),
    "part with a bad header": (
        "POST",
        "/v1/score",
        {"content": form(b"\x00: \x01\r\n\r\nx"), "headers": MULTIPART},
        400,
    ),
    "field instead of a file": (
        "POST",
        "/v1/score",
        {"content": form(b'Content-Disposition: form-data; name="images"\r\n\r\nx'), "headers": MULTIPART},
        400,
    ),
    "a field beside a file": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART, b'Content-Disposition: form-data; name="a"\r\n\r\nx'), "headers": MULTIPART},
        400,
    ),
    "more files than a batch": ("POST", "/v1/score", {"content": form(*[FILE_PART] * 9), "headers": MULTIPART}, 400),
    "two files for a heatmap": ("POST", "/v1/heatmap", {"content": form(*[FILE_PART] * 2), "headers": MULTIPART}, 400),
    "file name in an odd encoding": (
        "POST",
        "/v1/score",
        {
            "content": form(FILE_PART.replace(b"a.png", b"xn--999999999")),
            "headers": {"Content-Type": "multipart/form-data; boundary=B; charset=idna"},
        },
        400,
    ),
    "another multipart": (
        "POST",
        "/v1/score",
        {"content": form(FILE_PART), "headers": {"Content-Type": "multipart/mixed; boundary=B"}},
        422,
    ),
    "unknown model": ("POST", "/v1/score?model=%00../x", {"content": GOOD_FILES["png"]}, 404),
    "empty model": ("POST", "/v1/score?model=", {"content": GOOD_FILES["png"]}, 404),
    "body too large": ("POST", "/v1/score", {"content": bytes(2_000_001)}, 413),
    "wrong method": ("GET", "/v1/score", {}, 405),
    "another wrong method": ("DELETE", "/v1/models", {}, 405),
    "slash at the end": ("POST", "/v1/score/", {"content": GOOD_FILES["png"]}, 404),
    "unknown path": ("GET", "/v2/score", {}, 404),
    "path out of the server": ("GET", "/..%2f..%2fetc/passwd", {}, 404),
    "documentation from elsewhere": ("GET", "/docs", {}, 404),
}


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    # Longer than the server waits for the rest of a request, which then hangs up.
    return socket.create_connection((host, int(port)), timeout=3 * protocol.DEADLINE_SECONDS)


def talk(address: str, *pieces: bytes, pause: float = 0.0) -> bytes:
    """The header of what comes back for raw bytes."""
    with connect(address) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        return header_from(connection)


def header_from(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received and (data := connection.recv(65536)):
        received += data
    return received


NO_HTTP = {
    "garbage": b"\x00\xff\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "space in a header": b"GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n",
    "nul in a header": b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "umlaut in the path": "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"),
    "negative length": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "length in words": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
    "endless length": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "two lengths": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "bad chunk": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "unknown encoding": b"POST /v1/score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000,
}
