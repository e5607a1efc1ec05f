"""Backbones against timm's own network run whole."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from blemish.errors import BlemishError
from blemish.networks.timm_cnn import DEFAULT_BACKBONE, TimmCNN


def test_what_lies_behind_the_last_stride_is_dropped_and_changes_nothing() -> None:
    backbone = TimmCNN(strides=(4, 8, 16), pretrained=False).eval()
    whole = timm.create_model(DEFAULT_BACKBONE, features_only=True).eval()
    kept = backbone.backbone.state_dict()
    missing, unexpected = whole.load_state_dict(kept, strict=False)
    assert not unexpected
    assert {name.split(".")[1] for name in missing} == {"5", "6"}  # the blocks of stride 32

    pixels = 255 * torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = whole((pixels - backbone.mean) / backbone.std)[1:4]  # strides 4, 8, 16
        for found, wanted in zip(backbone(pixels), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def resnet(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Saves something made of a resnet18's weights."""
    return lambda path: torch.save(change(timm.create_model("resnet18").state_dict()), path)


FOREIGN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda path: None, "w.pth", "there is no weights file"),
    "a folder": (lambda path: path.mkdir(), "w.pth", "a folder, not a file"),
    "empty": (lambda path: path.write_bytes(b""), "w.pth", "cannot be read as weights"),
    "text": (lambda path: path.write_text("hello"), "w.pth", "cannot be read as weights"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG" + bytes(99)), "w.pth", "cannot be read as weights"),
    "text by another name": (lambda path: path.write_text("hello"), "w.safetensors", "cannot be read as weights"),
    "a header without an end": (lambda path: path.write_bytes(b"\xff" * 64), "w.safetensors", "cannot be read"),
    "cut short": (
        lambda path: (resnet(dict)(path), path.write_bytes(path.read_bytes()[:100_000])),
        "w.pth",
        "cannot be read as weights",
    ),
    "a whole network": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "w.pth", "cannot be read as weights"),
    "a list": (lambda path: torch.save([1, 2], path), "w.pth", "holds no state dict"),
    "a tensor": (lambda path: torch.save(torch.ones(2), path), "w.pth", "holds no state dict"),
    "nothing in it": (lambda path: torch.save({}, path), "w.pth", "it is empty"),
    "nested": (resnet(lambda state: {"state_dict": state}), "w.pth", "no state dict at its top ('state_dict')"),
    "another network's": (
        lambda path: torch.save(timm.create_model("mobilenetv2_050").state_dict(), path),
        "w.pth",
        "does not fit the backbone resnet18 (conv1.weight is missing)",
    ),
    "of another shape": (
        resnet(lambda state: state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}),
        "w.pth",
        "(conv1.weight is (64, 1, 7, 7), not (64, 3, 7, 7))",
    ),
    "not a tensor": (resnet(lambda state: state | {"conv1.weight": 5}), "w.pth", "(conv1.weight is missing)"),
}


@pytest.mark.parametrize(("make", "name", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_other_weights_is_refused_in_one_sentence(
    make: Callable[[Path], object], name: str, words: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(BlemishError) as caught:
        TimmCNN("resnet18", weights=tmp_path / name)
    assert words in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_may_be_named_by_text(tmp_path: Path) -> None:
    resnet(dict)(tmp_path / "w.pth")
    TimmCNN("resnet18", weights=str(tmp_path / "w.pth"))


def test_training_says_so_too(run: Callable, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("hello")
    outcome = run("train", parts, "-o", tmp_path / "m.onnx", "--backbone", "resnet18", "--weights", tmp_path / "w.pth")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith(f"blemish: {tmp_path / 'w.pth'} cannot be read as weights")
