"""What the tests of the server share; without the extra "serve" their modules are skipped before these are used."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blemish.model.detector import Detector


@pytest.fixture(scope="module", autouse=True)
def brief_goodbyes() -> Iterator[None]:
    from blemish.serving import server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "MIN_DRAIN_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def detector(tiny_model) -> Detector:
    return Detector.load(tiny_model, threads=1)


@pytest.fixture(scope="module")
def address(detector) -> Iterator[str]:
    from blemish.serving.limits import Limits
    from blemish.serving.service import Service
    from helpers.servers import running

    limits = Limits(request_bytes=2_000_000, memory_bytes=4_000_000, pixels=1_000_000, batch=8, queue=16)
    with running(Service([detector], limits=limits, workers=2)) as found:
        yield found


@pytest.fixture
def gated(tiny_model) -> Iterator[Any]:
    from helpers.servers import Gated

    detector = Gated.load(tiny_model, threads=1)
    assert isinstance(detector, Gated)
    detector.gate = threading.Event()
    yield detector
    detector.gate.set()
