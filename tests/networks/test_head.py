"""The head: levels joined on one grid, the background's weight, and a defect branch that only adds."""

import numpy as np
import pytest
import torch

from blemish.networks.detector import DetectorNetwork
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.gaussian import PositionGaussians
from blemish.networks.head import BACKGROUND, Head
from helpers.images import noise, stained
from helpers.small_networks import fit, random_branch, random_features

SIZE = (64, 96)


@pytest.fixture(scope="module")
def features() -> FeaturePyramid:
    torch.manual_seed(0)
    return random_features(SIZE)


@pytest.fixture
def head(features: FeaturePyramid) -> Head:
    made = Head(features).eval()
    fit(features, made, [noise(seed, size=SIZE) for seed in range(24)])
    return made


def seen(features: FeaturePyramid, *images: np.ndarray) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Levels and maps of images."""
    with torch.inference_mode():
        maps = features(torch.from_numpy(np.stack(images)))
        return features.to_levels(maps), maps


@torch.inference_mode()
def test_the_map_is_the_pseudo_huber_loss_of_the_joined_distances(features: FeaturePyramid, head: Head) -> None:
    levels, maps = seen(features, noise(100, size=SIZE), stained(101, size=SIZE))
    grid = features.field.grid
    squares = []
    for gaussians, level in zip(head.levels, levels, strict=True):
        distances = gaussians(level).double().numpy()
        squares.append([bilinear(one, grid) ** 2 for one in distances])
    joined = 3 / (1 / np.array(squares)).sum(0)
    expected = np.sqrt(joined + 1) - 1
    np.testing.assert_allclose(head(levels, maps).numpy(), expected, rtol=1e-3, atol=1e-4)


def bilinear(cells: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """A map (h, w) on a finer grid that covers the same area, the outermost cells repeated."""
    for axis, number in enumerate(grid):
        length = cells.shape[axis]
        places = (np.arange(number) + 0.5) * length / number - 0.5
        cells = np.apply_along_axis(lambda line: np.interp(places, np.arange(len(line)), line), axis, cells)  # noqa: B023
    return cells


@torch.inference_mode()
def test_beside_the_part_what_exceeds_the_usual_counts_less(features: FeaturePyramid, head: Head) -> None:
    part = torch.zeros(features.field.grid, dtype=torch.bool)
    part[2:5, 1:9] = True
    weighted = Head(features, part=part).eval()
    weighted.load_state_dict(head.state_dict(), strict=False)
    levels, _ = seen(features, stained(101, size=SIZE))
    whole, found = head.distance(levels)[0], weighted.distance(levels)[0]
    torch.testing.assert_close(found[part], whole[part], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[~part], 1 + BACKGROUND * (whole[~part] - 1), rtol=1e-6, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(5))
def test_the_defect_branch_never_lowers_the_map(seed: int, features: FeaturePyramid, head: Head) -> None:
    levels, maps = seen(features, noise(100, size=SIZE), stained(101, size=SIZE))
    before = head(levels, maps)
    head.defect_branch = random_branch(features, maps, unit=0.5, seed=seed)
    after, logits_in_units = head(levels, maps), head.defect_branch.standardized_logits(maps)
    assert (logits_in_units < 0).any()
    assert (logits_in_units > 0).any()
    assert (after >= before).all()
    torch.testing.assert_close(after[logits_in_units <= 0], before[logits_in_units <= 0], rtol=0, atol=0)
    assert (after > before)[logits_in_units > 0.1].all()


@torch.inference_mode()
def test_the_defect_branch_is_one_more_element_of_the_norm(features: FeaturePyramid, head: Head) -> None:
    levels, maps = seen(features, stained(101, size=SIZE))
    head.defect_branch = random_branch(features, maps, unit=0.5)
    distance = head.distance(levels).double().numpy()
    logits_in_units = head.defect_branch.standardized_logits(maps).clamp(min=0).double().numpy()
    norm = np.linalg.norm([distance, logits_in_units], axis=0)
    np.testing.assert_allclose(head(levels, maps).numpy(), np.sqrt(norm**2 + 1) - 1, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_defect_branch_in_the_background_counts_whole(features: FeaturePyramid) -> None:
    head = Head(features, part=torch.zeros(features.field.grid, dtype=torch.bool)).eval()
    levels, maps = seen(features, stained(101, size=SIZE))
    head.defect_branch = random_branch(features, maps, unit=0.5)
    assert (
        head(levels, maps) >= (head.defect_branch.standardized_logits(maps).clamp(min=0).square() + 1).sqrt() - 1 - 1e-5
    ).all()


@torch.inference_mode()
def test_a_stain_stands_out_where_it_lies(features: FeaturePyramid, head: Head) -> None:
    network = DetectorNetwork(features, head).eval()
    good, bad = (
        network(torch.from_numpy(np.stack([make(seed, size=SIZE) for seed in range(50, 58)])))
        for make in (noise, stained)
    )
    assert (bad.amax((1, 2)) > 2 * good.amax()).all()
    inside = bad[:, 24:40, 36:60].mean((1, 2))
    corners = torch.stack([bad[:, :4, :4], bad[:, -4:, :4], bad[:, :4, -4:], bad[:, -4:, -4:]]).mean((0, 2, 3))
    assert (inside > 2 * corners).all()


def test_each_level_has_its_own_grid(features: FeaturePyramid, head: Head) -> None:
    grids = [gaussians.grid for gaussians in head.levels if isinstance(gaussians, PositionGaussians)]
    assert grids == [level.grid for level in features.levels] == [(8, 12), (4, 6), (2, 3)]
