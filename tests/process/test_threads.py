"""Processor threads: as many as asked for, and none that spins while it waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.model.detector import Detector
from blemish.process import threads

# The threads of ONNX Runtime and of the readers, counted while a command line runs.
COUNT = """
import os, sys, threading
import onnxruntime
from concurrent.futures import ThreadPoolExecutor
asked = {"sessions": [], "pools": []}
opened, made = onnxruntime.InferenceSession.__init__, ThreadPoolExecutor.__init__
def session(self, model, options=None, *rest, **named):
    asked["sessions"].append(options.intra_op_num_threads)
    opened(self, model, options, *rest, **named)
def pool(self, workers=None, *rest, **named):
    asked["pools"].append(workers)
    made(self, workers, *rest, **named)
onnxruntime.InferenceSession.__init__, ThreadPoolExecutor.__init__ = session, pool
from blemish.cli import main
status = main(sys.argv[1:])
print(repr((asked, {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")})), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch):
    for library in ("OMP", "MKL", "OPENBLAS"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")  # so that what a test sets goes again
    yield
    threads.limit(None)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report"])
def test_a_verb_takes_no_more_threads_than_asked_for(verb: str, tiny_model: Path, parts: Path, tmp_path: Path) -> None:
    arguments = {
        "predict": [tiny_model, parts / "test", "-o", tmp_path / "out"],
        "evaluate": [tiny_model, parts],
        "report": [tiny_model, parts, "-o", tmp_path / "report.html"],
    }
    command = [sys.executable, "-c", COUNT, verb, *map(str, arguments[verb]), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    asked, environment = eval(done.stderr.splitlines()[-1])
    assert asked["sessions"]
    assert set(asked["sessions"]) == {1}
    assert all(workers == 1 for workers in asked["pools"])
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


def test_the_user_says_how_openmp_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    threads.sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_without_a_limit_all_cores_that_the_process_may_use_count() -> None:
    threads.limit(None)
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads.cores() == expected
    threads.limit(3)
    assert (threads.cores(), threads.readers(), threads.in_one_operation()) == (3, 3, 3)
    threads.limit(20)
    assert threads.readers() == 8


@pytest.mark.parametrize(
    "verb", ["train", "predict", "evaluate", "report", "serve", "audit", "doctor", "demo", "export"]
)
def test_every_verb_that_computes_has_the_option(verb: str, run) -> None:
    assert "--threads" in run(verb, "--help").out


@pytest.mark.parametrize("given", ["0", "-1", "two"])
def test_no_threads_are_a_mistake(given: str, run, tiny_model: Path, parts: Path) -> None:
    outcome = run("evaluate", tiny_model, parts, "--threads", given)
    assert outcome.status == 2
    assert "--threads" in outcome.err


@pytest.mark.parametrize(
    ("said", "limit", "expected"),
    [("3", None, 3), ("4,2", None, 4), (" 2 ", None, 2), ("3", 1, 1), ("", None, None), ("0", None, None),
     ("-1", None, None), ("many", None, None), (None, None, None)],
)  # fmt: skip
def test_openmps_variable_counts_where_no_limit_is_given(
    said: str | None, limit: int | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads.limit(limit)
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.in_one_operation() == expected


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("", 0)])
def test_a_session_takes_as_many_threads_as_openmp_is_to(
    said: str, expected: int, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setenv("OMP_NUM_THREADS", said)
    asked: list[int] = []
    opened = onnxruntime.InferenceSession.__init__

    def noting(self, model, options=None, *rest, **named):
        asked.append(options.intra_op_num_threads)
        opened(self, model, options, *rest, **named)

    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", noting)
    Detector.load(tiny_model)
    assert asked[-1] == expected
