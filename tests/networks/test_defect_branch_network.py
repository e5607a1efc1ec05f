"""The defect branch: its layers against torch's own, what it sees of the maps against loops over cells."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from torch import nn

from blemish.networks.defect_branch import DefectBranch, Dilated, Standardised
from blemish.training.config import DefectBranchConfig
from helpers.images import noise
from helpers.small_networks import random_branch, random_pyramid

SIZE = (64, 96)


def seen_by(backbone: str) -> tuple[DefectBranch, list[torch.Tensor], torch.Tensor]:
    """A network, the backbone's maps of two images, and what it sees of them."""
    pyramid = random_pyramid(SIZE, backbone=backbone)
    branch = DefectBranch(pyramid, maps=DefectBranchConfig().maps, hidden=8).eval()
    with torch.inference_mode():
        maps = pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in range(2)])))
        return branch, maps, branch.inputs(maps)


# What it sees


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "test_resnet"])
def test_it_sees_three_maps_on_one_grid_and_the_range_of_the_finest(backbone: str) -> None:
    branch, maps, inputs = seen_by(backbone)
    fine, own, deep = (one.shape[1] for one in maps[:3])
    assert inputs.shape == (2, fine + own + deep + fine, 8, 12)
    torch.testing.assert_close(inputs[:, fine : fine + own], maps[1], rtol=0, atol=0)
    ranges = inputs[:, fine + own + deep :].numpy()
    for image, channel, row, column in np.ndindex(2, 3, 8, 12):
        inside = maps[0][image, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].numpy()
        assert ranges[image, channel, row, column] == pytest.approx(np.ptp(inside), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(branch.inputs([*maps[:3], torch.full_like(maps[3], torch.nan)]), inputs)


def test_inputs_are_standardised_as_scikit_learn_does() -> None:
    torch.manual_seed(0)
    layer = Standardised(5, 3)
    nominal = (40 + 3 * torch.randn(30, 5, 4, 6)).half()
    nominal[:, 2] = 7  # the same everywhere
    layer.standardise_by(nominal)
    new = 40 + torch.randn(2, 5, 4, 6)
    new[:, 2] = 7
    vectors = nominal.double().permute(0, 2, 3, 1).flatten(0, 2).numpy()
    scaled = StandardScaler().fit(vectors).transform(new.double().permute(0, 2, 3, 1).flatten(0, 2).numpy())
    weight = layer.layer.weight.detach().double().numpy()[:, :, 0, 0]
    expected = scaled @ weight.T + layer.layer.bias.detach().double().numpy()
    found = layer(new).detach().permute(0, 2, 3, 1).flatten(0, 2).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_it_stands_above_the_usual_logit_in_units_of_the_spread() -> None:
    pyramid = random_pyramid(SIZE)
    with torch.inference_mode():
        maps = pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in range(4)])))
        branch = random_branch(pyramid, maps, unit=0.25)
        logits_in_units, logits = branch.standardized_logits(maps), branch.classifier(branch.inputs(maps))
    assert logits_in_units.shape == (4, 8, 12)
    assert float(logits_in_units.median()) == pytest.approx(0, abs=1e-4)
    assert float(logits_in_units.std()) == pytest.approx(4, rel=1e-3)
    torch.testing.assert_close(logits, branch.logit_centre + branch.logit_scale * logits_in_units)


# Its layers


@settings(max_examples=40, deadline=None)
@given(
    apart=st.integers(1, 4),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_a_dilated_convolution_learns_as_torchs_does(
    apart: int, rows: int, columns: int, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    options = {"padding": 2 * apart, "dilation": apart, "groups": channels}
    plain = nn.Conv2d(channels, channels, 5, **options).double()
    ours = Dilated(channels, channels, 5, **options).double()
    ours.load_state_dict(plain.state_dict())
    cells, back = torch.randn(2, 3, channels, rows, columns, dtype=torch.float64)
    seen = [cells.clone().requires_grad_() for _ in range(2)]
    made = [layer(one) for layer, one in zip((ours, plain), seen, strict=True)]
    torch.testing.assert_close(*made)
    for one in made:
        one.backward(back)
    torch.testing.assert_close(seen[0].grad, seen[1].grad)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad)
    torch.testing.assert_close(ours.eval()(cells), made[0].detach())
