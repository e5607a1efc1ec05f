"""Backbones against timm's own network run whole."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from blemish.networks.backbones import DEFAULT_BACKBONE, Backbone


def test_what_lies_behind_the_last_stride_is_dropped_and_changes_nothing() -> None:
    backbone = Backbone(strides=(4, 8, 16), pretrained=False).eval()
    whole = timm.create_model(DEFAULT_BACKBONE, features_only=True).eval()
    kept = backbone.trunk.state_dict()
    missing, unexpected = whole.load_state_dict(kept, strict=False)
    assert not unexpected
    assert {name.split(".")[1] for name in missing} == {"5", "6"}  # the blocks of stride 32

    pixels = 255 * torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = whole((pixels - backbone.mean) / backbone.std)[1:4]  # strides 4, 8, 16
        for found, wanted in zip(backbone(pixels), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def weights_of(name: str, folder: Path) -> tuple[torch.nn.Module, Path]:
    """A timm network with all its maps, and its weights in a file."""
    torch.manual_seed(0)
    whole = timm.create_model(name, features_only=True).eval()
    save_file(whole.state_dict(), folder / "whole.safetensors")
    return whole, folder / "whole.safetensors"


@pytest.mark.parametrize(
    ("name", "stage", "blocks"),
    [("resnet18", "layer4", None), ("tf_efficientnet_lite0", "blocks.5", 2), ("mobilenetv2_050", "blocks.5", 2)],
)
def test_what_lies_beyond_is_the_next_stage_s_first_two_blocks(
    name: str, stage: str, blocks: int | None, tmp_path: Path
) -> None:
    whole, file = weights_of(name, tmp_path)
    backbone = Backbone(name, strides=(4, 8, 16), weights=file).eval()
    beyond = backbone.beyond()
    assert beyond is not None
    pixels = 255 * torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        deepest = backbone(pixels)[-1]
        torch.testing.assert_close(beyond(deepest), whole.get_submodule(stage)[:blocks](deepest))


def test_nothing_lies_beyond_the_last_stride_or_the_weights_that_there_are(tmp_path: Path) -> None:
    _, file = weights_of("resnet18", tmp_path)
    assert Backbone("resnet18", strides=(8, 16, 32), weights=file).beyond() is None
    assert Backbone("hrnet_w18_small", strides=(4, 8, 16), pretrained=False).beyond() is None
    used = Backbone("resnet18", strides=(4, 8, 16), weights=file)
    save_file(used.trunk.state_dict(), tmp_path / "used.safetensors")
    assert Backbone("resnet18", strides=(4, 8, 16), weights=tmp_path / "used.safetensors").beyond() is None
