"""Backbones against timm's own network run whole."""

import timm
import torch

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
