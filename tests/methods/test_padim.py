"""PaDiM against the panel's own, which shares no code with it but the backbone."""

import numpy as np
import pytest
import torch

from blemish.methods.padim import MAX_CHANNELS, PaDiM
from blemish.training.feature_extraction import MapsInMemory
from helpers.images import noise
from helpers.scripts import load_script
from helpers.small_networks import new_model, random_pyramid

SIZE = (64, 96)


def maps_of(pyramid, seeds: range) -> list[torch.Tensor]:
    with torch.inference_mode():
        return pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in seeds])))


@torch.inference_mode()
def test_distances_are_those_of_the_panel_s_peer() -> None:
    torch.manual_seed(0)
    pyramid = random_pyramid(SIZE, backbone="test_efficientnet")
    nominal, new = maps_of(pyramid, range(12)), maps_of(pyramid, range(50, 53))
    model = new_model(pyramid, "padim")
    assert isinstance(model, PaDiM)
    distances = model.fit(MapsInMemory([nominal]))
    one_grid, peer = load_script("panel.features").one_grid, load_script("panel.peers").PositionGaussians()
    torch.testing.assert_close(model.vectors(new), one_grid(new[:3]), rtol=1e-4, atol=1e-5)
    peer.fit(one_grid(nominal[:3]))
    torch.testing.assert_close(model(new) * model.gaussians.unit, peer.score(one_grid(new[:3])), rtol=5e-3, atol=1e-3)
    assert distances.shape == (12, 8, 12)
    assert float(distances.mean()) == pytest.approx(1, rel=1e-4)


@torch.inference_mode()
def test_of_many_channels_some_are_drawn_by_the_seed() -> None:
    pyramid = random_pyramid((64, 64), backbone="resnet18")  # 64 + 128 + 256 channels
    one, same, other = (new_model(pyramid, "padim", seed=seed).chosen for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.unique().tolist() == one.tolist()
    assert len(one) == MAX_CHANNELS
