"""No image, graph, web page or connection takes the server away from its other clients, or keeps it from ending."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError

httpx = pytest.importorskip("httpx", reason='the server is not installed: pip install "blemish[serve]"')
pytest.importorskip("fastapi", reason='the server is not installed: pip install "blemish[serve]"')

import onnxruntime  # noqa: E402

from blemish.imaging.reading import Reading  # noqa: E402
from blemish.model import backends as runtimes  # noqa: E402
from blemish.serving import decoders, protocol, service, workers  # noqa: E402
from blemish.serving.errors import RequestError  # noqa: E402
from blemish.serving.hosts import Hosts, hosts_for  # noqa: E402
from blemish.serving.limits import Limits  # noqa: E402
from blemish.serving.service import Service  # noqa: E402
from blemish.serving.stopping import Stop, StoppedError  # noqa: E402
from helpers.images import noise  # noqa: E402
from helpers.servers import (  # noqa: E402
    BAD_FILES,
    BAD_REQUESTS,
    GOOD_FILES,
    NO_HTTP,
    client,
    connect,
    eventually,
    header_from,
    running,
    talk,
)

LIMIT = 3  # seconds until an answer: on a busy machine, too, a new decoder starts and reads an image in them
SLOW, CRASH, CHATTY, BUG = b"slow", b"crash", b"chatty", b"bug"
# What a decoder does that a file attacks, by the file's first letters; in the process that decodes and nowhere else.
ATTACKED = f"""
import os, time
from blemish.serving import decoding

decode = decoding.decode

def attacked(order, content):
    content = bytes(content)
    if content.startswith({SLOW!r}):
        time.sleep(600)
    if content.startswith({CRASH!r}):
        os.abort()
    if content.startswith({BUG!r}):
        raise KeyError("a bug")
    if content.startswith({CHATTY!r}):
        os.write(1, b"libsomething: out"), os.write(2, b"libsomething: err"), print("more", flush=True)
        content = content[len({CHATTY!r}):]
    return decode(order, content)

decoding.decode = attacked
decoding.main()
"""


@pytest.fixture
def attacked(monkeypatch) -> None:
    monkeypatch.setattr(decoders, "_START", ATTACKED)


def metric(address: str, name: str) -> float:
    text = client.get(f"{address}/metrics").text
    (value,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(value)


# --- work that takes too long -------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["score", pytest.param("heatmap", marks=pytest.mark.slow)])
def test_an_image_that_is_slow_to_decode_takes_no_worker(attacked, detector, endpoint):
    with running(Service([detector], limits=Limits(answer_seconds=LIMIT))) as address:
        for number in (1, 2):
            slow = client.post(f"{address}/v1/{endpoint}", content=SLOW)
            assert slow.status_code == 503
            assert slow.json()["error"].startswith(f"no answer within {LIMIT} seconds")
            assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200
            assert client.get(f"{address}/readyz").status_code == 200
            assert metric(address, "blemish_stopped_images_total") == number
            assert metric(address, "blemish_decoder_deaths_total") == number
        assert metric(address, "blemish_stuck_workers") == 0
        assert metric(address, "blemish_workers") == 1


@pytest.mark.slow
def test_slow_images_at_all_workers_at_once_take_none(attacked, detector):
    limits = Limits(answer_seconds=LIMIT)
    with running(Service([detector], limits=limits, workers=3)) as address, ThreadPoolExecutor(9) as clients:
        slow = [clients.submit(client.post, f"{address}/v1/score", content=SLOW) for _ in range(9)]
        assert [future.result().status_code for future in slow] == [503] * 9
        good = [clients.submit(client.post, f"{address}/v1/score", content=GOOD_FILES["png"]) for _ in range(9)]
        assert [future.result().status_code for future in good] == [200] * 9


def test_a_slow_image_whose_client_leaves_is_ended(attacked, detector):
    service = Service([detector])
    with running(service) as address:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{address}/v1/score", content=SLOW, timeout=0.5)
        eventually(lambda: service.workers.unfinished == 0)
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200


def test_a_decoder_ends_itself_where_the_server_cannot(attacked, detector, monkeypatch):
    monkeypatch.setattr(decoders, "MARGIN_SECONDS", 0.1)
    ended: list[None] = []
    pool = decoders.Decoders(1, Limits(answer_seconds=0.5), on_death=lambda: ended.append(None))
    with pytest.raises(BlemishError, match=r"x\.png: it ended the process"):
        pool.read(decoders.Upload("x.png", SLOW), size=(8, 8), reading=Reading(), picture=False, stop=Stop())
    assert len(ended) == 1
    pool.close()


def test_an_image_that_ends_the_decoder_is_one_bad_image(attacked, detector):
    with running(Service([detector])) as address:
        alone = client.post(f"{address}/v1/score", content=CRASH)
        assert alone.status_code == 422
        assert alone.json()["error"] == "image: it ended the process that decodes; save it in another format"
        files = [("i", ("a.png", GOOD_FILES["png"])), ("i", ("b.png", CRASH)), ("i", ("c.png", GOOD_FILES["png"]))]
        first, bad, last = client.post(f"{address}/v1/score", files=files).json()["images"]
        assert bad["error"].startswith("b.png: it ended")
        assert first["score"] == last["score"]
        assert metric(address, "blemish_decoder_deaths_total") == 2
        assert metric(address, "blemish_stopped_images_total") == 0


def test_what_a_decoder_prints_gets_nowhere(attacked, detector, capfd):
    with running(Service([detector])) as address:
        chatty = client.post(f"{address}/v1/score", content=CHATTY + GOOD_FILES["png"])
        assert chatty.json() == client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).json()
    assert capfd.readouterr() == ("", "")


def test_a_bug_in_the_decoder_is_in_the_log_and_not_the_image_s_fault(attacked, detector, caplog):
    with running(Service([detector])) as address:
        assert client.post(f"{address}/v1/score", content=BUG).status_code == 500
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200
    assert "KeyError: 'a bug'" in caplog.text


def test_decoders_that_cannot_start_are_503_and_come_back(detector, monkeypatch):
    one = Service([detector])
    with running(one) as address:
        with monkeypatch.context() as patch:
            patch.setattr(decoders, "_START", "raise SystemExit(7)")
            (decoder,) = one.decoders._all
            decoder._process.kill()  # by the system, say, which needs memory
            decoder._process.wait()
            answer = client.post(f"{address}/v1/score", content=GOOD_FILES["png"])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "status 7" in answer.json()["error"]
            patch.setattr(sys, "executable", "/no/such/python")
            assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 503
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200


def test_decoders_end_with_the_server(detector):
    service = Service([detector], workers=2)
    service.warm_up()
    processes = [one._process for one in service.decoders._all]
    assert all(process is not None and process.poll() is None for process in processes)
    service.close()
    assert [process.returncode for process in processes if process] == [-signal.SIGKILL] * 2
    # And where it was killed itself: they see the end of their pipe.
    alone = subprocess.run([sys.executable, "-P", "-c", decoders._START], input=b"", capture_output=True, check=False)
    assert (alone.returncode, alone.stderr) == (0, b"")


def endless_graph() -> onnxruntime.InferenceSession:
    """A graph with a detector's input and outputs whose loop never ends."""
    onnx = pytest.importorskip("onnx")
    of = onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["on"], ["still"]), onnx.helper.make_node("Neg", ["x"], ["y"])],
        "body",
        [of("step", kinds.INT64, []), of("on", kinds.BOOL, []), of("x", kinds.FLOAT, [1])],
        [of("still", kinds.BOOL, []), of("y", kinds.FLOAT, [1])],
    )
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["pixels"], ["as_float"], to=kinds.FLOAT),
            onnx.helper.make_node("ReduceSum", ["as_float"], ["sum"], keepdims=0),
            onnx.helper.make_node("Reshape", ["sum", "one"], ["start"]),
            onnx.helper.make_node("Loop", ["", "true", "start"], ["anomaly_map"], body=body),
            onnx.helper.make_node("Identity", ["anomaly_map"], ["score"]),
            onnx.helper.make_node("Identity", ["anomaly_map"], ["p_value"]),
        ],
        "endless",
        [of("pixels", kinds.UINT8, [None, None, None, 3])],
        [of(name, kinds.FLOAT, [1]) for name in ("anomaly_map", "score", "p_value")],
        [
            onnx.helper.make_tensor("true", kinds.BOOL, [], [True]),
            onnx.helper.make_tensor("one", kinds.INT64, [1], [1]),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture
def endless(tiny_model) -> Any:
    """A detector whose graph never comes to an end."""
    whole = service.Detector.load(tiny_model, threads=1)
    graph = runtimes._OnnxRuntime(endless_graph())
    return service.Detector(graph, whole.metadata, name="endless.onnx", fingerprint=whole.fingerprint)


def test_a_graph_without_end_is_ended(endless, capfd):
    with running(Service([endless], limits=Limits(answer_seconds=0.5))) as address:
        for _ in range(2):
            assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 503
        eventually(lambda: metric(address, "blemish_queue_images") == 0)
        assert metric(address, "blemish_decoder_deaths_total") == 0
    assert capfd.readouterr().err == ""


def test_a_graph_without_end_is_found_when_the_server_starts(endless, monkeypatch):
    monkeypatch.setattr(service, "FIRST_RUN_SECONDS", 0.2)
    one = Service([endless])
    with pytest.raises(BlemishError, match="endless: no answer to a first image"):
        one.warm_up()
    assert all(decoder._process is None for decoder in one.decoders._all)


def test_with_every_worker_stuck_no_work_may_be_sent(gated, monkeypatch):
    monkeypatch.setattr(workers, "STUCK_SECONDS", 0.1)
    one = Service([gated], limits=Limits(answer_seconds=0.2), workers=2)
    with running(one) as address:

        def ready() -> int:
            return client.get(f"{address}/readyz").status_code

        def post() -> int:
            return client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code

        assert post() == 503
        eventually(lambda: metric(address, "blemish_stuck_workers") == 1)
        assert ready() == 200  # the other can take an image
        assert post() == 503
        eventually(lambda: ready() == 503)
        assert client.get(f"{address}/healthz").status_code == 200
        assert metric(address, "blemish_stuck_workers") == 2
        assert post() == 503  # in time, though nobody is there to do it
        gated.gate.set()
        eventually(lambda: ready() == 200)
        eventually(lambda: post() == 200)


def test_a_server_with_stuck_workers_comes_to_its_end(gated):
    with running(Service([gated], limits=Limits(answer_seconds=0.2))) as address:
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 503
        assert not gated.gate.is_set()  # `running` fails where the server does not end


def test_a_stop_asked_for_early_lets_nothing_begin():
    stop = Stop()
    stop.ask()
    with pytest.raises(StoppedError), stop.by(lambda: pytest.fail("nothing was at work")):
        pytest.fail("begun")


# --- signals ------------------------------------------------------------------------------------------------------

# A server with one worker, whose graph never returns and cannot be ended.
STUCK = """
import sys, threading
from blemish.model.detector import Detector
from blemish.serving import service
service._first_run = None
service.Service.warm_up = lambda self: self.decoders.start()
Detector.predict_iter = lambda self, *rest, **options: threading.Event().wait()
from blemish.cli import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def process_of(*arguments: object, code: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its address."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "blemish"]), "serve", *map(str, arguments)]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, process.stderr and process.stderr.read()
            yield process, found[0]
        finally:
            process.kill()


def children_of(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True)
    return [int(word) for word in listed.stdout.split()]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (signal.SIGTERM, None, -signal.SIGTERM),
        pytest.param(signal.SIGINT, None, 130, marks=pytest.mark.slow),
        (signal.SIGINT, signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_signals_end_a_server_whose_workers_are_stuck(tiny_model, first, second, status):
    """The second at once: the request in hand has a minute, and the process does not take it."""
    seconds = 60 if second else 0.5
    with process_of(tiny_model, "--workers", 1, "--timeout", seconds, code=STUCK) as (process, address):
        with ThreadPoolExecutor(1) as clients:
            answer = clients.submit(client.post, f"{address}/v1/score", content=GOOD_FILES["png"])
            eventually(lambda: metric(address, "blemish_queue_images") == 1)
            decoding = children_of(process)
            process.send_signal(first)
            if second:
                eventually(lambda: client.get(f"{address}/readyz").status_code == 503)
                process.send_signal(second)
            assert process.wait(20) == status
            if second:
                with pytest.raises(httpx.HTTPError):
                    answer.result()
            else:
                assert answer.result().status_code == 503
        assert process.stderr is not None
        assert process.stderr.read().strip() == ("blemish: interrupted" if status == 130 else "")
    assert decoding
    eventually(lambda: not any(Path(f"/proc/{child}/cmdline").exists() for child in decoding))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_no_decoder_that_is_owed_an_answer(tiny_model):
    """It goes to the whole group of processes."""
    with process_of(tiny_model, "--workers", 1) as (process, address):
        for child in children_of(process):
            assert os.getpgid(child) != process.pid
            for sent in (signal.SIGINT, signal.SIGTERM):  # systemd sends this one to each of them
                os.kill(child, sent)
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200
        assert metric(address, "blemish_decoder_deaths_total") == 0
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_signal_during_the_start_ends_it(tiny_model, sent):
    code = (
        "import os, sys, time\n"
        "from blemish.serving import service\n"
        f"service.Service.warm_up = lambda self: (self.decoders.start(), os.kill(os.getpid(), {int(sent)}), "
        "time.sleep(60))\n"
        "from blemish.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "serve", str(tiny_model), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == ""
    interrupted = (130, "blemish: interrupted")
    assert (done.returncode, done.stderr.strip()) == (interrupted if sent == signal.SIGINT else (-sent, ""))


# --- other web sites ----------------------------------------------------------------------------------------------

LOOPBACK = hosts_for("127.0.0.1", "127.0.0.1", allowed=(), has_key=False)
PROXIED = hosts_for("localhost", "127.0.0.1", allowed=("Inspection.Example",), has_key=False)
OPEN = hosts_for("0.0.0.0", "0.0.0.0", allowed=(), has_key=False)
NAMED = hosts_for("line3.factory", "10.1.2.3", allowed=("prüfung.example", "fd00::7"), has_key=False)
WITH_KEY = hosts_for("0.0.0.0", "0.0.0.0", allowed=("inspection.example",), has_key=True)
EVERY = hosts_for("::", "::", allowed=("*",), has_key=False)

HOST_NAMES: list[tuple[Hosts | None, str, bool]] = [
    *((LOOPBACK, host, True) for host in ("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]:8000")),
    *((LOOPBACK, host, True) for host in ("[::1]", "localhost.", "localhost:", "[0:0:0:0:0:0:0:1]:80")),
    *((LOOPBACK, host, False) for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "", " ")),
    *((LOOPBACK, host, False) for host in ("evil@localhost", "localhost@evil.example", "localhost:80@evil.example")),
    *(
        (LOOPBACK, host, False)
        for host in ("localhost, evil.example", "localhost:8000:1", "localhost:x", "::1", "[::1")
    ),
    *((LOOPBACK, host, False) for host in ("0.0.0.0", "[::]", "192.168.0.7", "127.1", "2130706433", "localhost..")),
    *((LOOPBACK, host, False) for host in ("127.0.0.1.nip.example", "localhost/x", "http://localhost", "lоcalhost")),
    (PROXIED, "inspection.example", True),
    (PROXIED, "INSPECTION.example:443", True),
    (PROXIED, "localhost:8000", True),
    (PROXIED, "other.example", False),
    (PROXIED, "x.inspection.example", False),
    *((OPEN, host, True) for host in ("0.0.0.0:8000", "10.42.0.7:8000", "[fd00::7]", "localhost:8000", "192.168.1.1")),
    *(
        (OPEN, host, False)
        for host in ("evil.example", "inspection", "10.42.0.7.evil.example", "10.42.0.7@evil.example")
    ),
    (NAMED, "line3.factory:8000", True),
    (NAMED, "xn--prfung-4ya.example", True),
    (NAMED, "[fd00::7]:8000", True),
    (NAMED, "10.1.2.3", True),
    (NAMED, "evil.example", False),
    (WITH_KEY, "inspection.example", True),
    (WITH_KEY, "evil.example", False),
    (EVERY, "evil.example", True),
    (EVERY, "evil@evil.example", False),
]


def _named(value: object) -> str:
    """The same in every process: a set's text has its elements in another order in each."""
    return f"hosts-{sorted(value.names)}"[:40] if isinstance(value, Hosts) else str(value)[:40]


@pytest.mark.parametrize(("hosts", "host", "right"), HOST_NAMES, ids=_named)
def test_the_names_of_the_server(hosts, host, right):
    assert hosts.allows(host) is right


def test_with_a_key_any_name_will_do_and_none_is_asked_for():
    assert hosts_for("0.0.0.0", "0.0.0.0", allowed=(), has_key=True) is None
    assert hosts_for("127.0.0.1", "127.0.0.1", allowed=(), has_key=True) is None


@pytest.mark.parametrize(
    "name", ["", "http://a.example", "a.example:80", "a/b", "user@a", "*.a.example", "a b", "ü" * 70]
)
def test_an_allowed_host_is_a_bare_name(run, tiny_model, name):
    with pytest.raises(BlemishError, match=r"--allowed-host .*: give a name alone"):
        hosts_for("127.0.0.1", "127.0.0.1", allowed=(name,), has_key=False)


ORIGINS: list[tuple[Hosts | None, str, dict[str, str], int]] = [
    (LOOPBACK, "localhost:8000", {}, 200),  # curl
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost:8000"}, 200),
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}, 200),
    (LOOPBACK, "localhost:8000", {"Sec-Fetch-Site": "none"}, 200),
    (LOOPBACK, "127.0.0.1", {"Origin": "http://127.0.0.1:80"}, 200),
    (LOOPBACK, "[::1]:8000", {"Origin": "http://[::1]:8000"}, 200),
    (LOOPBACK, "localhost:8000", {"Origin": "http://evil.example"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost:3000"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://127.0.0.1:8000"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "null"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": ""}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "file://"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://[::1"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "chrome-extension://localhost:8000"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost:8000@evil.example"}, 403),
    (LOOPBACK, "localhost:8000", {"Sec-Fetch-Site": "cross-site"}, 403),
    (LOOPBACK, "localhost:8000", {"Sec-Fetch-Site": "same-site"}, 403),
    (LOOPBACK, "localhost:8000", {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"}, 403),
    (LOOPBACK, "evil.example:8000", {"Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"}, 403),
    (PROXIED, "inspection.example", {"Origin": "https://inspection.example"}, 200),
    (PROXIED, "localhost:8000", {"Origin": "https://inspection.example"}, 200),  # a proxy that writes Host anew
    (PROXIED, "localhost:8000", {"Origin": "https://evil.example"}, 403),
    (OPEN, "10.1.2.3:8000", {"Origin": "http://10.1.2.3:8000"}, 200),
    (OPEN, "10.1.2.3:8000", {"Origin": "http://10.1.2.4:8000"}, 403),
    (EVERY, "a.example", {"Origin": "http://a.example"}, 200),
    (EVERY, "a.example", {"Origin": "http://b.example"}, 403),
]


@pytest.mark.parametrize(("hosts", "host", "headers", "status"), ORIGINS)
def test_who_may_send(detector, hosts, host, headers, status):
    raw = [(key.lower().encode(), value.encode()) for key, value in {"Host": host, **headers}.items()]
    if status == 200:
        hosts.check("POST", "/v1/score", raw)
    else:
        with pytest.raises(RequestError) as refusal:
            hosts.check("POST", "/v1/score", raw)
        assert refusal.value.status == status
    assert hosts.check("GET", "/healthz", raw) is None


@pytest.fixture(scope="module")
def guarded(detector) -> Iterator[str]:
    with running(Service([detector], hosts=LOOPBACK)) as found:
        yield found


@pytest.mark.parametrize("path", ["/", "/page.js", "/v1/models", "/metrics", "/openapi.json", "/nowhere"])
def test_under_another_name_nothing_is_read(guarded, path):
    answer = client.get(guarded + path, headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("this server may not be called evil.example; ")
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_come_under_any_name_or_none(guarded, path):
    assert client.get(guarded + path, headers={"Host": "pod-7.example"}).status_code == 200
    assert talk(guarded, f"GET {path} HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.1 200")


RAW_REQUESTS = {
    "no name": (b"GET /v1/models HTTP/1.0\r\n\r\n", b"403"),
    "no name, one image": (b"POST /v1/score HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", b"403"),
    "empty name": (b"GET /v1/models HTTP/1.1\r\nHost: \r\n\r\n", b"403"),
    "two names": (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"400"),
    "another site's address as the target": (
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"404",
    ),
    "own address as the target": (b"GET http://localhost/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
    "forwarded name": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n", b"403"),
    "websocket": (
        b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"403",
    ),
    "preflight": (b"OPTIONS /v1/score HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", b"405"),
    "put": (b"PUT /v1/score HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", b"403"),
    "tunnel": (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", b"403"),
}


@pytest.mark.parametrize("kind", RAW_REQUESTS)
def test_raw_requests_of_other_sites(guarded, kind):
    request, status = RAW_REQUESTS[kind]
    assert talk(guarded, request).split(b" ")[1] == status


def test_pages_of_other_sites_may_not_send(guarded):
    files: dict[str, Any] = {"files": [("images", ("a.png", GOOD_FILES["png"]))]}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for endpoint in ("score", "heatmap"):
            for body in ({"content": GOOD_FILES["png"]}, files):
                answer = client.post(f"{guarded}/v1/{endpoint}", headers=headers, **body)
                assert answer.status_code == 403
                assert list(answer.json()) == ["error"]
    own = {"Origin": guarded, "Sec-Fetch-Site": "same-origin"}
    assert client.post(f"{guarded}/v1/score", content=GOOD_FILES["png"], headers=own).status_code == 200
    assert client.get(f"{guarded}/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to the page


# --- connections --------------------------------------------------------------------------------------------------


def test_a_crowd_of_silent_connections_is_bounded(detector, monkeypatch):
    monkeypatch.setattr(protocol, "DEADLINE_SECONDS", 1.0)
    with running(Service([detector], limits=Limits(connections=8))) as address:
        crowd = [connect(address) for _ in range(40)]
        try:
            # Those beyond twice the limit are closed at once.
            ends = 0
            for one in crowd[17:]:
                one.settimeout(5)
                try:
                    ends += one.recv(1) == b""
                except ConnectionError:
                    ends += 1
            assert ends == len(crowd[17:])

            def answers() -> bool:
                try:
                    return client.get(f"{address}/healthz").status_code == 200
                except httpx.HTTPError:
                    return False

            eventually(answers)  # after the others' deadline
        finally:
            for one in crowd:
                one.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123", b"408"),
        (b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n", b"408"),
        (b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1234567", b"422"),
    ],
    ids=["shorter than it says", "without its last chunk", "longer than it says"],
)
def test_a_body_of_another_length_than_it_says(detector, sent, status):
    with running(Service([detector], limits=Limits(receive_seconds=0.5))) as address:
        with connect(address) as connection:
            connection.sendall(sent)
            assert header_from(connection).split(b" ")[1] == status
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200


# --- the log ------------------------------------------------------------------------------------------------------


def damaged_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(1)).save(buffer, "TIFF", compression="tiff_lzw")
    content = bytearray(buffer.getvalue())
    content[200:4000] = bytes(3800)
    return bytes(content)


def damaged_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(1)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    content[700:720] = b"\xff" * 20
    return bytes(content)


def test_no_client_writes_a_line_to_the_log(tiny_model):
    garbage = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes() + b"\r\n\r\n"
    images = [*BAD_FILES.values(), damaged_tiff(), damaged_jpeg(), GOOD_FILES["jpeg turned"]]
    with process_of(tiny_model, "--workers", 1) as (process, address):
        client.get(address)
        for content in images:
            client.post(f"{address}/v1/score", content=content)
        for method, path, options, _ in BAD_REQUESTS.values():
            client.request(method, address + path, **options)
        for extra in (b"\r\nafter the end", b"\r\n\r\n\r\n--B"):
            form = b'--B\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\nx\r\n--B--' + extra
            client.post(
                f"{address}/v1/score", content=form, headers={"Content-Type": "multipart/form-data; boundary=B"}
            )
        raw = [*NO_HTTP.values(), *(request for request, _ in RAW_REQUESTS.values()), garbage]
        for request in raw:
            with connect(address) as connection:  # gone before it is answered, in the middle of it, and after
                connection.sendall(request)
            with connect(address) as connection:
                connection.sendall(request)
                connection.recv(1)
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{address}/v1/score", content=GOOD_FILES["png"], timeout=0.0001)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read() == ""
