"""A model file that needs no training, images to show it, and the command line as a function."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from blemish.cli import main
from helpers.images import SIDE, noise, save_image, stained

# Every run looks for new cases, on a machine of any speed: how long an example takes is no property.
settings.register_profile("blemish", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("blemish")

# A shell makes what it starts in the background deaf to SIGINT, and so all processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test, in whatever order the tests run."""
    return np.random.default_rng(20)


@pytest.fixture
def training(tmp_path: Path) -> Any:
    """How to train a small network, silently; first weights are the same in every test."""
    import torch
    from lightning_fabric import Fabric

    from blemish.training.trainer import Training

    torch.manual_seed(0)
    return Training(
        fabric=Fabric(accelerator="cpu", devices=1),
        epochs=4,
        seed=0,
        output=tmp_path / "m.onnx",
        key="one training",
        progress=lambda stage, done, total: None,
        notify=lambda text: None,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model file of 64 x 64 pixels: a random backbone, Gaussians fitted to noise. No weights file is needed."""
    import torch

    from blemish.conformal.split import Calibration
    from blemish.model.metadata import ModelMetadata
    from blemish.training.onnx_export import export_onnx
    from helpers.small_networks import fitted_network

    torch.manual_seed(0)
    network = fitted_network([noise(seed) for seed in range(32)])
    with torch.inference_mode():
        held_back = torch.from_numpy(np.stack([noise(seed) for seed in range(100, 119)]))
        scores = network(held_back).amax((1, 2)).tolist()
    metadata = ModelMetadata(
        size=(SIDE, SIDE),
        supervision="good images only",
        settings={"backbone": "random", "seed": 0},
        data={"name": "noise", "train_images": 32, "calibration_images": 19},
        used_images=(),
        calibration=Calibration(scores, 0.05),
        heatmap_low=0.5 * min(scores),
        heatmap_high=2 * max(scores),
    )
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    export_onnx(network, metadata, path)
    return path


@pytest.fixture(scope="session")
def bfloat16(tiny_model: Path) -> bool:
    """Whether OpenVINO computes in bfloat16 here: the processor has it, and no variable takes it away."""
    from blemish.errors import BlemishError
    from blemish.model.backends import open_graph

    try:
        open_graph(tiny_model.read_bytes(), "openvino", "bf16")
    except BlemishError:
        return False
    return True


@pytest.fixture
def parts(tmp_path) -> Path:
    """A data set in MVTec's layout with a test split: 3 good, 2 stained, both with masks."""
    root = tmp_path / "parts"
    for i in range(4):
        save_image(root / f"train/good/{i}.png", noise(200 + i))
    for i in range(3):
        save_image(root / f"test/good/{i}.png", noise(300 + i))
    for i in range(2):
        save_image(root / f"test/stain/{i}.png", stained(400 + i))
        mask = (stained(400 + i) == 0).all(axis=2)
        save_image(root / f"ground_truth/stain/{i}_mask.png", mask.astype(np.uint8) * 255)
    return root


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def run(capsys) -> Callable[..., Outcome]:
    """Runs a command line in this process: `run("predict", model, folder, "-o", out)`."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """A block in which a training is killed once the state of an epoch is saved, of the stage so named if any is."""
    from blemish.training.checkpoint import Checkpoint

    @contextmanager
    def killed(epoch: int, *, stage: str = "") -> Iterator[None]:
        save = Checkpoint.save

        def save_then_die(self: Checkpoint, tensors: dict, numbers: dict) -> None:
            save(self, tensors, numbers)
            if stage.replace(" ", "_") in self.folder.name and numbers["epoch"] == epoch:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_then_die)
            with pytest.raises(KeyboardInterrupt):
                yield

    return killed
