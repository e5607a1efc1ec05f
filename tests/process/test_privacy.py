"""Nothing is sent, and nothing is written but what was asked for: every verb, under strace, in an empty home."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from blemish.process.privacy import SWITCHES
from helpers.images import noise, save_image, stained

ADDRESS = re.compile(r"sa_family=AF_INET6?,.*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\"")
LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.|0\.0\.0\.0$|::$")
CREATED = re.compile(r"\b(?:open(?:at)?\(.*O_CREAT|mkdir\w*\(|creat\(|rename\w*\(|link\w*\(|symlink\w*\()")
PLAIN = ("/dev/", "/proc/")


@functools.cache
def strace() -> str | None:
    """Where it is, if it may trace here; containers often forbid it."""
    found = shutil.which("strace")
    allowed = found and subprocess.run([found, "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return found if allowed and allowed.returncode == 0 else None


class Home:
    """A user who never ran anything, and what became of the folders: home, cache, tmp and work."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("home", "cache", "tmp", "work"):
            (root / name).mkdir(parents=True)
        switches = {*SWITCHES, "TORCHINDUCTOR_CACHE_DIR", "CI", "MPLCONFIGDIR", "XDG_CONFIG_HOME"}
        self.environment = {key: value for key, value in os.environ.items() if key not in switches} | {
            "HOME": str(root / "home"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "TMPDIR": str(root / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # this working copy, whatever the folder
        }

    def command(self, *arguments: object) -> list[str]:
        if strace() is None:
            pytest.skip("no strace here, or it may not trace: on Debian, apt-get install strace")
        traced = ["-f", "-qq", "-s", "300", "-e", "trace=%network,%file", "-o", str(self.root / "trace")]
        return [str(strace()), *traced, sys.executable, "-m", "blemish", *map(str, arguments)]

    def run(self, *arguments: object) -> None:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root / "work",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def check(self, *, asked_for: set[str], sockets: bool = False, own_name: bool = False) -> None:
        """No address but the machine's own, and of files only those named, in the folder `work`.

        With `own_name` the resolver may be asked, which torch does for the name of 127.0.0.1 and nothing else.
        """
        for line in (self.root / "trace").read_text(errors="replace").splitlines():
            if own_name and "htons(53)" in line:
                continue
            for address in ADDRESS.findall(line):
                assert sockets, line
                assert LOOPBACK.match(address), line
            assert "htons(53)" not in line
            if CREATED.search(line) and "= -1" not in line:
                for path in re.findall(r'"(/[^"]*)"', line):
                    assert path.startswith((str(self.root), *PLAIN)), line
        assert [path for name in ("home", "cache", "tmp") for path in (self.root / name).rglob("*")] == []
        assert {path.name for path in (self.root / "work").iterdir()} == asked_for


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "user")


@pytest.fixture(scope="module")
def many_parts(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "parts"
    for i in range(24):
        save_image(root / f"train/good/{i}.png", noise(200 + i))
    for i in range(4):
        save_image(root / f"test/good/{i}.png", noise(300 + i))
        save_image(root / f"test/stain/{i}.png", stained(400 + i))
        mask = (stained(400 + i) == 0).all(axis=2)
        save_image(root / f"ground_truth/stain/{i}_mask.png", mask.astype(np.uint8) * 255)
    return root


def test_info_only_reads(home, tiny_model):
    home.run("info", tiny_model)
    home.check(asked_for=set())


def test_predict_writes_its_results_and_nothing_else(home, tiny_model, parts):
    home.run("predict", tiny_model, parts / "test", "-o", "out")
    home.check(asked_for={"out"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "options", "asked_for"),
    [
        ("doctor", (), set()),
        ("evaluate", (), set()),
        ("report", ("-o", "r.html"), {"r.html"}),
        ("audit", ("-o", "a.html"), {"a.html"}),
    ],
)
def test_other_verbs_do_neither(home, tiny_model, many_parts, verb, options, asked_for):
    model = [] if verb == "doctor" else [tiny_model]
    home.run(verb, *model, many_parts, *options)
    home.check(asked_for=asked_for)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, many_parts) -> tuple[Home, Path]:
    home = Home(tmp_path_factory.mktemp("trained") / "user")
    home.run("train", many_parts, "-o", "m.onnx", "--size", "64")
    return home, home.root / "work/m.onnx"


@pytest.mark.slow
def test_training_sends_nothing(trained):
    trained[0].check(asked_for={"m.onnx"})


@pytest.mark.slow
@pytest.mark.parametrize(("option", "package"), [("--tensorboard", "tensorboard"), ("--mlflow", "mlflow")])
def test_a_log_goes_where_it_is_asked_to_and_nowhere_else(home, many_parts, option, package):
    pytest.importorskip(package)
    home.environment["MPLCONFIGDIR"] = str(home.root / "work/log")  # matplotlib draws for MLflow and keeps a font list
    home.run("train", many_parts, "-o", "m.onnx", "--size", "64", option, "log")
    # urllib3, which MLflow imports, tries whether this machine has IPv6, by its address ::1.
    home.check(asked_for={"m.onnx", "log"}, sockets=package == "mlflow")


@pytest.mark.slow
def test_training_in_two_processes_stays_on_this_machine(home, many_parts):
    options = ("--size", 64, "--device", "cpu", "--devices", 2)
    home.run("train", many_parts, "-o", "m.onnx", *options)
    home.check(asked_for={"m.onnx"}, sockets=True, own_name=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openvino", "onnx-int8", "onnx-any-size"])
def test_an_export_and_its_scores_send_nothing(home, trained, many_parts, form):
    pytest.importorskip("onnx")
    if form == "openvino":
        pytest.importorskip("openvino")
    home.run("export", trained[1], "--format", form, "--data", many_parts, "-o", "x.onnx")
    home.check(asked_for={"x.onnx"})
    home.run("predict", "x.onnx", many_parts / "test", "-o", "out")
    home.check(asked_for={"x.onnx", "out"})


@pytest.mark.slow
def test_the_demo_sends_nothing(home):
    home.run("demo")
    home.check(asked_for={path.name for path in (home.root / "work").iterdir()})


@pytest.mark.slow
def test_a_server_answers_and_asks_nobody(home, tiny_model):
    command = home.command("serve", tiny_model, "--port", 0, "--json")
    with subprocess.Popen(command, cwd=home.root / "work", env=home.environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            text = b""
            while not text.endswith(b"}\n"):
                text += process.stdout.readline()
            url = json.loads(text)["url"]
            image = save_image(home.root / "image.png", noise(1)).read_bytes()
            for endpoint in ("score", "heatmap"):
                with urllib.request.urlopen(f"{url}/v1/{endpoint}", data=image, timeout=60) as answer:
                    assert answer.status == 200
        finally:
            process.terminate()  # strace passes it on
            (child,) = _children(process.pid) or [process.pid]
            os.kill(child, 15)
            process.wait(60)
    home.check(asked_for=set(), sockets=True)


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


# --- the switches -------------------------------------------------------------------------------------------------


def environment_after(code: str, **variables: str) -> dict[str, str]:
    """The switches that a child of a process sees after it ran this."""
    show = "import json, os, subprocess, sys; " + code + "; subprocess.run([sys.executable, '-c', "
    show += "'import json, os; print(json.dumps(dict(os.environ)))'])"
    clean = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", show], env=clean | variables, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    return {name: seen[name] for name in SWITCHES if name in seen}


@pytest.mark.parametrize("code", ["import blemish", "from blemish.errors import BlemishError", "import blemish.cli"])
def test_all_switches_are_off_in_every_process_that_blemish_starts(code):
    assert environment_after(code) == SWITCHES


def test_what_the_user_has_set_stays():
    theirs = {"ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
    assert environment_after("import blemish", **theirs) == SWITCHES | theirs


@pytest.mark.parametrize(("chosen", "blocked"), [(None, True), ("0", False), ("1", False)])
def test_openvino_s_own_choice_is_the_user_s(tmp_path, chosen, blocked):
    if chosen is not None:
        (tmp_path / "intel").mkdir()
        (tmp_path / "intel/openvino_telemetry").write_text(chosen)
    code = "import blemish, sys; print(sys.modules.get('openvino_telemetry', 'free'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ("None" if blocked else "free")
