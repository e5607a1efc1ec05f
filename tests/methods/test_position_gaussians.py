"""Distances to a Gaussian a position against SciPy's Mahalanobis distance, cell by cell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean

from blemish.methods.gaussian import harmonic
from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.normal_model import MIN_DISTANCE
from helpers.gaussians import literal_distances


def random_gaussians(*, channels: int, grid: tuple[int, int], reach: int, seed: int) -> PositionGaussians:
    """Means and whitenings of each position's own, and a unit that is not one."""
    generator = torch.Generator().manual_seed(seed)
    gaussians = PositionGaussians(channels=channels, grid=grid, reach=reach)
    gaussians.mean.copy_(torch.randn(gaussians.mean.shape, generator=generator))
    whitening = torch.eye(channels) + 0.5 * torch.randn(gaussians.whitening.shape, generator=generator).tril()
    gaussians.whitening.copy_(whitening)
    gaussians.unit.fill_(1.7)
    return gaussians


@settings(max_examples=40)
@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    reach=st.integers(0, 2),
    channels=st.integers(1, 5),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_a_distance_is_the_smallest_to_a_position_s_own_and_its_neighbours(
    grid: tuple[int, int], reach: int, channels: int, images: int, seed: int
) -> None:
    gaussians = random_gaussians(channels=channels, grid=grid, reach=reach, seed=seed)
    features = 2 * torch.randn(images, channels, *grid, generator=torch.Generator().manual_seed(seed))
    expected = literal_distances(gaussians, features.double().numpy(), reach=reach)
    np.testing.assert_allclose(gaussians(features).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 1), (2, 3), (5, 4)])
def test_what_lies_a_cell_off_is_forgiven_within_the_grid_and_not_across_its_border(grid: tuple[int, int]) -> None:
    rows, columns = grid
    gaussians = PositionGaussians(channels=1, grid=grid, reach=1)
    gaussians.mean.copy_(10 * torch.arange(rows * columns).view(-1, 1, 1))
    for row, column in np.ndindex(rows, columns):
        # Everywhere the value of one position, which only its neighbours are close to.
        features = torch.full((1, 1, rows, columns), 10.0 * (row * columns + column))
        near = {(int(r), int(c)) for r, c in (gaussians(features)[0] == 0).nonzero()}
        assert near == {(r, c) for r, c in np.ndindex(grid) if abs(r - row) <= 1 and abs(c - column) <= 1}


def test_without_a_fit_it_is_the_norm_of_the_features() -> None:
    features = torch.randn(2, 3, 4, 5)
    found = PositionGaussians(channels=3, grid=(4, 5), reach=0)(features)
    torch.testing.assert_close(found, features.norm(dim=1))


@pytest.mark.parametrize("channels", [24, 112])
def test_whitening_in_half_precision_changes_distances_by_less_than_a_thousandth(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, channels, generator=generator, dtype=torch.float64)
    values @= torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    covariance = values.T.cov() + 0.1 * torch.eye(channels)
    exact = torch.linalg.inv(torch.linalg.cholesky(covariance))
    gaussians = PositionGaussians(channels=channels, grid=(1, 1), reach=0)
    gaussians.whitening.copy_(exact)
    found = gaussians(values.float()[:, :, None, None])[:, 0, 0]
    torch.testing.assert_close(found.double(), (values @ exact.T).norm(dim=1), rtol=1e-3, atol=0)


# Joining levels


@given(
    st.integers(1, 4).flatmap(
        lambda levels: st.lists(
            st.lists(st.floats(0, 1e3, width=32), min_size=levels, max_size=levels), min_size=1, max_size=6
        )
    )
)
def test_levels_are_joined_by_the_root_of_the_harmonic_mean_of_squares(cells: list[list[float]]) -> None:
    distances = np.array(cells)  # (cells, levels)
    found = harmonic([torch.tensor(level, dtype=torch.float32)[None, None] for level in distances.T])
    squares = np.maximum(distances, MIN_DISTANCE) ** 2
    np.testing.assert_allclose(found.numpy()[0, 0], np.sqrt(hmean(squares, axis=1)), rtol=1e-5)
    assert (found.numpy()[0, 0] <= np.sqrt(len(distances.T)) * squares.min(1) ** 0.5 * (1 + 1e-5)).all()


def test_a_level_that_sees_nothing_quietens_all() -> None:
    loud, silent = torch.full((1, 2, 2), 50.0), torch.zeros(1, 2, 2)
    assert (harmonic([loud, loud, silent]) < 1e-5).all()
    assert torch.isfinite(harmonic([silent, silent])).all()
