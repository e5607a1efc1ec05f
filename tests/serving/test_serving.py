"""The server gives the offline answer to every image, says no in one sentence, and drops nothing it accepted."""

import io
import json
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import BlemishError
from blemish.model.detector import Detector
from helpers.images import noise, stained
from helpers.light import TRAINING_ONLY, loaded_after

pytest.importorskip("fastapi", reason='the server is not installed: pip install "blemish[serve]"')

from blemish.cli.serve import read_api_key
from blemish.serving import protocol
from blemish.serving.limits import Limits
from blemish.serving.server import Server, listen, url
from blemish.serving.service import Service
from helpers.servers import (
    BAD_FILES,
    BAD_REQUESTS,
    FILE_PART,
    GOOD_FILES,
    MULTIPART,
    NO_HTTP,
    client,
    connect,
    encoded,
    eventually,
    form,
    header_from,
    httpx,
    running,
    talk,
)

KEY = "correct-horse-battery"


def expected(detector: Detector, content: bytes, folder: Path) -> dict[str, Any]:
    """What the detector says of the same bytes in a file."""
    (folder / "image").write_bytes(content)
    (scored,) = detector.predict_iter([folder / "image"])
    return {
        "score": scored.score,
        "p_value": scored.p_value,
        "verdict": scored.verdict,
        "threshold": detector.calibration.threshold,
        "size": list(scored.size),
        "regions": json.loads(json.dumps([region.as_json() for region in detector.regions(scored)])),
        "light": dict(scored.drift_features),
        "remarks": list(scored.remarks),
    }


@pytest.mark.parametrize("kind", GOOD_FILES)
def test_the_answer_is_the_offline_score_to_the_last_bit(address, detector, tmp_path, kind):
    offline = expected(detector, GOOD_FILES[kind], tmp_path)
    answer = client.post(f"{address}/v1/score", content=GOOD_FILES[kind])
    assert answer.status_code == 200
    assert answer.json() == {"name": "image", "model": "tiny"} | offline


def test_a_batch_keeps_its_order_and_one_bad_image_spoils_nothing(address, detector, tmp_path):
    files = [("ä 1.png", GOOD_FILES["png"]), ("bad.png", GOOD_FILES["png"][:200]), ("2", GOOD_FILES["anomalous"])]
    answer = client.post(f"{address}/v1/score", files=[("images", file) for file in files])
    assert answer.status_code == 200
    first, bad, last = answer.json()["images"]
    assert first == {"name": "ä 1.png", "model": "tiny"} | expected(detector, files[0][1], tmp_path)
    assert last == {"name": "2", "model": "tiny"} | expected(detector, files[2][1], tmp_path)
    assert bad.keys() == {"name", "error"}
    assert bad["error"].startswith("bad.png: ")


def test_a_graph_that_fails_on_one_image_fails_on_that_alone(detector, monkeypatch):
    class Failing:
        def run(self, pixels: np.ndarray) -> Any:
            if not pixels.any():
                raise BlemishError("the model gives scores that are no finite numbers: train it again")
            return whole.run(pixels)

    whole = detector._graph
    with running(Service([detector], workers=1)) as own:
        monkeypatch.setattr(detector, "_graph", Failing())
        black, good = encoded(np.zeros((9, 9, 3), np.uint8)), encoded(noise(1))
        for path in ("/v1/score", "/v1/heatmap"):
            answer = httpx.post(own + path, content=black)
            assert answer.status_code == 422, answer.text
            assert "the model gives scores that are no finite numbers: train it again" in answer.json()["error"]
        assert httpx.post(own + "/v1/score", content=good).status_code == 200


def test_names_may_hold_anything(detector, tiny_model, address):
    disposition = b'Content-Disposition: form-data; name="i"; filename="\\ud800\\n"\r\n\r\n'
    odd = {"Content-Type": "multipart/form-data; boundary=B; charset=unicode_escape"}
    body = form(disposition + GOOD_FILES["png"])
    (image,) = client.post(f"{address}/v1/score", content=body, headers=odd).json()["images"]
    assert image["name"] == "\\ud800\\n"
    named = Detector.load(tiny_model, threads=1)
    named.name = "ネジ 1.onnx"
    with running(Service([named, detector])) as other:
        answer = client.post(f"{other}/v1/heatmap", params={"model": "ネジ 1"}, content=GOOD_FILES["png"])
        assert (answer.status_code, unquote(answer.headers["blemish-model"])) == (200, "ネジ 1")


def test_the_heatmap_is_the_detector_s_own(address, detector, tmp_path):
    content = GOOD_FILES["anomalous"]
    answer = client.post(f"{address}/v1/heatmap", content=content)
    assert answer.headers["content-type"] == "image/png"
    (tmp_path / "image").write_bytes(content)
    (scored,) = detector.predict_iter([tmp_path / "image"])
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(detector.explain(tmp_path / "image", scored))
    )
    assert float(answer.headers["blemish-score"]) == scored.score
    assert float(answer.headers["blemish-p-value"]) == scored.p_value
    assert answer.headers["blemish-verdict"] == scored.verdict


def test_the_heatmap_of_a_large_image_is_shrunk_and_its_score_is_not_another(address, detector, tmp_path):
    content = encoded(stained(4, size=(100, 4096)))
    answer = client.post(f"{address}/v1/heatmap", content=content)
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    panel = (picture == (22, 22, 26)).all(axis=2)  # the ground on which the photograph and its colour bar lie
    assert not panel[:50, :2048].all(axis=0).any()
    assert panel[50:, :2048].all()
    assert panel[:, 2048].all()
    assert float(answer.headers["blemish-score"]) == expected(detector, content, tmp_path)["score"]


def test_each_model_answers_for_itself(detector, tiny_model, tmp_path):
    lenient = Detector.load(tiny_model, false_alarm_rate=0.5, threads=1)
    lenient.name = "lenient.onnx"
    with running(Service([detector, lenient])) as address:
        for name, model in {"tiny": detector, "lenient": lenient}.items():
            answer = client.post(f"{address}/v1/score", params={"model": name}, content=GOOD_FILES["png"]).json()
            assert answer == {"name": "image", "model": name} | expected(model, GOOD_FILES["png"], tmp_path)
        listed = {model["name"]: model for model in client.get(f"{address}/v1/models").json()}
        assert list(listed) == ["tiny", "lenient"]
        assert listed["lenient"]["threshold"] == lenient.calibration.threshold
        assert listed["lenient"]["fingerprint"] == lenient.fingerprint
        assert listed["lenient"]["ignored"] == 0.0
        nameless = client.post(f"{address}/v1/score", content=GOOD_FILES["png"])
    assert nameless.status_code == 400
    assert "tiny, lenient" in nameless.json()["error"]


# --- what is malformed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["score", "heatmap"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_image_gets_one_sentence(address, kind, endpoint):
    answer = client.post(f"{address}/v1/{endpoint}", content=BAD_FILES[kind])
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("image: ")
    assert "\n" not in answer.json()["error"]
    batch = client.post(f"{address}/v1/{endpoint}", files=[("images", ("x.png", BAD_FILES[kind]))])
    assert batch.status_code == 422
    assert "x.png: " in batch.text


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_a_malformed_request_gets_one_sentence(address, kind):
    method, path, options, status = BAD_REQUESTS[kind]
    answer = client.request(method, address + path, **options)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert "Traceback" not in answer.text
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("kind", NO_HTTP)
def test_what_is_not_http_gets_a_4xx(address, kind):
    assert talk(address, NO_HTTP[kind]).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_an_answer_or_a_4xx(address, data):
    content = bytearray(data.draw(st.sampled_from([*GOOD_FILES.values(), form(FILE_PART, FILE_PART)])))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    headers = data.draw(st.sampled_from([{}, MULTIPART]))
    answer = client.post(f"{address}/v1/score", content=bytes(content), headers=headers)
    assert answer.status_code in (200, 400, 422)
    assert answer.json()


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_body_too_large_is_refused_before_it_is_sent(address):
    header = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 2000001\r\nExpect: 100-continue\r\n\r\n"
    assert talk(address, header).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_refused_while_it_is_read(address):
    """The client goes on sending for ever and still sees why it is refused."""
    sent = 0
    with connect(address) as connection:
        connection.sendall(b"POST /v1/score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.setblocking(False)
        answer = b""
        deadline = time.monotonic() + 10
        while not answer and time.monotonic() < deadline:
            try:
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                sent += 0x10000
            except BlockingIOError:
                break  # a chunk was cut: nothing more can be sent
            try:
                answer = connection.recv(1000)
            except BlockingIOError:
                time.sleep(0.001)
        connection.settimeout(5)
        answer = answer or connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 20_000_000


def test_a_client_that_dribbles_its_body_gets_408(detector):
    with running(Service([detector], limits=Limits(receive_seconds=0.3))) as address:
        header = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
        assert talk(address, header, *[b"x"] * 5, pause=0.1).startswith(b"HTTP/1.1 408")
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"GET / HT", b"TP/1.1\r\n", b"Host:", b" a\r\n", b"X: ", b"y", b"y", b"y"],
        [b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 7],
    ],
    ids=["silent", "header in drops", "rest of a refused body in drops"],
)
def test_a_connection_that_leads_nowhere_is_closed(detector, monkeypatch, pieces):
    monkeypatch.setattr(protocol, "DEADLINE_SECONDS", 0.3)
    with running(Service([detector])) as address, connect(address) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except ConnectionError:
                return
            time.sleep(0.1)
        try:
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass


def test_a_client_that_takes_no_answers_is_cut_off(detector, monkeypatch):
    monkeypatch.setattr(protocol, "DEADLINE_SECONDS", 0.3)
    with running(Service([detector])) as address, connect(address) as connection:
        cut_off = False
        while not cut_off:  # sendall raises TimeoutError where the server waits for ever
            try:
                connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            except ConnectionError:
                cut_off = True
        assert client.get(f"{address}/healthz").status_code == 200


def test_an_idle_connection_is_kept_for_the_next_request(detector, monkeypatch):
    monkeypatch.setattr(protocol, "DEADLINE_SECONDS", 0.2)
    with running(Service([detector])) as address, connect(address) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = header_from(connection)
            assert answer.startswith(b"HTTP/1.1 200")
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            time.sleep(0.5)


def test_beyond_the_queue_there_is_429_and_what_was_accepted_is_answered(gated, detector, tmp_path):
    service = Service([gated], limits=Limits(queue=3, batch=3))
    contents = [encoded(noise(seed)) for seed in range(3)]
    with running(service) as address, ThreadPoolExecutor(8) as clients:
        accepted = [clients.submit(client.post, f"{address}/v1/score", content=content) for content in contents]
        eventually(lambda: service.workers.unfinished == 3)
        refused = client.post(f"{address}/v1/score", content=GOOD_FILES["png"])
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        gated.gate.set()
        for content, future in zip(contents, accepted, strict=True):
            assert future.result().json()["score"] == expected(detector, content, tmp_path)["score"]
        eventually(lambda: service.workers.unfinished == 0)
        assert client.post(f"{address}/v1/score", content=GOOD_FILES["png"]).status_code == 200


def test_a_batch_is_accepted_whole_or_not_at_all(gated):
    service = Service([gated], limits=Limits(queue=3, batch=3))
    with running(service) as address, ThreadPoolExecutor(8) as clients:
        first = clients.submit(client.post, f"{address}/v1/score", content=GOOD_FILES["png"])
        eventually(lambda: service.workers.unfinished == 1)
        files = [("images", (str(i), GOOD_FILES["png"])) for i in range(3)]
        assert client.post(f"{address}/v1/score", files=files).status_code == 429
        assert service.workers.unfinished == 1
        gated.gate.set()
        assert first.result().status_code == 200


def test_bodies_together_have_a_bound(gated):
    service = Service([gated], limits=Limits(request_bytes=30_000, memory_bytes=30_000))
    body = GOOD_FILES["png"].ljust(20_000, b"\0")
    with running(service) as address, ThreadPoolExecutor(2) as clients:
        first = clients.submit(client.post, f"{address}/v1/score", content=body)
        eventually(lambda: service.workers.unfinished == 1)
        assert client.post(f"{address}/v1/score", content=body).status_code == 429
        gated.gate.set()
        assert first.result().status_code == 200
        eventually(lambda: service.memory.held == 0)


def test_an_answer_that_takes_too_long_is_503_and_leaves_the_queue(gated):
    service = Service([gated], limits=Limits(answer_seconds=0.2))
    with running(service) as address:
        files = [("images", (str(i), GOOD_FILES["png"])) for i in range(4)]
        answer = client.post(f"{address}/v1/score", files=files)
        assert answer.status_code == 503
        assert "0.2 seconds" in answer.json()["error"]
        eventually(lambda: service.workers.unfinished == 1)  # at work, and a thread cannot be stopped
        gated.gate.set()
        eventually(lambda: service.workers.unfinished == 0)


def test_the_work_of_a_client_that_left_is_dropped(gated):
    service = Service([gated])
    with running(service) as address:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                f"{address}/v1/score", files=[("i", (str(i), GOOD_FILES["png"])) for i in range(4)], timeout=0.3
            )
        eventually(lambda: service.workers.unfinished == 1)
        gated.gate.set()


@pytest.mark.parametrize(
    "bounds",
    [{"queue": 0}, {"batch": 200}, {"request_bytes": 10**12}, {"pixels": 10**9}, {"answer_seconds": float("nan")}],
    ids=lambda bounds: next(iter(bounds)),
)
def test_limits_that_make_no_sense_are_refused(bounds):
    with pytest.raises(BlemishError):
        replace(Limits(), **bounds)


# --- the end ------------------------------------------------------------------------------------------------------


def test_shutting_down_answers_what_was_accepted_and_refuses_the_rest(gated):
    service = Service([gated])
    uvicorn_server = Server(service)
    with listen("127.0.0.1", 0) as listener, ThreadPoolExecutor(4) as clients:
        address = url(listener)
        running_server = clients.submit(uvicorn_server.run, sockets=[listener])
        assert client.get(f"{address}/readyz").status_code == 200
        accepted = [clients.submit(client.post, f"{address}/v1/score", content=GOOD_FILES["png"]) for _ in range(2)]
        eventually(lambda: service.workers.unfinished == 2)
        uvicorn_server.should_exit = True  # what the signal handler does
        eventually(lambda: service.draining)
        assert client.get(f"{address}/readyz").status_code == 503
        assert client.get(f"{address}/healthz").status_code == 200
        refused = client.post(f"{address}/v1/score", content=GOOD_FILES["png"])
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        gated.gate.set()
        assert [future.result().status_code for future in accepted] == [200, 200]
        running_server.result(20)
        with pytest.raises(httpx.ConnectError):
            client.get(f"{address}/healthz")


# --- key, metrics, schema -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(detector) -> Iterator[str]:
    with running(Service([detector], api_key=KEY)) as address:
        yield address


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        (KEY, 401),
        (f"Basic {KEY}", 401),
        ("Bearer", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Bearer {KEY}x", 401),
        (b"Bearer \xff\xfe", 401),
        (f"Bearer {KEY}", 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/score", "/v1/heatmap"])
def test_the_key_opens_and_nothing_else(locked, path, header, status):
    method, content = ("GET", None) if path in ("/v1/models", "/metrics") else ("POST", GOOD_FILES["png"])
    headers = {} if header is None else {"Authorization": header}
    answer = client.request(method, locked + path, content=content, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/openapi.json"])
def test_health_and_page_need_no_key(locked, path):
    assert client.get(locked + path).status_code == 200


def test_without_the_key_no_body_is_read(locked):
    header = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\nExpect: 100-continue\r\n\r\n"
    assert talk(locked, header).startswith(b"HTTP/1.1 401")


def test_metrics_count_what_happened(detector, tmp_path):
    from prometheus_client.parser import text_string_to_metric_families

    contents = [GOOD_FILES["png"], GOOD_FILES["anomalous"], GOOD_FILES["anomalous"]]
    offline = [expected(detector, content, tmp_path) for content in contents]
    with running(Service([detector])) as address:
        for content in [*contents, b"no image"]:
            client.post(f"{address}/v1/score", content=content)
        client.get(f"{address}/a/path/nobody/knows")
        families = text_string_to_metric_families(client.get(f"{address}/metrics").text)
    samples = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    for verdict in ("ok", "unsure", "anomalous"):
        count = sum(one["verdict"] == verdict for one in offline)
        assert samples["blemish_verdicts_total", "tiny", verdict] == count
    assert samples["blemish_unreadable_images_total", "tiny"] == 1
    assert samples["blemish_requests_total", "/v1/score", "200"] == 3
    assert samples["blemish_requests_total", "/v1/score", "422"] == 1
    assert samples["blemish_requests_total", "other", "404"] == 1
    assert samples["blemish_request_seconds_count", "/v1/score"] == 4
    assert samples["blemish_queue_seconds_count",] == 4
    assert samples["blemish_p_value_bucket", "0.1", "tiny"] == sum(one["p_value"] <= 0.1 for one in offline)
    assert samples["blemish_p_value_sum", "tiny"] == pytest.approx(sum(one["p_value"] for one in offline))
    assert samples["blemish_small_p_value_share", "tiny"] == np.mean([one["p_value"] <= 0.1 for one in offline])
    assert samples["blemish_model_info", detector.fingerprint, "tiny"] == 1


def test_answers_are_what_the_schema_says(address):
    jsonschema = pytest.importorskip("jsonschema")
    schema = client.get(f"{address}/openapi.json").json()
    files = [("images", ("a", GOOD_FILES["anomalous"])), ("images", ("b", b""))]
    answers = {
        ("/v1/score", "post"): [
            client.post(f"{address}/v1/score", content=GOOD_FILES["anomalous"]),
            client.post(f"{address}/v1/score", files=files),
            client.post(f"{address}/v1/score", content=b""),
            client.post(f"{address}/v1/score?model=x", content=b""),
        ],
        ("/v1/models", "get"): [client.get(f"{address}/v1/models")],
    }
    for (path, method), given_answers in answers.items():
        for answer in given_answers:
            documented = schema["paths"][path][method]["responses"][str(answer.status_code)]
            form_of_it = documented["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), form_of_it | {"components": schema["components"]})
    assert schema["paths"]["/v1/heatmap"]["post"]["responses"]["200"]["content"].keys() == {"image/png"}
    assert schema["paths"]["/v1/score"]["post"]["requestBody"]["content"].keys() == {"image/*", "multipart/form-data"}


# --- the page -----------------------------------------------------------------------------------------------------


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [value for name in ("src", "href", "action") if (value := named.get(name))]
        self.inline += tag == "style" or (tag == "script" and "src" not in named)
        self.inline += sum(name == "style" or name.startswith("on") for name in named)


def test_the_page_loads_nothing_from_elsewhere_and_nothing_inline(address):
    page = client.get(f"{address}/")
    parser = Addresses()
    parser.feed(page.text)
    assert parser.inline == 0
    assert "page.js" in parser.found
    for found in parser.found:
        assert found.startswith("data:") or client.get(f"{address}/{found}").status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = [shutil.which(name) for name in ("chromium", "google-chrome")]
    program, driver = next(filter(None, programs), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver here: on Debian, apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1100,1000", *quiet):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


DROP = """
const [content, done] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
done();
"""


def test_the_page_shows_verdict_and_heatmap_in_a_real_browser(browser, locked, detector, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def find(selector: str) -> list[Any]:
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(condition: Callable[[], Any]) -> None:
        WebDriverWait(browser, 10).until(lambda _: condition())

    content = encoded(stained(2, size=(300, 500)))
    offline = expected(detector, content, tmp_path)
    (tmp_path / "chosen.png").write_bytes(content)
    (tmp_path / "text.png").write_bytes(b"no image")
    browser.get(locked)
    wait(lambda: find("#access")[0].is_displayed())
    assert find("#fault")[0].text == "this server asks for an API key"
    find("#key")[0].send_keys(KEY, Keys.ENTER)
    wait(lambda: "tiny" in find("#about")[0].text)
    # The keyboard alone gets to the file picker: Tab from the top of the page lands in it.
    find("body")[0].send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "file"

    find("#file")[0].send_keys(f"{tmp_path / 'chosen.png'}\n{tmp_path / 'text.png'}")
    browser.execute_async_script(DROP, b64encode(content).decode())
    wait(lambda: len(find(".card[aria-busy=false]")) == 3)
    dropped, bad, chosen = find(".card")  # the latest first
    for card, name in ((dropped, "dropped.png"), (chosen, "chosen.png")):
        assert card.find_element(By.CSS_SELECTOR, ".file").text == name
        assert card.find_element(By.CSS_SELECTOR, ".badge").text == offline["verdict"]
        assert float(card.find_element(By.CSS_SELECTOR, ".p").text) == pytest.approx(offline["p_value"], rel=0.01)
        heatmap = card.find_element(By.CSS_SELECTOR, ".heatmap img")
        wait(lambda heatmap=heatmap: heatmap.get_property("naturalWidth") > 500)  # the picture and its colour bar
        assert heatmap.get_property("naturalHeight") == 300
    assert bad.find_element(By.CSS_SELECTOR, ".badge").text == "not scored"
    assert "text.png: not a PNG" in bad.text
    log = [entry["message"] for entry in browser.get_log("browser")]
    assert not [message for message in log if "Content Security Policy" in message or "Uncaught" in message]


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", "short", "with spaces in between", "umlaut-äöü-äöü-äöü", "two-lines-of-key\nand-another"]
)
def test_a_poor_key_is_refused(tmp_path, key):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    for file, environment in ((tmp_path / "key", {}), (None, {"BLEMISH_API_KEY": key})):
        with pytest.raises(BlemishError, match="openssl rand") as refusal:
            read_api_key(file, environment)
        assert key == "" or key not in str(refusal.value)


def test_the_key_comes_from_file_or_environment(tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    assert read_api_key(tmp_path / "key", {"BLEMISH_API_KEY": "another-key-altogether"}) == KEY
    assert read_api_key(None, {"BLEMISH_API_KEY": KEY}) == KEY
    assert read_api_key(None, {}) is None


def test_faults_on_the_command_line_are_one_sentence(run, tiny_model, tmp_path, monkeypatch):
    monkeypatch.delenv("BLEMISH_API_KEY", raising=False)
    shutil.copy(tiny_model, tmp_path / "tiny.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        faults: dict[tuple[Any, ...], str] = {
            (tiny_model, "--port", port): f"cannot listen on 127.0.0.1:{port}: address already in use",
            (tiny_model, "--host", "no.such.host.invalid"): "cannot listen on no.such.host.invalid",
            (tiny_model, tmp_path / "tiny.onnx"): "two models are called tiny",
            (tmp_path / "none.onnx",): "no such file",
            (tiny_model, "--api-key-file", tmp_path / "none"): "no such file",
            (tiny_model, "--max-megapixels", 1000): "150,000,000",
        }
        for arguments, words in faults.items():
            outcome = run("serve", *arguments)
            assert (outcome.status, outcome.out) == (2, "")
            assert words in outcome.err
            assert outcome.err.count("\n") == 1


def test_without_its_packages_the_server_says_what_to_install(tiny_model):
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        f"from blemish.cli import main; sys.exit(main(['serve', {str(tiny_model)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "blemish[serve]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_needs_nothing_of_training():
    assert not set(TRAINING_ONLY) & loaded_after("import blemish.serving.server")
