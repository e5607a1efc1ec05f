"""The one place that puts networks together: what it refuses, and what each part adds."""

import numpy as np
import pytest
import torch

from blemish import plugins
from blemish.errors import BlemishError
from blemish.networks.build import build_detector, build_ensemble, build_normal_model
from blemish.networks.detector import MinEnsemble
from blemish.networks.extractor import load_extractor
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.input_mask import InputMask
from blemish.training.config import TrainConfig
from helpers.images import noise, stained
from helpers.small_networks import fitted_network, new_model, random_pyramid

SIZE = (64, 96)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(BlemishError, match="no method called 'none'; there are gaussian, "):
        build_normal_model("none", random_pyramid(SIZE), TrainConfig())


def test_an_entry_that_is_no_normal_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.METHODS._builtin, "wrong", "blemish.networks.extractor:load_extractor")
    with pytest.raises(BlemishError, match=r"'wrong' is no subclass of NormalModel: blemish\.networks\.extractor"):
        build_normal_model("wrong", random_pyramid(SIZE), TrainConfig())


def test_an_unknown_backbone_is_refused_and_similar_ones_are_named() -> None:
    with pytest.raises(BlemishError, match=r"no backbone called 'resnet_19'; close to it: .*resnet"):
        load_extractor("resnet_19")


@torch.inference_mode()
def test_an_ensemble_of_one_is_itself_and_of_several_their_minimum() -> None:
    networks = [fitted_network([noise(10 * k + seed, size=SIZE) for seed in range(8)]) for k in range(2)]
    assert build_ensemble(networks[:1]) is networks[0]
    ensemble = build_ensemble(networks)
    assert isinstance(ensemble, MinEnsemble)
    pixels = torch.from_numpy(np.stack([noise(50, size=SIZE), stained(51, size=SIZE)]))
    expected = np.minimum(*(network(pixels).numpy() for network in networks))
    np.testing.assert_array_equal(ensemble(pixels).numpy(), expected)


@torch.inference_mode()
def test_what_lies_under_the_input_mask_has_no_say() -> None:
    network = fitted_network([noise(seed, size=SIZE) for seed in range(8)])
    ignored = np.zeros(SIZE, dtype=bool)
    ignored[:, 48:] = True
    masked = build_detector(
        network.pyramid, network.head.distance[0], input_mask=InputMask(ignored, noise(99, size=SIZE))
    )
    one, other = noise(50, size=SIZE), noise(50, size=SIZE)
    other[:, 48:] = 0
    maps = masked(torch.from_numpy(np.stack([one, other])))
    assert torch.equal(maps[0], maps[1])
    assert (maps[:, :, 48:] == 0).all()


@pytest.mark.parametrize(("stride", "sigma"), [(8, 5.0), (16, 10.0), (32, 20.0)])
def test_a_coarser_map_is_enlarged_by_a_wider_gaussian(stride: int, sigma: float) -> None:
    pyramid = FeaturePyramid(load_extractor("test_resnet", pretrained=False), size=(128, 128), stride=stride)
    rows = build_detector(pyramid, new_model(pyramid)).upsample.rows.double().numpy()  # (H, h)
    weights = rows[stride + stride // 2 - 1]  # half a pixel before the middle of the second cell
    assert weights[2] / weights[1] == pytest.approx(np.exp(-0.5 * ((stride + 0.5) ** 2 - 0.5**2) / sigma**2), rel=1e-4)
