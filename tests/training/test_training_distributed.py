"""Training by several processes: what they share is what one process alone comes to."""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.errors import BlemishError
from blemish.methods.gaussian import MultiscaleGaussian
from blemish.model.detector import Detector
from blemish.training.devices import require_device
from blemish.training.distributed import SINGLE_PROCESS, ProcessGroup, launch
from blemish.training.feature_extraction import MapsInMemory
from helpers.gaussians import in_batches, levels_of, maps_of, new_levels, new_model
from helpers.parts import write_parts
from helpers.processes import on_each_process

IMAGES = 23
SIZE = "64x96"


@pytest.mark.parametrize("images", [1, 4, IMAGES])
@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_shares_make_up_the_whole_and_differ_by_one_at_most(number: int, images: int) -> None:
    shares = on_each_process(number, lambda processes: range(images)[processes.shard(images)])
    assert [one for share in shares for one in share] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("number", [2, 3])
def test_rows_of_all_ranks_are_joined_in_order_also_where_a_rank_has_none(number: int) -> None:
    rows = torch.arange(12.0).view(6, 2).half()
    lengths = [4, 2, 0][:number]

    def join(processes: ProcessGroup) -> torch.Tensor:
        return processes.all_gather(rows.split(lengths)[processes.rank])

    for joined in on_each_process(number, join):
        assert joined.dtype == rows.dtype
        assert torch.equal(joined, rows)


@pytest.mark.parametrize("images", [1, 2, 7])
def test_a_function_of_images_is_called_on_shares_and_its_result_is_with_all(images: int) -> None:
    pixels = np.arange(images * 12, dtype=np.uint8).reshape(images, 2, 2, 3)
    seen: list[int] = []

    def extract(some: np.ndarray) -> torch.Tensor:
        seen.append(len(some))
        return torch.from_numpy(some).permute(0, 3, 1, 2).float()

    results = on_each_process(2, lambda processes: processes.sharded(extract)(pixels))
    assert all(torch.equal(result, SINGLE_PROCESS.sharded(extract)(pixels)) for result in results)
    assert max(seen[:2]) == -(-images // 2)


def test_the_first_rank_decides() -> None:
    state = on_each_process(3, lambda processes: processes.broadcast(torch.tensor([processes.rank + 7.0])))
    assert [one.item() for one in state] == [7, 7, 7]

    def take_over(processes: ProcessGroup) -> torch.nn.Module:
        layer = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(layer.weight, processes.rank + 1.0)
        processes.broadcast_state(layer.state_dict())
        return layer

    assert all((layer.weight == 1).all() for layer in on_each_process(3, take_over))


def test_gaussians_of_several_ranks_are_those_of_one() -> None:
    levels = levels_of(IMAGES)

    def fit(processes: ProcessGroup) -> tuple[MultiscaleGaussian, torch.Tensor]:
        share, model = processes.shard(IMAGES), new_model()
        batches = in_batches([one[share] for one in levels], [1] * (share.stop - share.start))
        return model, model.fit(MapsInMemory(batches, processes, share.start))

    alone, expected = fit(SINGLE_PROCESS)
    for number in (2, 3):
        for model, distances in on_each_process(number, fit):
            assert len(distances) == IMAGES
            torch.testing.assert_close(distances, expected, rtol=2e-3, atol=1e-3)
            for name, buffer in model.named_buffers():
                torch.testing.assert_close(buffer, alone.get_buffer(name), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("kept", [1, 9, 20])
def test_the_images_left_out_are_the_first_of_all_ranks(kept: int) -> None:
    """Also where they are all the first rank's."""
    levels = levels_of(IMAGES)

    def fit(processes: ProcessGroup) -> torch.Tensor:
        share = processes.shard(IMAGES)
        batch = [one[share] for one in levels]
        return new_model(out_of_fold_images=kept).fit(MapsInMemory([batch], processes, share.start))

    expected = fit(SINGLE_PROCESS)
    assert len(expected) == kept
    for distances in on_each_process(3, fit):
        torch.testing.assert_close(distances, expected, rtol=2e-3, atol=1e-3)


def test_projections_of_several_ranks_are_those_of_one() -> None:
    maps = maps_of(20)

    def fit(processes: ProcessGroup) -> torch.Tensor:
        levels, share = new_levels(), processes.shard(20)
        levels.fit_projections(MapsInMemory([[one[share] for one in maps]], processes, share.start))
        axes: torch.Tensor = levels.projections[1].axes
        return axes.mT @ axes  # what they span, whatever their signs

    alone = fit(SINGLE_PROCESS)
    for span in on_each_process(3, fit):
        torch.testing.assert_close(span, alone, rtol=0, atol=1e-4)


def test_more_ranks_than_images_are_refused() -> None:
    SINGLE_PROCESS.check_not_idle(1)
    with pytest.raises(BlemishError, match="too few for 2 processes"):
        on_each_process(2, lambda processes: processes.check_not_idle(1))


def test_nodes_without_a_place_to_meet_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BlemishError, match="MASTER_ADDR"):
        launch("cpu", devices=1, nodes=2)


@pytest.mark.parametrize(
    ("here", "device", "devices", "sentence"),
    [
        (1, "cuda", 2, "2 cuda devices are asked for and 1 can be used here"),
        (1, "auto", 2, "2 cuda devices are asked for and 1 can be used here"),
        (0, "cuda", 2, "no cuda device can be used here"),
        (2, "cuda", 2, None),
        (0, "auto", 2, None),  # on the processor there is no end of devices
        (1, "cpu", 2, None),
    ],
)
def test_devices_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, here: int, device: str, devices: int, sentence: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BlemishError, match=sentence) if sentence else nullcontext():
        require_device(device, devices=devices)


# Whole trainings, by the command line.


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "blemish", "train", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | variables)


def maps(model: Path, folder: Path) -> list[np.ndarray]:
    return Detector.load(model).score(sorted((folder / "test").rglob("*.png"))).maps


def assert_same_model(model: Path, expected: Path, folder: Path, *, within: float) -> None:
    """The same calibration images, and everywhere in their maps the same values within a share of the largest."""
    ours, theirs = Detector.load(model), Detector.load(expected)
    assert ours.metadata.data == theirs.metadata.data
    assert ours.metadata.used_images == theirs.metadata.used_images
    np.testing.assert_allclose(ours.calibration.scores, theirs.calibration.scores, rtol=within)
    for one, other in zip(maps(model, folder), maps(expected, folder), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=within * other.max())


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    """Of good images alone: rounding is all that may differ, and the ridge lets little of it through."""
    folder = write_parts(tmp_path / "parts", good=15)
    options = ("--size", SIZE, "--json")
    both = [
        start(folder, "-o", tmp_path / "one.onnx", *options),
        start(folder, "-o", tmp_path / "two.onnx", "--devices", 2, "--device", "cpu", *options),
    ]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[1][0].count('"model"') == 1  # one process speaks
    assert told[1][1].count("backbone") == 1
    assert_same_model(tmp_path / "two.onnx", tmp_path / "one.onnx", folder, within=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_with_a_defect_branch_train_the_model_of_one(tmp_path: Path, nodes: int) -> None:
    """Learning by gradient enlarges what rounding differs by: as much as another size of batches does."""
    folder = write_parts(tmp_path / "parts", good=15, labelled=3)
    options = (folder, "--size", SIZE, "--epochs", "2", "--device", "cpu")
    alone = start(*options, "-o", tmp_path / "one.onnx")
    assert alone.wait(timeout=250) == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together = [
        start(
            *options,
            "-o",
            tmp_path / "two.onnx",
            "--devices",
            2 // nodes,
            "--nodes",
            nodes,
            NODE_RANK=str(node),
            **there,
        )
        for node in range(nodes)
    ]
    told = [process.communicate(timeout=250) for process in together]
    assert [process.returncode for process in together] == [0] * nodes, told
    assert_same_model(tmp_path / "two.onnx", tmp_path / "one.onnx", folder, within=0.05)
