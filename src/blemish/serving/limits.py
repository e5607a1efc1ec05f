"""The limits of the server: sizes, counts and seconds."""

from dataclasses import dataclass, fields

from blemish.errors import BlemishError
from blemish.imaging.limits import MAX_PIXELS

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds on everything that a client can use.

    Attributes:
        request_bytes: the largest body of one request.
        memory_bytes: all request bodies held at one time.
        pixels: the largest image, height x width.
        batch: the most images in one request.
        queue: the most images accepted and not yet scored.
        receive_seconds: time for a client to send its body.
        answer_seconds: time for an accepted request to be answered.
        connections: the most open connections.

    Raises:
        BlemishError: a bound that is not positive, or two that contradict each other.
    """

    request_bytes: int = 32 * MEGABYTE
    memory_bytes: int = 512 * MEGABYTE
    pixels: int = 50_000_000
    batch: int = 64
    queue: int = 128
    receive_seconds: float = 30
    answer_seconds: float = 30
    connections: int = 512

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise BlemishError(f"the limit {field.name} must be positive, not {getattr(self, field.name)}")
        if self.batch > self.queue:
            raise BlemishError(
                f"a batch of {self.batch} images never fits a queue of {self.queue}: make the queue longer"
            )
        if self.request_bytes > self.memory_bytes:
            raise BlemishError(
                f"a request of {self.request_bytes:,} bytes never fits memory for {self.memory_bytes:,}: "
                "make the memory larger"
            )
        if self.pixels > MAX_PIXELS:
            raise BlemishError(f"images above {MAX_PIXELS:,} pixels are never read: set the limit no higher")
