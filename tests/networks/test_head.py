"""The head: the pseudo-Huber loss of the distance, the background's weight, and a defect branch that only adds."""

import numpy as np
import pytest
import torch

from blemish.networks.build import build_detector
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.head import BackgroundWeight, Head
from blemish.networks.normal_model import NormalModel
from blemish.training.config import MapConfig
from helpers.images import noise, stained
from helpers.small_networks import fit, new_model, random_branch, random_pyramid

SIZE = (64, 96)


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    torch.manual_seed(0)
    return random_pyramid(SIZE)


@pytest.fixture(scope="module")
def model(pyramid: FeaturePyramid) -> NormalModel:
    made = new_model(pyramid)
    fit(pyramid, made, [noise(seed, size=SIZE) for seed in range(24)])
    return made


def seen(pyramid: FeaturePyramid, *images: np.ndarray) -> list[torch.Tensor]:
    """Maps of images."""
    with torch.inference_mode():
        return pyramid(torch.from_numpy(np.stack(images)))


@torch.inference_mode()
def test_the_map_is_the_pseudo_huber_loss_of_the_distance(pyramid: FeaturePyramid, model: NormalModel) -> None:
    maps = seen(pyramid, noise(100, size=SIZE), stained(101, size=SIZE))
    expected = np.sqrt(model(maps).double().numpy() ** 2 + 1) - 1
    np.testing.assert_allclose(Head(model)(maps).numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_beside_the_part_what_exceeds_the_usual_counts_less(pyramid: FeaturePyramid, model: NormalModel) -> None:
    foreground = torch.zeros(pyramid.field.grid, dtype=torch.bool)
    foreground[2:5, 1:9] = True
    weighted = build_detector(
        pyramid, model, background=BackgroundWeight(foreground, MapConfig().background_weight)
    ).head
    maps = seen(pyramid, stained(101, size=SIZE))
    whole, found = model(maps)[0], weighted.distance(maps)[0]
    torch.testing.assert_close(found[foreground], whole[foreground], rtol=1e-6, atol=0)
    expected = 1 + MapConfig().background_weight * (whole[~foreground] - 1)
    torch.testing.assert_close(found[~foreground], expected, rtol=1e-6, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(5))
def test_the_defect_branch_never_lowers_the_map(seed: int, pyramid: FeaturePyramid, model: NormalModel) -> None:
    maps = seen(pyramid, noise(100, size=SIZE), stained(101, size=SIZE))
    branch = random_branch(pyramid, maps, unit=0.5, seed=seed)
    before, after, logits = Head(model)(maps), Head(model, branch)(maps), branch.standardized_logits(maps)
    assert (logits < 0).any()
    assert (logits > 0).any()
    assert (after >= before).all()
    torch.testing.assert_close(after[logits <= 0], before[logits <= 0], rtol=0, atol=0)
    assert (after > before)[logits > 0.1].all()


@torch.inference_mode()
def test_the_defect_branch_is_one_more_element_of_the_norm(pyramid: FeaturePyramid, model: NormalModel) -> None:
    maps = seen(pyramid, stained(101, size=SIZE))
    branch = random_branch(pyramid, maps, unit=0.5)
    norm = np.linalg.norm([model(maps).double().numpy(), branch(maps).double().numpy()], axis=0)
    np.testing.assert_allclose(Head(model, branch)(maps).numpy(), np.sqrt(norm**2 + 1) - 1, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_defect_branch_in_the_background_counts_whole(pyramid: FeaturePyramid, model: NormalModel) -> None:
    maps = seen(pyramid, stained(101, size=SIZE))
    branch = random_branch(pyramid, maps, unit=0.5)
    background = BackgroundWeight(torch.zeros(pyramid.field.grid, dtype=torch.bool), MapConfig().background_weight)
    head = build_detector(pyramid, model, background=background, defect_branch=branch).head
    assert (head(maps) >= (branch(maps).square() + 1).sqrt() - 1 - 1e-5).all()


@torch.inference_mode()
def test_a_stain_stands_out_where_it_lies(pyramid: FeaturePyramid, model: NormalModel) -> None:
    network = build_detector(pyramid, model)
    good, bad = (
        network(torch.from_numpy(np.stack([make(seed, size=SIZE) for seed in range(50, 58)])))
        for make in (noise, stained)
    )
    assert (bad.amax((1, 2)) > 2 * good.amax()).all()
    inside = bad[:, 24:40, 36:60].mean((1, 2))
    corners = torch.stack([bad[:, :4, :4], bad[:, -4:, :4], bad[:, :4, -4:], bad[:, -4:, -4:]]).mean((0, 2, 3))
    assert (inside > 2 * corners).all()
