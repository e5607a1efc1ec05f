"""Scoring in a container that can write nowhere but to its output: read-only root, no HOME, no /tmp, nobody's user."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import blemish
from helpers.images import noise, save_image, stained

NOBODY = 65534

# In a mount namespace of its own: the root becomes read-only, the output stays as it was.
READ_ONLY = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,ro,bind / || exit 77
shift && cd / && exec "$@"
"""


def _command(out: Path, *arguments: object) -> list[str]:
    """A command line of Blemish in that container. The user may read all files, wherever Python is installed."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    user += [f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    path = f"PYTHONPATH={Path(blemish.__file__).parents[1]}"
    program = [sys.executable, "-m", "blemish", *map(str, arguments)]
    return ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(out), *user, "env", "-i", path, *program]


def _run(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(out, *arguments), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def out() -> Iterator[Path]:
    """The folder that can be written, in one that nobody's user can enter."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs unshare and setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root can make the root file system read-only")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "out"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        if _run(folder, "--version").returncode == 77:
            pytest.skip("this machine allows no mount namespaces")
        yield folder


@pytest.fixture
def readable(out: Path, tiny_model: Path, parts: Path) -> tuple[Path, Path]:
    """The model and the data set beside the output."""
    for number in range(20):  # an audit wants more
        save_image(parts / f"test/good/more{number}.png", noise(number))
        save_image(parts / f"test/stain/more{number}.png", stained(number))
    shutil.copytree(parts, out.parent / "parts")
    return Path(shutil.copy(tiny_model, out.parent)), out.parent / "parts"


def test_nothing_else_can_be_written_there(out: Path) -> None:
    trial = [*_command(out)[:-2], "-c", "import tempfile; tempfile.gettempdir()"]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
    assert "No usable temporary directory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        lambda model, parts, out: ["predict", model, parts / "test", "-o", out / "results", "--json"],
        lambda model, parts, out: [
            "predict",
            model,
            parts / "test",
            "-o",
            out / "results",
            "--save-maps",
            "tiff",
            "--json",
        ],
        lambda model, parts, out: ["evaluate", model, parts, "--json"],
        lambda model, parts, out: ["report", model, parts, "-o", out / "report.html", "--json"],
        lambda model, parts, out: ["audit", model, parts, "-o", out / "audit.html", "--json"],
        lambda model, parts, out: ["info", model, "-o", out / "card.html", "--json"],
        lambda model, parts, out: ["doctor", parts, "--json"],
    ],
    ids=["predict", "predict raw", "evaluate", "report", "audit", "info", "doctor"],
)
def test_a_verb_needs_no_other_place(
    out: Path, readable: tuple[Path, Path], arguments: Callable[[Path, Path, Path], list[object]]
) -> None:
    done = _run(out, *arguments(*readable, out))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_server_needs_no_other_place(out: Path, readable: tuple[Path, Path]) -> None:
    model, parts = readable
    command = _command(out, "serve", model, "--port", 0, "--workers", 1, "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = ""
            while (line := server.stdout.readline()) not in ("", "}\n"):
                said += line
            said += line
            body = (parts / "test/stain/0.png").read_bytes()
            request = urllib.request.Request(json.loads(said)["url"] + "/v1/score", data=body)
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
        finally:
            server.terminate()
        assert server.wait(timeout=60) in (0, -signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        lambda model, parts, out: ["train", parts, "-o", out / "model.onnx"],
        lambda model, parts, out: ["evaluate", model, parts, "--faithfulness", "1"],
        lambda model, parts, out: ["demo", "-o", out / "demo"],
    ],
    ids=["train", "faithfulness", "demo"],
)
def test_what_needs_a_temporary_folder_says_so(
    out: Path, readable: tuple[Path, Path], arguments: Callable[[Path, Path, Path], list[object]]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("captum")
    done = _run(out, *arguments(*readable, out))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "TMPDIR" in done.stderr.splitlines()[-1]
