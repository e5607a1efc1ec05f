"""Processes that decode images for the server; one that takes too long is ended and replaced."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from queue import Empty, LifoQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.reading import Reading
from blemish.serving.decoding import read_message, write_message
from blemish.serving.errors import RequestError
from blemish.serving.limits import Limits
from blemish.serving.stopping import Stop, StoppedError
from blemish.serving.uploads import Upload

MARGIN_SECONDS = 5.0  # so long after the time for an answer, a process ends itself
_START = "from blemish.serving.decoding import main; main()"
# Each process decodes one image on one core.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Decoded:
    """An image as the network takes it.

    Attributes:
        pixels: uint8 (H, W, 3) at network size.
        size: the image's own (height, width).
        remarks: what was lost in reading the image, one sentence each.
        picture: uint8 (H, W, 3) of the image itself, at most 2,048 on the longer side; None unless asked for.
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    remarks: tuple[str, ...]
    picture: npt.NDArray[np.uint8] | None


class Decoders:
    """A pool of decoding processes; each starts with its first image, or with `start`.

    Args:
        count: number of processes.
        limits: size of an image, and seconds for an answer.
        on_death: called when a process ended while it decoded an image, by itself or by `kill`.
    """

    def __init__(self, count: int, limits: Limits, *, on_death: Callable[[], None]) -> None:
        self._all = [_Decoder(limits, on_death) for _ in range(count)]
        self._idle: LifoQueue[_Decoder] = LifoQueue()
        for decoder in self._all:
            self._idle.put(decoder)

    def start(self) -> None:
        """Starts all processes. Raises BlemishError where one does not start."""
        for decoder in self._all:
            decoder.launch()
        for decoder in self._all:
            decoder.await_ready()

    def read(self, upload: Upload, *, size: tuple[int, int], reading: Reading, picture: bool, stop: Stop) -> Decoded:
        """Decodes one file for a network of `size`; `picture` also returns the image itself, to draw on.

        Raises ImageError for a file that cannot be read, StoppedError, and RequestError where no process can be
        started.
        """
        with self._borrowed() as decoder:
            return decoder.read(upload, {"size": size, "reading": asdict(reading), "picture": picture}, stop)

    def kill(self) -> None:
        """Ends all processes at once."""
        for decoder in self._all:
            decoder.kill()

    def close(self) -> None:
        """Ends all processes for good and frees the resources of those that are idle."""
        for decoder in self._all:
            decoder.replaced = False
        self.kill()
        with suppress(Empty):
            while True:
                self._idle.get_nowait().release()

    @contextmanager
    def _borrowed(self) -> "Iterator[_Decoder]":
        decoder = self._idle.get()
        try:
            yield decoder
        finally:
            self._idle.put(decoder)


class _Decoder:
    """One process, for one caller at a time; a dead one is replaced at once, or at the latest for the next image."""

    replaced = True

    def __init__(self, limits: Limits, on_death: Callable[[], None]) -> None:
        self._limits = limits
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def read(self, upload: Upload, options: dict[str, Any], stop: Stop) -> Decoded:
        order = {
            "name": upload.name,
            "most_pixels": self._limits.pixels,
            "seconds": self._limits.answer_seconds + MARGIN_SECONDS,
            **options,
        }
        try:
            with stop.by(self.kill):
                self._prepare()
            with stop.by(self.kill):  # again: ends a process that was still starting when the stop was asked for
                head, body = self._exchange(order, upload.content)
        except StoppedError:
            self._died()
            raise
        except (EOFError, OSError) as error:
            self._died()
            raise ImageError(f"{upload.name}: it ended the process that decodes; save it in another format") from error
        if "failure" in head:
            raise RuntimeError(f"the decoding process failed on {upload.name}\n{head['failure']}")
        if "fault" in head:
            raise ImageError(head["fault"])
        height, width = head["size"]
        pixels, *others = _arrays(head["shapes"], body)
        return Decoded(pixels, (height, width), tuple(head["remarks"]), others[0] if others else None)

    def launch(self) -> None:
        """Starts the process without waiting for it, unless one is there. Raises BlemishError."""
        if self._process is not None and self._process.poll() is None:
            return
        self.release()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # warnings of libraries about odd files do not belong in the server's log
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C must not reach it: the server still has to answer
            )
        except OSError as error:
            raise BlemishError(f"cannot start a process that decodes images: {error.strerror}") from error

    def await_ready(self) -> None:
        """Waits until the process is ready. Raises BlemishError where it ended instead."""
        if self._ready:
            return
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            read_message(self._process.stdout)
        except EOFError as error:
            status = self._process.wait()
            raise BlemishError(f"a process that decodes images ended at once with status {status}") from error
        self._ready = True

    def kill(self) -> None:
        """Ends the process if there is one; a caller that waits for its answer gets an EOFError."""
        if self._process is not None:
            self._process.kill()

    def _prepare(self) -> None:
        try:
            self.launch()
            self.await_ready()
        except BlemishError as error:
            raise RequestError(503, f"{error}; send the request again", headers={"Retry-After": "1"}) from error

    def _exchange(self, order: dict[str, Any], content: bytes) -> tuple[dict[str, Any], memoryview]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        write_message(process.stdin, order, content)
        return read_message(process.stdout)

    def _died(self) -> None:
        self.kill()
        self.release()
        self._on_death()
        if self.replaced:
            with suppress(BlemishError):  # the next image reports it, if the fault persists
                self.launch()

    def release(self) -> None:
        """Frees the process number and the pipes of a dead process."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # the process has not read all bytes
                if pipe is not None:
                    pipe.close()


def _arrays(shapes: list[list[int]], body: memoryview) -> list[npt.NDArray[np.uint8]]:
    flat, arrays, start = np.frombuffer(body, np.uint8), [], 0
    for shape in shapes:
        length = int(np.prod(shape))
        arrays.append(flat[start : start + length].reshape(shape))
        start += length
    return arrays
