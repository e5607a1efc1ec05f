"""Stages of the backbone that evidence has for itself: where it is cut, what they see, what training leaves alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler

from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.fine_tuned import FineTuned
from blemish.refinement import Anomalies, Training, refine

SIZE = (64, 96)
SHALLOW = 64  # channels of Lite0's strides 4 and 8


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (6, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def features() -> FeatureGrid:
    return FeatureGrid(Backbone(), size=SIZE).eval()


def tuned_on(features: FeatureGrid) -> FineTuned:
    torch.manual_seed(0)
    made = FineTuned.of(features, hidden=16)
    assert made is not None
    return made.eval()


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto"])
@pytest.mark.parametrize("strides", [(4, 8, 16), (8, 16, 32), (8, 32)])
def test_a_backbone_goes_on_behind_a_stride(name: str, strides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, strides=strides, pretrained=False).eval()
    with torch.inference_mode():
        maps = backbone(255 * torch.rand(1, 3, 64, 96))
        stages = backbone.behind(8)
        assert stages is not None
        torch.testing.assert_close(stages(maps[strides.index(8)]), maps[-1])


def test_its_own_stages_are_a_copy(features: FeatureGrid) -> None:
    stages = features.backbone.behind(8)
    assert stages is not None
    own, others = ({tensor.data_ptr() for tensor in module.parameters()} for module in (stages, features))
    assert not own & others


def test_a_network_without_a_row_of_stages_has_none() -> None:
    backbone = Backbone("hrnet_w18_small", strides=(4, 8, 16), pretrained=False)
    assert backbone.behind(8) is None
    assert FineTuned.of(FeatureGrid(backbone, size=SIZE), hidden=16) is None


def test_its_inputs_are_the_shallow_features_and_the_backbones_map(features: FeatureGrid, pixels: torch.Tensor) -> None:
    tuned = tuned_on(features)
    with torch.inference_mode():
        grid, maps = features.with_maps(pixels)
        torch.testing.assert_close(grid, features(pixels))
        torch.testing.assert_close(maps, features.backbone(pixels.permute(0, 3, 1, 2).float()))
        seen = tuned.sees(grid, maps)
    torch.testing.assert_close(seen, torch.cat([grid[:, :SHALLOW], maps[1]], 1))
    with pytest.raises(ValueError, match="with_maps"):
        tuned.sees(grid, ())


def test_its_logits_are_those_of_a_literal_forward_pass(features: FeatureGrid, pixels: torch.Tensor) -> None:
    tuned = tuned_on(features)
    with torch.inference_mode():
        seen = tuned.sees(*features.with_maps(pixels)).half()
        tuned.standardise_by(seen)
        got = tuned(seen[:2].float()).numpy()

        def scaled(vectors: torch.Tensor) -> torch.Tensor:
            """Standardised by scikit-learn over all cells of all images; the first two images."""
            rows = vectors.double().permute(0, 2, 3, 1).reshape(-1, vectors.shape[1])
            standard = StandardScaler().fit_transform(rows.numpy())
            back = torch.from_numpy(standard).reshape(len(vectors), *vectors.shape[2:], -1).permute(0, 3, 1, 2)
            return back[:2].float()

        def leaky(x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, 0.1 * x)

        blocks = features.backbone.trunk.blocks
        deep = blocks[3](seen[:, SHALLOW:].float())
        for block in blocks[4][:-1]:  # all residual blocks of the last stage but one
            deep = block(deep)
        deep = leaky(tuned.deep.layer(scaled(deep)))
        for layer in tuned.around:
            deep = leaky(deep + layer.layers(deep))
        shallow = tuned.shallow.layer(scaled(seen[:, :SHALLOW]))
        cells = leaky(shallow + F.interpolate(deep, shallow.shape[-2:], mode="bilinear", align_corners=False))
        expected = tuned.last(leaky(cells + tuned.mix(cells)))[:, 0].numpy()
    np.testing.assert_allclose(got, expected, rtol=5e-3, atol=5e-3)  # deep features are kept as float16


def material(tuned: FineTuned, features: FeatureGrid, pixels: torch.Tensor) -> dict[str, Any]:
    """Three nominal images and three with a defect in a corner, for `refine`."""
    with torch.inference_mode():
        seen = tuned.sees(*features.with_maps(pixels)).half()
    covered = torch.zeros(3, *seen.shape[-2:])
    covered[:, :3, :3] = 1
    known = Anomalies(seen[3:].clone(), covered, torch.zeros(3, dtype=torch.int64))
    return {"nominal": seen[:3].clone(), "anomalies": known}


def test_training_moves_the_stages_and_nothing_that_others_see(
    features: FeatureGrid, pixels: torch.Tensor, training: Training
) -> None:
    tuned = tuned_on(features)
    before = {name: tensor.clone() for name, tensor in features.state_dict().items()}
    stages = {name: tensor.clone() for name, tensor in tuned.stages.state_dict().items()}
    refine(tuned, **material(tuned, features, pixels), training=training, stage="evidence")
    torch.testing.assert_close(dict(features.state_dict()), before, rtol=0, atol=0)
    for name, tensor in tuned.stages.state_dict().items():
        if "running" in name or "num_batches" in name:
            torch.testing.assert_close(tensor, stages[name], rtol=0, atol=0)
        elif "conv" in name:
            assert not torch.equal(tensor, stages[name]), name


def test_a_killed_training_ends_in_the_same_stages(
    features: FeatureGrid, pixels: torch.Tensor, training: Training, killed_after: Callable
) -> None:
    whole = tuned_on(features)
    known = material(whole, features, pixels)
    refine(whole, **known, training=training, stage="whole")
    with killed_after(2):
        refine(tuned_on(features), **known, training=training, stage="killed")
    resumed = tuned_on(features)
    refine(resumed, **known, training=training, stage="killed")
    torch.testing.assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)
