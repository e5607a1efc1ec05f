"""An unfinished training is gone on with only where it would come to the same, and says what is different otherwise."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from blemish.datasets.layouts import read_data_set
from blemish.datasets.pixels import read_pixels
from blemish.errors import BlemishError
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.io.files import fingerprint, folder_state
from blemish.training import resume_key as keys
from blemish.training.checkpoint import Checkpoint, fault_of_left, remove_checkpoints
from blemish.training.config import DefectBranchConfig
from blemish.training.resume_key import difference, resume_key
from blemish.training.run import train
from helpers.images import noise, save_image, stained

SIZE = (32, 64)


def write_set(root: Path) -> Path:
    for index in range(3):
        save_image(root / f"data/train/good/{index}.png", noise(index))
        save_image(root / f"others/deep/{index}.png", noise(50 + index))
    for index in range(2):
        save_image(root / f"data/train/stain/{index}.png", stained(10 + index))
        save_image(
            root / f"data/ground_truth/stain/{index}_mask.png", np.full((64, 64), 255 * (index + 1) // 2, np.uint8)
        )
        mask = np.zeros((64, 64), np.uint8)
        mask[:16] = 255
        save_image(root / f"ignored/stain/{index}.png", mask)
    torch.save({"deeper": torch.zeros(2)}, root / "weights.pt")
    return root


def key_of(root: Path, *, settings: dict | None = None, bias: float = 0.0, **options: object) -> str:
    pixels = read_pixels(
        read_data_set(root / "data").train,
        SIZE,
        ignore=IgnoreMask(root / "ignored"),
        progress=lambda done, total: None,
        notify=lambda text: None,
    )
    labelled = [index for index, sample in enumerate(pixels.samples) if sample.anomalous]
    backbone = nn.Linear(2, 2)
    nn.init.constant_(backbone.weight, 1.0)
    nn.init.constant_(backbone.bias, bias)
    given = {"weights": root / "weights.pt", "outliers": root / "others"} | options
    return resume_key(settings or {"seed": 0}, pixels, labelled, backbone, **given)


def paint(path: Path, pixels: np.ndarray) -> None:
    save_image(path, pixels)


def move_a_label(root: Path) -> None:
    (root / "data/train/crack").mkdir()
    shutil.move(root / "data/train/stain/0.png", root / "data/train/crack/0.png")


def swap_good_images(root: Path) -> None:
    first, second = (root / f"data/train/good/{index}.png" for index in (0, 1))
    first.rename(root / "aside.png")
    second.rename(first)
    (root / "aside.png").rename(second)


def relabel_a_good_image(root: Path) -> None:
    shutil.move(root / "data/train/good/2.png", root / "data/train/stain/2.png")


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("masks", lambda root: paint(root / "data/ground_truth/stain/1_mask.png", np.eye(64, dtype=np.uint8) * 255)),
    ("masks", lambda root: (root / "data/ground_truth/stain/0_mask.png").unlink()),
    ("labels", move_a_label),
    ("labels", relabel_a_good_image),
    ("images", swap_good_images),
    ("images", lambda root: paint(root / "data/train/good/1.png", noise(99))),
    ("ignored parts", lambda root: paint(root / "ignored/stain/0.png", np.eye(64, dtype=np.uint8) * 255)),
    ("weights", lambda root: torch.save({"deeper": torch.ones(2)}, root / "weights.pt")),
    ("outliers", lambda root: paint(root / "others/deep/1.png", stained(3))),
    ("outliers", lambda root: paint(root / "others/more.png", noise(7))),
    ("outliers", lambda root: (root / "others/deep/1.png").unlink()),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[f"{i} {what}" for i, (what, _) in enumerate(CHANGES)])
def test_whatever_a_training_reads_is_in_its_key(what: str, change: Callable[[Path], object], tmp_path: Path) -> None:
    before = key_of(write_set(tmp_path))
    assert key_of(tmp_path) == before
    change(tmp_path)
    after = key_of(tmp_path)
    assert after != before
    assert what in difference(before, after)


def test_outliers_count_by_their_contents_where_these_are_soon_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uncompressed images all have one size, and archives give them one time."""
    file = write_set(tmp_path) / "others/raw.bmp"
    save_image(file, noise(1))
    os.utime(file, (0, 0))
    before = key_of(tmp_path)
    os.utime(file, (9, 9))
    assert key_of(tmp_path) == before
    save_image(file, noise(2))
    os.utime(file, (9, 9))
    assert difference(before, key_of(tmp_path)) == "other outliers"
    monkeypatch.setattr(keys, "SOON_READ", 10)
    before = key_of(tmp_path)
    os.utime(file, (10, 10))
    assert difference(before, key_of(tmp_path)) == "other outliers"


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("options", {"settings": {"seed": 1}}),
        ("options", {"settings": {"seed": 0, "bits": 12}}),
        ("weights", {"bias": 0.5}),
        ("weights", {"weights": None}),
        ("outliers", {"outliers": None}),
        ("device", {"device": "cuda bf16-mixed"}),
        ("device", {"processes": 2}),
    ],
)
def test_options_weights_and_device_are_in_the_key(what: str, options: dict, tmp_path: Path) -> None:
    assert difference(key_of(write_set(tmp_path)), key_of(tmp_path, **options)) == f"other {what}"


@pytest.mark.parametrize("package", ["blemish", "torch", "timm", "numpy"])
def test_another_version_has_another_key(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = key_of(write_set(tmp_path)), keys.version
    if package == "blemish":
        monkeypatch.setattr(keys, "__version__", "99.0")
    else:
        monkeypatch.setattr(keys, "version", lambda name: "99.0" if name == package else version(name))
    assert difference(before, key_of(tmp_path)) == "other versions"


def test_another_place_and_other_files_of_the_same_pixels_make_no_other_key(tmp_path: Path) -> None:
    before = key_of(write_set(tmp_path / "here"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")  # copytree keeps times
    for path in sorted((tmp_path / "there/data/train/good").iterdir()):
        save_image(path.with_suffix(".bmp"), noise(int(path.stem)))
        path.unlink()
    assert key_of(tmp_path / "there") == before


def test_a_key_of_another_kind_differs_in_words() -> None:
    assert difference('{"options": "1"}', "no JSON") == "other data or options"
    assert difference('{"options": "1", "masks": "2"}', '{"options": "2", "masks": "3"}') == "other options and masks"


def test_the_state_of_a_folder_sees_links_and_ends_in_loops(tmp_path: Path) -> None:
    save_image(tmp_path / "a/1.png", noise(1))
    os.symlink(tmp_path / "nowhere", tmp_path / "a/broken.png")
    os.symlink(tmp_path / "a", tmp_path / "a/loop")
    before = folder_state(tmp_path / "a")
    assert folder_state(tmp_path / "a") == before
    (tmp_path / "a/2.png").write_bytes(b"more")
    assert folder_state(tmp_path / "a") != before
    with pytest.raises(BlemishError, match="no such"):
        folder_state(tmp_path / "missing")


FEW = DefectBranchConfig(nominal_copies=24, labelled_images=24)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("masks", marks=pytest.mark.slow),
        "labels",
        pytest.param("weights", marks=pytest.mark.slow),
    ],
)
def test_a_training_that_was_killed_before_a_change_comes_to_what_a_whole_one_does(
    what: str, tmp_path: Path, killed_after: Callable
) -> None:
    from safetensors.torch import save_file

    from blemish.networks.timm_cnn import TimmCNN

    root = write_set(tmp_path)
    for index in range(3, 8):
        save_image(root / f"data/train/good/{index}.png", noise(index))
    state = TimmCNN().backbone.state_dict()
    save_file(state, tmp_path / "one.safetensors")
    name = next(name for name in state if name.endswith("weight"))
    save_file(state | {name: state[name] * 1.01}, tmp_path / "two.safetensors")
    told: list[str] = []

    def train_into(folder: str, weights: str = "one") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        output = tmp_path / folder / "m.onnx"
        file = tmp_path / f"{weights}.safetensors"
        train(root / "data", output, size=(64, 64), epochs=3, weights=file, defect_branch=FEW, notify=told.append)
        return output

    with killed_after(2, stage="defect branch"):
        train_into("killed")
    if what == "masks":
        paint(root / "data/ground_truth/stain/1_mask.png", np.eye(64, dtype=np.uint8) * 255)
    elif what == "labels":
        relabel_a_good_image(root)
    told.clear()
    other = "two" if what == "weights" else "one"
    output = train_into("killed", other)
    assert any(one.startswith("starting over: ") and what in one for one in told)
    assert not any("resumed" in one for one in told)
    assert fingerprint(output) == fingerprint(train_into("whole", other))
    assert os.listdir(tmp_path / "killed") == ["m.onnx"]


@pytest.fixture
def left(tmp_path: Path) -> Callable[[str, str], Path]:
    """Leaves the state of a training with a key in a stage, beside m.onnx."""

    def leave(key: str, stage: str) -> Path:
        checkpoint = Checkpoint.beside(tmp_path / "m.onnx", key=key, stage=stage)
        checkpoint.save({"weight": torch.ones(2)}, {"epoch": 1})
        return checkpoint.folder / "state.safetensors"

    return leave


OURS, THEIRS = ('{"options": "1", "masks": "1"}', '{"options": "1", "masks": "2"}')


@pytest.mark.parametrize("stage", ["defect branch", "fold3.defect branch", "gate"])
def test_a_state_of_whatever_stage_that_is_not_gone_on_with_is_said(stage: str, left: Callable, tmp_path: Path) -> None:
    left(THEIRS, stage)
    assert fault_of_left(tmp_path / "m.onnx", OURS) == "had other masks"
    assert fault_of_left(tmp_path / "m.onnx", THEIRS) is None
    assert fault_of_left(tmp_path / "another.onnx", OURS) is None


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_damaged_state_is_said(share: float, left: Callable, tmp_path: Path) -> None:
    file = left(OURS, "defect branch")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert fault_of_left(tmp_path / "m.onnx", OURS) == "is damaged"


def test_nothing_is_said_of_no_state_nor_beside_one_that_is_gone_on_with(left: Callable, tmp_path: Path) -> None:
    assert fault_of_left(tmp_path / "m.onnx", OURS) is None
    (tmp_path / ".m.onnx.defect_branch.checkpoint").mkdir()  # killed before the first state
    assert fault_of_left(tmp_path / "m.onnx", OURS) is None
    left(OURS, "defect branch")
    left(THEIRS, "fold1.defect branch")
    assert fault_of_left(tmp_path / "m.onnx", OURS) is None


def test_checkpoints_of_other_options_go_and_those_of_other_models_stay(tmp_path: Path) -> None:
    ours = [".m.onnx.defect_branch.checkpoint", ".m.onnx.fold7.defect_branch.checkpoint", ".m.onnx.gate.checkpoint"]
    theirs = [
        ".other.onnx.defect_branch.checkpoint",
        ".m.onnx2.defect_branch.checkpoint",
        "m.onnx.defect_branch.checkpoint",
        ".m.onnx.mine",
    ]
    for name in ours + theirs:
        (tmp_path / name).mkdir()
    remove_checkpoints(tmp_path / "m.onnx")
    assert sorted(os.listdir(tmp_path)) == sorted(theirs)
