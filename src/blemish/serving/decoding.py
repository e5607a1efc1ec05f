"""The process that decodes images. It can be ended at any time, and its crashes and prints do not reach the server.

It imports only what reading images needs. Orders come on its standard input and answers leave on its standard output,
each a JSON object and bytes, so that nothing in them is run as code.
"""

import json
import os
import signal
import struct
import sys
import traceback
from typing import IO, Any

import numpy as np
from PIL import Image

from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_content
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import to_network_size

PICTURE_SIDE = 2048  # pixels; a larger heatmap takes seconds to compress

_LENGTHS = struct.Struct(">IQ")
_BYTES_PER_PIXEL = 40  # of an image in 16 bit with transparency, with all intermediate copies
_BYTES_BESIDE = 512_000_000


def write_message(file: IO[bytes], head: dict[str, Any], *blobs: bytes | memoryview) -> None:
    """Writes one message: the lengths, its head as JSON, then the blobs."""
    text = json.dumps(head).encode()
    file.write(_LENGTHS.pack(len(text), sum(len(blob) for blob in blobs)))
    for part in (text, *blobs):
        file.write(part)
    file.flush()


def read_message(file: IO[bytes]) -> tuple[dict[str, Any], memoryview]:
    """The next message. Raises EOFError where the other side is gone."""
    head, body = _LENGTHS.unpack(_exactly(file, _LENGTHS.size))
    return json.loads(_exactly(file, head)), memoryview(_exactly(file, body))


def decode(order: dict[str, Any], content: bytes | memoryview) -> tuple[dict[str, Any], list[memoryview]]:
    """Reads one image.

    Args:
        order: "name" of the file, "most_pixels" of an image, "size" (height, width) of the network, "reading", the
            fields of the model's `Reading`, and "picture", whether the image itself is wanted as well.
        content: the file.

    Returns:
        The answer's head, and pixels uint8 (H, W, 3) at network size, followed by those of the picture, at most
        2,048 on the longer side. The head has "size" (height, width) of the image, "remarks" on it and the "shapes" of
        both, or the "fault" of an image that cannot be read.
    """
    try:
        read = read_content(content, order["name"], Reading(**order["reading"]), most_pixels=order["most_pixels"])
        height, width = order["size"]
        arrays = [to_network_size(read.image, (height, width))]
        if order["picture"]:
            arrays.append(np.asarray(_shrunk(read.image.convert("RGB"))))
    except ImageError as error:
        return {"fault": str(error)}, []
    head = {"size": read.size, "remarks": read.remarks, "shapes": [array.shape for array in arrays]}
    return head, [np.ascontiguousarray(array).data.cast("B") for array in arrays]


def main() -> None:
    """Answers orders until the server closes the pipe."""
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints goes to stderr, not between the answers
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they are meant for the server, which still has to answer
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        write_message(answers, {"ready": True})
        while True:
            order, content = read_message(orders)
            _bound(order)
            write_message(answers, *_answer(order, content))
            _alarm(0)
    except (EOFError, BrokenPipeError):
        os._exit(0)


def _answer(order: dict[str, Any], content: memoryview) -> tuple[Any, ...]:
    try:
        head, blobs = decode(order, content)
    except Exception:  # a bug of ours, which the server logs
        return ({"failure": traceback.format_exc()},)
    return (head, *blobs)


def _bound(order: dict[str, Any]) -> None:
    """Sets limits for one image: memory, and time after which the system ends this process."""
    _alarm(order["seconds"])
    try:
        import resource

        with open("/proc/self/statm", "rb") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        allowed = now + _BYTES_BESIDE + _BYTES_PER_PIXEL * order["most_pixels"]
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard == resource.RLIM_INFINITY or allowed < hard:
            resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    except (ImportError, OSError, ValueError):
        pass  # not Linux: only the server ends this process


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _exactly(file: IO[bytes], count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _shrunk(image: Image.Image) -> Image.Image:
    shrink = PICTURE_SIDE / max(image.size)
    if shrink >= 1:
        return image
    width, height = (max(1, round(side * shrink)) for side in image.size)
    return image.resize((width, height))
