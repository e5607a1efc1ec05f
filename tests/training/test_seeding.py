"""What a training leaves of the caller's process: everything as it was."""

import logging
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import seed_everything

from blemish.errors import BlemishError
from blemish.training.run import train
from blemish.training.seeding import caller_state_restored
from helpers.images import noise, save_image


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(1))


def seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def test_random_numbers_warnings_levels_and_variables_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    logger = logging.getLogger("caller.own")
    logger.setLevel(logging.INFO)
    seed()
    wanted, filters = draws(), list(warnings.filters)
    seed()

    @caller_state_restored()
    def work() -> None:
        seed_everything(99, workers=True, verbose=False)
        draws()
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        logging.getLogger("caller.root").setLevel(logging.ERROR)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert (os.environ["PL_GLOBAL_SEED"], os.environ.get("PL_SEED_WORKERS")) == ("5", None)
    assert warnings.filters == filters
    assert logger.level == logging.INFO
    assert draws() == wanted


def test_a_training_leaves_everything_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(4):
        save_image(tmp_path / f"parts/{index}.png", noise(index))
    names = ("torch.onnx", "lightning_fabric", "blemish", "")
    levels, filters = [logging.getLogger(name).level for name in names], list(warnings.filters)
    seed()
    wanted = draws()
    seed()
    said: list[str] = []
    with caplog.at_level(logging.INFO, "blemish"):
        train(tmp_path / "parts", tmp_path / "m.onnx", size=64, notify=said.append)
    assert draws() == wanted
    assert [logging.getLogger(name).level for name in names] == levels
    assert warnings.filters == filters
    assert said
    assert [record.getMessage() for record in caplog.records if record.name == "blemish.training"] == said


def test_a_training_that_fails_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    seed()
    wanted = draws()
    seed()
    with pytest.raises(BlemishError):
        train(tmp_path / "nothing", tmp_path / "m.onnx")
    assert draws() == wanted
