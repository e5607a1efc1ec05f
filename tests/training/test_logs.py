"""The logs of a training as one: what fails is left out, and the rest goes on."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from blemish.errors import BlemishError
from blemish.training.config import TrainConfig
from blemish.training.log import NO_LOG, PrefixedLog
from blemish.training.logs import Logs, open_logs

PICTURE = Image.new("RGB", (4, 4))
CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("scalar", ("loss", 0.5, 1)),
    ("heatmap", ("a.png", PICTURE)),
    ("histogram", ("scores", [1.0, 2.0])),
    ("figures", ({"seconds": 3.0},)),
    ("close", ()),
]


class Recorder:
    """Keeps every call, and fails from the `good`th on."""

    def __init__(self, good: int = 100) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.good = good

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*values: Any) -> None:
            self.calls.append((name, values))
            if len(self.calls) >= self.good:
                raise BlemishError("the disk is full")

        return call


def call_all(log: Any) -> None:
    for name, values in CALLS:
        getattr(log, name)(*values)


def test_every_log_gets_every_call() -> None:
    first, second = Recorder(), Recorder()
    call_all(Logs([first, second], pytest.fail))
    assert first.calls == second.calls == CALLS


def test_a_log_that_fails_is_left_out_and_said_once() -> None:
    failing, sound = Recorder(good=2), Recorder()
    said: list[str] = []
    call_all(Logs([failing, sound], said.append))
    assert len(failing.calls) == 2
    assert sound.calls == CALLS
    assert said == ["warning: the log is not complete: the disk is full"]


def test_a_prefix_stands_before_every_name() -> None:
    recorder = Recorder()
    call_all(PrefixedLog(recorder, "fold 2"))
    assert recorder.calls == [
        ("scalar", ("fold 2/loss", 0.5, 1)),
        ("heatmap", ("fold 2/a.png", PICTURE)),
        ("histogram", ("fold 2/scores", [1.0, 2.0])),
        ("figures", ({"fold 2/seconds": 3.0},)),
        ("close", ()),
    ]


def test_without_a_place_nothing_is_kept() -> None:
    assert open_logs(TrainConfig(), pytest.fail, run="m") is NO_LOG
    call_all(NO_LOG)
