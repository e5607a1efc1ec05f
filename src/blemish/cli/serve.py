"""`blemish serve`."""

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.common import FILE, emit, json_option, model_rate_option, threads_option
from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.process.threads import cores, for_each_image

if TYPE_CHECKING:
    from blemish.serving.service import Service

KEY_VARIABLE = "BLEMISH_API_KEY"
KEY = re.compile(r"[!-~]{16,}")  # what a header can carry, long enough not to be guessed


@click.command("serve")
@click.argument("models", type=FILE, nargs=-1, required=True, metavar="MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Images scored at one time (default: all cores).")
@threads_option
@click.option(
    "--queue",
    type=click.IntRange(1),
    metavar="N",
    default=128,
    show_default=True,
    help="Images accepted and not yet scored; beyond it requests get 429.",
)
@click.option(
    "--max-megabytes",
    type=click.IntRange(1),
    metavar="N",
    default=32,
    show_default=True,
    help="Size of the largest request.",
)
@click.option(
    "--max-megapixels",
    type=click.IntRange(1),
    metavar="N",
    default=50,
    show_default=True,
    help="Size of the largest image.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=30,
    show_default=True,
    help="Time for a request to arrive, and again for its answer.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which clients call this server, such as a proxy's; may be repeated, * allows any.",
)
@click.option("--api-key-file", type=FILE, help=f"File with the key that clients must send; or set {KEY_VARIABLE}.")
@model_rate_option
@json_option
def command(  # noqa: PLR0913  (an option of the command line each)
    models: tuple[Path, ...],
    host: str,
    port: int,
    workers: int | None,
    queue: int,
    max_megabytes: int,
    max_megapixels: int,
    timeout: float,
    allowed_hosts: tuple[str, ...],
    api_key_file: Path | None,
    false_alarm_rate: float | None,
    as_json: bool,
) -> None:
    """Score images over HTTP, with a page to drop them on. The name of a MODEL is its file name without .onnx.

    \b
    Example:
      blemish serve screws.onnx
      curl --data-binary @part.png localhost:8000/v1/score
    """
    _require_packages()
    from blemish.serving.hosts import hosts_for
    from blemish.serving.limits import MEGABYTE, Limits
    from blemish.serving.logs import log_own_failures_only
    from blemish.serving.server import listen, url
    from blemish.serving.service import Service

    key = read_api_key(api_key_file, os.environ)
    limits = Limits(
        request_bytes=max_megabytes * MEGABYTE,
        memory_bytes=max(Limits.memory_bytes, max_megabytes * MEGABYTE),
        pixels=max_megapixels * 1_000_000,
        batch=min(Limits.batch, queue),
        queue=queue,
        receive_seconds=timeout,
        answer_seconds=timeout,
    )
    at_a_time = workers or cores()
    threads = for_each_image(at_a_time)
    detectors = [Detector.load(model, false_alarm_rate=false_alarm_rate, threads=threads) for model in models]
    service = Service(detectors, limits=limits, workers=at_a_time, api_key=key)
    service.warm_up()
    log_own_failures_only()
    with listen(host, port) as listener:
        bound = listener.getsockname()[0]
        service.hosts = hosts_for(host, bound, allowed=allowed_hosts, has_key=key is not None)
        if key is None and not ipaddress.ip_address(bound).is_loopback:
            click.echo(f"anybody who reaches {host} can use this server: set {KEY_VARIABLE} to ask for a key", err=True)
        address = url(listener)
        emit({"url": address, "models": list(service.models)}, _as_text(address, service.models), as_json=as_json)
        _run(service, listener)


def _require_packages() -> None:
    """Raises BlemishError where the extra "serve" is not installed."""
    try:
        import blemish.serving.server  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("blemish"):
            raise
        raise BlemishError(
            f'the server needs more packages, {error.name} for one: pip install "blemish[serve]"'
        ) from error


def _run(service: "Service", listener: socket.socket) -> None:
    """Serves until a signal ends the server."""
    from blemish.serving.server import INTERRUPTED, Server

    try:
        Server(service).run(sockets=[listener])
    except KeyboardInterrupt:
        if service.workers.busy:  # at its end Python would wait for threads that cannot be stopped
            click.echo("blemish: interrupted", err=True)
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise


def read_api_key(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The key, from a file or the environment and not from the command line, which every user of the machine sees.

    Raises BlemishError for a file that cannot be read and for a key that is short or that no header can carry.
    """
    source, text = KEY_VARIABLE, environment.get(KEY_VARIABLE)
    if file is not None:
        source = printable(file)
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise BlemishError(f"{source}: {read_fault(error)}") from error
    if text is None:
        return None
    if not KEY.fullmatch(text.strip()):
        raise BlemishError(
            f"the API key in {source} must be 16 or more letters, digits and signs without spaces: "
            "make one with openssl rand -hex 32"
        )
    return text.strip()


def _as_text(address: str, models: Iterable[str]) -> str:
    return f"{', '.join(models)} on {address}  (page at /, schema at /openapi.json, metrics at /metrics)"
