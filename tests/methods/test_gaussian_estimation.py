"""The fit of the Gaussians against scikit-learn's covariance, fold by fold, and of the projections against its PCA."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

from blemish.methods.gaussian import harmonic
from blemish.methods.position_gaussians import PositionGaussians
from blemish.networks.normal_model import MIN_DISTANCE
from blemish.training.config import GaussianConfig
from blemish.training.feature_extraction import MapsInMemory
from helpers.gaussians import (
    CHANNELS,
    GRID,
    N,
    in_batches,
    levels_of,
    literal_distances,
    maps_of,
    new_levels,
    new_model,
)
from helpers.images import noise
from helpers.small_networks import fitted_network, gaussians_of

FOLDS, RIDGE = GaussianConfig().folds, GaussianConfig().ridge


def by_scikit_learn(features: torch.Tensor) -> PositionGaussians:
    """A Gaussian a position with a covariance and a ridge, in float64, as a module of unit one."""
    gaussians = PositionGaussians(channels=features.shape[1], grid=GRID, reach=1).double()
    for position, vectors in enumerate(features.double().flatten(2).permute(2, 0, 1).numpy()):
        fitted = EmpiricalCovariance().fit(vectors)
        covariance = fitted.covariance_ + RIDGE * np.eye(len(fitted.location_))
        gaussians.mean[position, :, 0] = torch.from_numpy(fitted.location_)
        gaussians.whitening[position] = torch.from_numpy(np.linalg.inv(np.linalg.cholesky(covariance)))
    return gaussians


def out_of_fold(features: torch.Tensor) -> np.ndarray:
    """Distances (n, h, w) of each image to Gaussians that are fitted without its fold."""
    made = np.empty((len(features), *GRID))
    for fold in range(FOLDS):
        own = np.arange(len(features)) % FOLDS == fold
        gaussians = by_scikit_learn(features[~own])
        made[own] = literal_distances(gaussians, features[own].double().numpy(), reach=1)
    return made


# Gaussians


@pytest.mark.parametrize("images", [2, 5, N])
def test_means_and_covariances_are_scikit_learn_s_with_a_ridge(images: int) -> None:
    model, levels = new_model(), levels_of(images)
    model.fit(MapsInMemory([levels]))
    for gaussians, features in zip(gaussians_of(model), levels, strict=True):
        expected = by_scikit_learn(features)
        torch.testing.assert_close(gaussians.mean.double(), expected.mean, rtol=1e-5, atol=1e-4)
        precision, other = (one.whitening.double().mT @ one.whitening.double() for one in (gaussians, expected))
        torch.testing.assert_close(precision, other, rtol=5e-3, atol=5e-3)


def test_units_are_the_mean_distances_out_of_fold() -> None:
    model, levels = new_model(), levels_of(N)
    model.fit(MapsInMemory([levels]))
    for gaussians, features in zip(gaussians_of(model), levels, strict=True):
        assert float(gaussians.unit) == pytest.approx(float(out_of_fold(features).mean()), rel=2e-3)


def test_distances_out_of_fold_are_those_of_a_fit_without_the_fold() -> None:
    model, levels = new_model(), levels_of(N)
    found = model.fit(MapsInMemory(in_batches(levels, (16, 7))))
    left_out = [out_of_fold(features) for features in levels]
    in_units = [torch.from_numpy(distances / distances.mean()) for distances in left_out]
    torch.testing.assert_close(found.double(), harmonic(in_units), rtol=1e-2, atol=1e-3)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, N - 1), unique=True, max_size=6))
def test_batches_of_any_size_give_the_same_fit(cuts: list[int]) -> None:
    sizes = np.diff([0, *sorted(cuts), N]).tolist()
    levels = levels_of(N)
    together, apart = new_model(), new_model()
    whole = together.fit(MapsInMemory([levels]))
    cut = apart.fit(MapsInMemory(in_batches(levels, sizes)))
    torch.testing.assert_close(cut, whole, rtol=2e-3, atol=1e-3)
    for one, other in zip(gaussians_of(apart), gaussians_of(together), strict=True):
        torch.testing.assert_close(one.mean, other.mean, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(one.unit, other.unit, rtol=1e-3, atol=0)


def test_large_means_cost_no_digits() -> None:
    model, levels = new_model(), levels_of(N, offset=1000.0)
    model.fit(MapsInMemory(in_batches(levels, (4,) * 5 + (3,))))
    new = levels_of(3, seed=1, offset=1000.0)
    for gaussians, features, unseen in zip(gaussians_of(model), levels, new, strict=True):
        expected = literal_distances(by_scikit_learn(features), unseen.double().numpy(), reach=1)
        np.testing.assert_allclose((gaussians(unseen) * gaussians.unit).numpy(), expected, rtol=5e-3)


def test_a_single_image_leaves_none_out() -> None:
    model, levels = new_model(), levels_of(1)
    assert model.fit(MapsInMemory([levels])).shape == (0, *GRID)
    assert [float(gaussians.unit) for gaussians in gaussians_of(model)] == [1, 1]
    assert (model(levels) < 1e-5).all()
    # There is no variance but the ridge's.
    moved = model([features + 3 for features in levels])
    within = harmonic([torch.full(GRID, 3 * (channels / RIDGE) ** 0.5)[None] for channels in CHANNELS])
    assert (moved <= 1.001 * within).all()


@pytest.mark.filterwarnings("ignore:Only one sample")
def test_of_two_images_each_is_compared_with_the_other() -> None:
    levels = levels_of(2)
    found = new_model().fit(MapsInMemory([levels]))
    distances = []
    for features in levels:
        other = by_scikit_learn(features[1:]), by_scikit_learn(features[:1])
        pairs = [
            literal_distances(gaussians, one[None].double().numpy(), reach=1)
            for gaussians, one in zip(other, features, strict=True)
        ]
        distances.append(torch.from_numpy(np.concatenate(pairs)))
    expected = harmonic([one / one.mean() for one in distances])
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-3)


def test_images_that_are_all_the_same_divide_nothing_by_zero() -> None:
    levels = [features[:1].repeat(8, 1, 1, 1) for features in levels_of(1)]
    model = new_model()
    assert torch.isfinite(model.fit(MapsInMemory([levels]))).all()
    assert [float(gaussians.unit) for gaussians in gaussians_of(model)] == [pytest.approx(MIN_DISTANCE)] * 2
    assert torch.isfinite(model(levels_of(2, seed=3))).all()


@pytest.mark.parametrize("kept", [1, 6, N])
def test_the_first_images_alone_are_looked_at_out_of_fold(kept: int) -> None:
    levels, model = levels_of(N), new_model(out_of_fold_images=kept)
    found = model.fit(MapsInMemory(in_batches(levels, (4, 4, 15))))
    assert len(found) == kept
    for gaussians, features in zip(gaussians_of(model), levels, strict=True):
        assert float(gaussians.unit) == pytest.approx(float(out_of_fold(features)[:kept].mean()), rel=2e-3)


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(ValueError, match="no features"):
        new_model().fit(MapsInMemory([]))


# Projections


@pytest.mark.parametrize("sizes", [(20,), (1, 12, 7)], ids=["at once", "in batches"])
def test_projections_are_the_principal_components(sizes: tuple[int, ...]) -> None:
    maps, levels = maps_of(20), new_levels()
    levels.fit_projections(MapsInMemory(in_batches(maps, sizes)))
    expected = PCA(3).fit(maps[1].double().permute(0, 2, 3, 1).flatten(0, 2).numpy()).components_[::-1]
    found = levels.projections[1].axes.double().numpy()
    signs = np.sign((found * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found, signs * expected, atol=1e-3)
    projected = levels.projections[1](maps[1])
    np.testing.assert_allclose(projected.numpy(), np.einsum("kc,nchw->nkhw", found, maps[1].numpy()), rtol=1e-3)


def test_where_no_map_is_projected_nothing_is_fitted() -> None:
    new_levels(components=6).fit_projections(MapsInMemory([maps_of(2)]))


def test_a_constant_background_leaves_the_units_alike() -> None:
    """Three quarters of every image are the same in all of them."""
    images = [noise(seed, size=(64, 64)) for seed in range(12)]
    for image in images:
        image[:, 16:] = 255
    units = [float(level.unit) for level in gaussians_of(fitted_network(images))]
    assert min(units) > 0.01  # the median is 0.001
    assert max(units) < 5 * min(units)
