"""Wide cells against loops over cells, what lies beyond against timm, and maps against numpy's interpolation."""

import numpy as np
import pytest
import timm
import torch

from blemish.closed_form import CrossFit
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.gaussian import GaussianHead, View
from blemish.networks.heads import Head
from blemish.networks.wide_cells import WideCells, lean

SIZE = (64, 96)
GRID = (8, 12)


@pytest.fixture(scope="module")
def features() -> FeatureGrid:
    return FeatureGrid(Backbone(), size=SIZE).eval().deepest()


@pytest.fixture(scope="module")
def wide(features: FeatureGrid) -> WideCells:
    return WideCells(features, beyond=features.backbone.beyond()).eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def averaged(cells: np.ndarray) -> np.ndarray:
    """Each cell (h, w) the mean of itself and of its neighbours, where there are any."""
    rows, columns = cells.shape
    return np.array(
        [[cells[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(columns)] for i in range(rows)]
    )


def between(cells: np.ndarray, to: tuple[int, int]) -> np.ndarray:
    """Cells (h, w) at the centres of a grid twice as fine (H, W), linearly; beyond the outermost as these."""
    rows, columns = (2 * np.arange(side) + 0.5 for side in cells.shape)  # in cells of the fine grid
    along = np.array([np.interp(np.arange(to[1]), columns, row) for row in cells])
    return np.array([np.interp(np.arange(to[0]), rows, column) for column in along.T]).T


@torch.inference_mode()
def test_the_deepest_features_are_the_last_of_all(features: FeatureGrid, pixels: torch.Tensor) -> None:
    whole = FeatureGrid(Backbone(), size=SIZE).eval()
    assert features.channels == 112
    torch.testing.assert_close(features(pixels), whole(pixels)[:, 64:], rtol=0, atol=0)


@torch.inference_mode()
def test_one_view_is_of_means_of_four_averaged_twice_of_the_deepest_features(wide: WideCells) -> None:
    seen = torch.randn(2, 112, *GRID)
    got = wide.of_the_grid(seen).numpy()
    assert got.shape == (2, 112, *wide.grid) == (2, 112, 4, 6)
    for image, channel in [(0, 0), (1, 57), (1, 111)]:
        deepest = seen[image, channel].double().numpy()
        expected = averaged(averaged(deepest.reshape(4, 2, 6, 2).mean((1, 3))))
        np.testing.assert_allclose(got[image, channel], expected, atol=1e-5)


@torch.inference_mode()
def test_the_other_is_of_the_next_two_blocks_of_the_same_network(
    features: FeatureGrid, wide: WideCells, pixels: torch.Tensor
) -> None:
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    own = Backbone(strides=(4, 8, 16, 32)).trunk.state_dict()
    whole.load_state_dict(own, strict=False)
    scaled = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
    deep = whole.bn1(whole.conv_stem(scaled))
    for stage in whole.blocks[:5]:
        deep = stage(deep)
    for block in whole.blocks[5][:2]:
        deep = block(deep)
    got = wide(*features.with_maps(pixels))
    assert wide.views == [View.whole(112), View(192, 28)]
    assert got.shape == (2, 112 + 192, 4, 6)
    torch.testing.assert_close(got[:, :112], wide.of_the_grid(features(pixels)))
    for image, channel in [(0, 0), (1, 100), (1, 191)]:
        expected = averaged(averaged(averaged(between(deep[image, channel].double().numpy(), wide.grid))))
        np.testing.assert_allclose(got[image, 112 + channel].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(("side", "cells"), [(64, 2), (80, 3), (96, 3), (144, 5)])
def test_what_lies_beyond_fits_images_of_any_size(side: int, cells: int) -> None:
    grid = FeatureGrid(Backbone(pretrained=False), size=(side, 64)).eval().deepest()
    beyond = WideCells(grid, beyond=grid.backbone.beyond()).eval()
    assert beyond.bring.rows.shape == (side // 16, cells)
    with torch.inference_mode():
        made = beyond(*grid.with_maps(torch.zeros(1, side, 64, 3, dtype=torch.uint8)))
    assert made.shape == (1, 304, side // 16, 4)


def test_a_network_that_ends_there_has_one_view() -> None:
    grid = FeatureGrid(Backbone(strides=(4, 8, 16, 32), pretrained=False), size=SIZE).eval().deepest()
    alone = WideCells(grid, beyond=grid.backbone.beyond()).eval()
    assert alone.beyond is None
    assert alone.views == [View.whole(320)]
    with torch.inference_mode():
        pixels = torch.zeros(1, *SIZE, 3, dtype=torch.uint8)
        torch.testing.assert_close(alone(*grid.with_maps(pixels)), alone.of_the_grid(grid(pixels)))


@torch.inference_mode()
def test_their_maps_come_back_linearly_between_the_centres(wide: WideCells) -> None:
    maps = torch.rand(1, *wide.grid)
    np.testing.assert_allclose(wide.back(maps)[0].numpy(), between(maps[0].double().numpy(), GRID), atol=1e-6)


def test_a_head_compares_by_them_and_its_evidence_by_the_features(
    features: FeatureGrid, wide: WideCells, pixels: torch.Tensor
) -> None:
    torch.manual_seed(0)
    gaussian = GaussianHead(wide.views, grid=wide.grid)
    gaussian.mean.normal_()
    gaussian.scale.uniform_(0.5, 2)
    head = Head(gaussian, wide=wide)
    with torch.inference_mode():
        seen = features.with_maps(pixels)
        distances = wide.back(gaussian(wide(*seen)))
        got = head(*seen)
        assert head.first_opinion().wide is wide
    np.testing.assert_allclose(got.numpy(), np.sqrt(distances.double().numpy() ** 2 + 1) - 1, rtol=1e-4)


@torch.inference_mode()
def test_bringing_only_the_directions_that_count_changes_no_distance(
    features: FeatureGrid, wide: WideCells, pixels: torch.Tensor
) -> None:
    images = torch.randint(0, 256, (12, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    cross_fit = CrossFit(GaussianHead(wide.views, grid=wide.grid))
    cross_fit.fit([wide(*features.with_maps(images))])
    fewer, gaussian = lean(wide, cross_fit.head)
    maps = features.with_maps(pixels)
    assert fewer(*maps).shape[1] == 112 + 28
    whitened = cross_fit.head.whiten(wide(*maps))
    torch.testing.assert_close(gaussian.whiten(fewer(*maps)), whitened, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gaussian(fewer(*maps)), cross_fit.head(wide(*maps)), rtol=1e-3, atol=1e-3)
    assert wide(*maps).shape[1] == 112 + 192  # the ones that were fitted with are as they were


def test_a_single_view_has_nothing_to_be_made_less_of(features: FeatureGrid) -> None:
    alone = WideCells(features, beyond=None)
    gaussian = GaussianHead(alone.views, grid=alone.grid)
    assert lean(alone, gaussian) == (alone, gaussian)
