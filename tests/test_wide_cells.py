"""Wide cells against loops over cells, and their maps against numpy's interpolation."""

import numpy as np
import pytest
import torch

from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.gaussian import GaussianHead
from blemish.networks.heads import Head
from blemish.networks.wide_cells import WideCells

SIZE = (64, 96)
GRID = (8, 12)


@pytest.fixture(scope="module")
def wide() -> WideCells:
    return WideCells(FeatureGrid(Backbone(pretrained=False), size=SIZE))


def averaged(cells: np.ndarray) -> np.ndarray:
    """Each cell (h, w) the mean of itself and of its neighbours, where there are any."""
    rows, columns = cells.shape
    return np.array(
        [[cells[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(columns)] for i in range(rows)]
    )


def test_they_are_means_of_four_averaged_twice_of_the_deepest_features(wide: WideCells) -> None:
    features = torch.randn(2, 176, *GRID)
    got = wide(features).numpy()
    assert got.shape == (2, wide.channels, *wide.grid) == (2, 112, 4, 6)
    for image, channel in [(0, 0), (1, 57), (1, 111)]:
        deepest = features[image, 64 + channel].double().numpy()
        expected = averaged(averaged(deepest.reshape(4, 2, 6, 2).mean((1, 3))))
        np.testing.assert_allclose(got[image, channel], expected, atol=1e-5)


def test_their_maps_come_back_linearly_between_the_centres(wide: WideCells) -> None:
    maps = torch.rand(1, *wide.grid)
    rows, columns = (2 * np.arange(cells) + 0.5 for cells in wide.grid)  # centres, in cells of the grid
    along = np.array([np.interp(np.arange(GRID[1]), columns, row) for row in maps[0].double().numpy()])
    expected = np.array([np.interp(np.arange(GRID[0]), rows, column) for column in along.T]).T
    np.testing.assert_allclose(wide.back(maps)[0].numpy(), expected, atol=1e-6)


def test_a_head_compares_by_them_and_its_evidence_by_the_features(wide: WideCells) -> None:
    torch.manual_seed(0)
    gaussian = GaussianHead(channels=wide.channels, grid=wide.grid)
    gaussian.mean.normal_()
    gaussian.scale.uniform_(0.5, 2)
    features = torch.randn(2, 176, *GRID)
    head = Head(gaussian, wide=wide)
    with torch.inference_mode():
        distances = wide.back(gaussian(wide(features)))
        got = head(features)
        assert head.first_opinion().wide is wide
    np.testing.assert_allclose(got.numpy(), np.sqrt(distances.double().numpy() ** 2 + 1) - 1, rtol=1e-4)
