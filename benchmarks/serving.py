"""Latency and throughput of `blemish serve` on loopback with 1, 8 and 64 clients, as a Markdown table.

python benchmarks/serving.py MODEL.onnx IMAGE... [--seconds 10] [--workers N]

The clients run on the same machine and take their part of its cores.
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

CLIENTS = (1, 8, 64)


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = tuple[int, Mapping[str, str], bytes]  # status, headers, body


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, listening, and host:port of it."""
    command = [sys.executable, "-m", "blemish", "serve", *map(str, arguments), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            for line in process.stdout:
                text += line
                if line == "}\n":
                    break
            else:
                raise RuntimeError("the server did not start; its reason is above")
            yield process, json.loads(text)["url"].removeprefix("http://")
        finally:
            process.terminate()


def post(connection: http.client.HTTPConnection, request: Request) -> Answer:
    connection.request("POST", request.path, request.body, dict(request.headers))
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def drive(
    address: str,
    requests: Sequence[Request],
    *,
    clients: int,
    enough: Callable[[int], bool],
    check: Callable[[Request, Answer], Any],
) -> list[float]:
    """Seconds of every request, sent in turn by so many clients, each over one connection, until there are enough."""
    numbers, seconds, faults = count(), [], []

    def client() -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            while not faults and not enough(number := next(numbers)):
                request = requests[number % len(requests)]
                started = time.perf_counter()
                answer = post(connection, request)
                seconds.append(time.perf_counter() - started)
                check(request, answer)
        except Exception as fault:  # raised again below, where it is seen
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return seconds


def expect_200(request: Request, answer: Answer) -> None:
    if answer[0] != 200:
        raise RuntimeError(f"{answer[0]}: {answer[2][:200]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    bodies = [image.read_bytes() for image in options.images]
    workers = ["--workers", options.workers] if options.workers else []
    print("| endpoint | clients | requests | p50 | p99 | images/s |\n|---|---|---|---|---|---|")
    with serving(options.model, "--port", 0, *workers) as (_, address):
        for path in ("/v1/score", "/v1/heatmap"):
            requests = [Request(path, body) for body in bodies]
            for clients in CLIENTS:
                started = time.perf_counter()
                end = started + options.seconds
                seconds = drive(
                    address,
                    requests,
                    clients=clients,
                    enough=lambda _, end=end: time.perf_counter() > end,
                    check=expect_200,
                )
                rate = len(seconds) / (time.perf_counter() - started)
                p50, p99 = 1000 * np.percentile(seconds, (50, 99))
                print(f"| {path} | {clients} | {len(seconds):,} | {p50:,.0f} ms | {p99:,.0f} ms | {rate:.1f} |")


if __name__ == "__main__":
    main()
