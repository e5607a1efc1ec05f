"""What evidence sees: the features of the grid before they are averaged."""

import numpy as np
import pytest
import torch

from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.sharp_cells import SharpCells

SIZE = (64, 96)


@pytest.fixture(scope="module")
def features() -> FeatureGrid:
    return FeatureGrid(Backbone(), size=SIZE).eval()


def mean_of_neighbours(cells: np.ndarray) -> np.ndarray:
    """Each cell (h, w) averaged with those around it that there are."""
    rows, columns = cells.shape
    return np.array(
        [[cells[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].mean() for c in range(columns)] for r in range(rows)]
    )


def test_averaged_twice_they_are_the_features_of_the_grid(features: FeatureGrid) -> None:
    pixels = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        grid, maps = features.with_maps(pixels)
        seen = SharpCells(features, hidden=8).sees(grid, maps)
    assert seen[:, : features.channels].shape == grid.shape
    for channel in range(0, features.channels, 25):
        expected = mean_of_neighbours(mean_of_neighbours(seen[0, channel].double().numpy()))
        np.testing.assert_allclose(grid[0, channel].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_range_of_the_finest_map_within_each_cell_is_seen(features: FeatureGrid) -> None:
    pixels = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        grid, maps = features.with_maps(pixels)
        seen = SharpCells(features, hidden=8).sees(grid, maps)[:, features.channels :]
    finest = maps[0].numpy()  # 24 channels at stride 4
    assert seen.shape == (2, 24, 8, 12)
    for image, channel, row, column in [(0, 0, 0, 0), (1, 7, 3, 11), (1, 23, 7, 5)]:
        inside = finest[image, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert seen[image, channel, row, column].item() == pytest.approx(np.ptp(inside), rel=1e-6)


def test_without_the_backbone_s_maps_it_is_refused(features: FeatureGrid) -> None:
    with pytest.raises(ValueError, match="with_maps"):
        SharpCells(features, hidden=8).sees(torch.zeros(1, features.channels, *features.grid), ())
