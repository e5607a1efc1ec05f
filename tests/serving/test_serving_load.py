"""Under mixed load every answer is the offline one, and a restart in the middle of it drops nothing."""

import http.client
import io
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.model.detector import Detector
from helpers.images import noise, stained
from helpers.scripts import load_script

pytest.importorskip("fastapi", reason='the server is not installed: pip install "blemish[serve]"')

pytestmark = pytest.mark.slow

# A line that scores an image a second makes 1,800 requests in 30 minutes; here 2,100 come as fast as they are answered.
REQUESTS = {1: 300, 8: 600, 64: 1200}
SCORE, HEATMAP = "/v1/score", "/v1/heatmap"


serving = load_script("serving")


class Truth:
    """Images, the requests made of them, and what the detector says offline."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.files: list[bytes] = []
        self.offline: list[dict[str, Any]] = []
        self.pictures: list[np.ndarray] = []
        detector = Detector.load(model, threads=1)
        for number in range(24):
            make, size = (stained if number % 3 == 0 else noise), (40 + 7 * number, 200 - 5 * number)
            path = folder / f"{number}.{'jpg' if number % 2 else 'png'}"
            Image.fromarray(make(number, size=size)).save(path)
            (scored,) = detector.predict_iter([path])
            self.files.append(path.read_bytes())
            self.offline.append({"score": scored.score, "p_value": scored.p_value, "verdict": scored.verdict})
            self.pictures.append(np.asarray(detector.explain(path, scored)))
        self.requests: list[Any] = []
        self.checks: dict[Any, Callable[[Any], None]] = {}
        for number in range(len(self.files)):
            self.add_single(number)
            if number % 4 == 0:
                self.add_heatmap(number)
            if number % 6 == 0:
                self.add_batch([number, number + 1, number + 2])
            if number % 8 == 0:
                self.add_bad(self.files[number][: 100 + number])

    def check(self, request: Any, answer: Any) -> None:
        self.checks[id(request)](answer)

    def add(self, request: Any, check: Callable[[Any], None]) -> None:
        self.requests.append(request)
        self.checks[id(request)] = check

    def add_single(self, number: int) -> None:
        def check(answer: Any) -> None:
            assert answer[0] == 200
            assert self.offline[number].items() <= json.loads(answer[2]).items()

        self.add(serving.Request(SCORE, self.files[number]), check)

    def add_heatmap(self, number: int) -> None:
        def check(answer: Any) -> None:
            assert answer[0] == 200
            assert float(answer[1]["blemish-score"]) == self.offline[number]["score"]
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer[2]))), self.pictures[number])

        self.add(serving.Request(HEATMAP, self.files[number]), check)

    def add_batch(self, numbers: list[int]) -> None:
        def check(answer: Any) -> None:
            assert answer[0] == 200
            *images, bad = json.loads(answer[2])["images"]
            assert bad.keys() == {"name", "error"}
            for number, image in zip(numbers, images, strict=True):
                assert self.offline[number].items() <= image.items()
                assert image["name"] == str(number)

        body = b""
        for name, content in [*((str(number), self.files[number]) for number in numbers), ("bad", b"?")]:
            head = f'--B\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
            body += head.encode() + content + b"\r\n"
        self.add(
            serving.Request(SCORE, body + b"--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}), check
        )

    def add_bad(self, content: bytes) -> None:
        def check(answer: Any) -> None:
            assert answer[0] == 422

        self.add(serving.Request(SCORE, content), check)


@pytest.fixture(scope="module")
def truth(tiny_model, tmp_path_factory) -> Truth:
    return Truth(tiny_model, tmp_path_factory.mktemp("images"))


def test_every_answer_under_mixed_load_is_the_offline_one(tiny_model, truth, capsys):
    with serving.serving(tiny_model, "--port", 0, "--queue", 512) as (process, address):
        for clients, requests in REQUESTS.items():
            seconds = serving.drive(
                address,
                truth.requests,
                clients=clients,
                enough=lambda number, requests=requests: number >= requests,
                check=truth.check,
            )
            assert len(seconds) == requests
            p50, p99 = 1000 * np.percentile(seconds, (50, 99))
            with capsys.disabled():
                print(f"\n{clients} clients, {requests} requests: p50 {p50:.0f} ms, p99 {p99:.0f} ms", end="")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM  # by the signal it was sent, after an orderly end


class Patient:
    """A client that stops where a server says that it goes, and waits for the next one to be ready."""

    def __init__(self, port: int, truth: Truth) -> None:
        self.address = f"127.0.0.1:{port}"
        self.truth = truth
        self.counts: Counter[str] = Counter()

    def run(self, stop: threading.Event, first: int) -> None:
        number = first
        self.await_ready()
        connection = http.client.HTTPConnection(self.address, timeout=60)
        while not stop.is_set():
            request = self.truth.requests[number % len(self.truth.requests)]
            try:
                answer = serving.post(connection, request)
            except (OSError, http.client.HTTPException):
                self.counts["dropped"] += 1
                connection.close()
                self.await_ready()
                continue
            if answer[0] == 503:
                self.counts["refused"] += 1
            else:
                self.truth.check(request, answer)
                self.counts["answered"] += 1
                number += 1
            if answer[1].get("connection") == "close":
                self.counts["told"] += 1
                connection.close()
                self.await_ready()
        connection.close()

    def await_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self.address, timeout=10)
            try:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass  # between two servers
            finally:
                connection.close()
            time.sleep(0.05)
        raise TimeoutError("no server was ready within a minute")


def test_restarts_under_load_drop_nothing_that_was_accepted(tiny_model, truth):
    stop, faults = threading.Event(), []

    def client(patient: Patient, first: int) -> None:
        try:
            patient.run(stop, first)
        except Exception as fault:
            faults.append(fault)

    with serving.serving(tiny_model, "--port", 0) as (process, address):
        port = int(address.rpartition(":")[2])
        patients = [Patient(port, truth) for _ in range(8)]
        threads = [threading.Thread(target=client, args=(one, 5 * i)) for i, one in enumerate(patients)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    before = sum(one.counts["answered"] for one in patients)
    with serving.serving(tiny_model, "--port", port) as (process, _):
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert sum(one.counts["answered"] for one in patients) > before
    with serving.serving(tiny_model, "--port", port):
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join(70)
    total = sum((one.counts for one in patients), Counter())
    assert not faults
    assert total["dropped"] == 0
    assert total["answered"] > 0
    assert total["told"] > 0  # the server said so itself, with an answer or a refusal; it did not just hang up
