"""The directions of the feature space that are kept, against SciPy's and scikit-learn's own."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from sklearn.decomposition import PCA

from blemish.closed_form import RIDGE
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.projection import (
    COVERED,
    DEVIATION,
    DISCRIMINANT,
    PAIRS,
    PRINCIPAL,
    PooledStatistics,
    learn_projection,
    synthetic_changes,
)

C, ROWS, COLUMNS = 60, 4, 6


def nominal(images: int = 200) -> torch.Tensor:
    """Features whose places differ in their means and whose channels are correlated."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(C, C, generator=generator) / C**0.5
    places = 5 * torch.randn(C, ROWS, COLUMNS, generator=generator)
    noise = torch.einsum("ck,nkhw->nchw", mixing, torch.randn(images, C, ROWS, COLUMNS, generator=generator))
    return 100 + places + noise


def changes() -> torch.Tensor:
    return torch.randn(80, C, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 3, C)


def vectors_about_their_places(features: torch.Tensor) -> np.ndarray:
    return (features - features.mean(0)).movedim(1, -1).reshape(-1, C).numpy()


def test_the_covariance_is_about_the_mean_of_each_place() -> None:
    features = nominal()
    statistics = PooledStatistics()
    for batch in features.split(64):
        statistics.update(batch)
    expected = np.cov(vectors_about_their_places(features).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(statistics.covariance().numpy(), expected, atol=2e-4)


def test_a_single_image_varies_from_place_to_place() -> None:
    statistics = PooledStatistics()
    features = nominal(1)
    statistics.update(features)
    expected = np.cov(features[0].reshape(C, -1).numpy().astype(np.float64), bias=True)
    np.testing.assert_allclose(statistics.covariance().numpy(), expected, atol=1e-3)


def test_the_first_half_is_the_generalised_eigenvectors_of_changes_and_the_second_the_principal_components() -> None:
    features, changed = nominal(), changes()
    fine, coarse = [channel < 50 for channel in range(C)], [channel >= 20 for channel in range(C)]
    projection = learn_projection(features.split(50), changed.split(30), fine=fine, coarse=coarse).numpy()
    discriminant, principal = projection[:DISCRIMINANT], projection[DISCRIMINANT:]
    assert not discriminant[:, 50:].any()
    assert not principal[:, :20].any()

    covariance = np.cov(vectors_about_their_places(features)[:, :50].T.astype(np.float64), bias=True)
    moments = (changed[:, :50].T @ changed[:, :50]).double().numpy()
    _, expected = eigh(moments, covariance + RIDGE * np.eye(50))
    cosines = [
        abs(mine @ (covariance + RIDGE * np.eye(50)) @ theirs) / DEVIATION
        for mine, theirs in zip(discriminant[:, :50], expected.T[-DISCRIMINANT:], strict=True)
    ]
    np.testing.assert_allclose(cosines, 1, atol=1e-3)

    components = PCA(40).fit(vectors_about_their_places(features)[:, 20:]).components_
    inside = np.linalg.norm(principal[:, 20:] @ components.T, axis=1)
    assert len(principal) == 40  # fewer channels than directions wanted
    np.testing.assert_allclose(inside, 1, atol=1e-4)


def test_without_changes_all_directions_are_principal() -> None:
    everywhere = [True] * C
    projection = learn_projection([nominal()], (), fine=everywhere, coarse=everywhere)
    assert len(projection) == min(C, DISCRIMINANT + PRINCIPAL)
    np.testing.assert_allclose((projection @ projection.T).numpy(), np.eye(len(projection)), atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (32, 96)], ids=str)
def test_projecting_depth_by_depth_is_projecting_the_whole_grid(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(pretrained=False, strides=(4, 8, 16)).eval()
    projection = torch.randn(10, sum(backbone.channels))
    pixels = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole = FeatureGrid(backbone, size=size).eval()(pixels)
        projected = FeatureGrid(backbone, size=size, projection=projection).eval()(pixels)
    expected = torch.einsum("kc,nchw->nkhw", projection, whole)
    torch.testing.assert_close(projected, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_changes_are_those_of_the_covered_cells() -> None:
    """Seen through a "network" that averages 8 x 8 pixels, a change is the difference of the pictures there."""
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    seen: list[np.ndarray] = []

    def extract(some: np.ndarray) -> torch.Tensor:
        seen.append(some)
        cells = some.astype(np.float32).reshape(len(some), 8, 8, 8, 8, 3).mean((2, 4))
        return torch.from_numpy(cells).movedim(-1, 1)

    batches = list(synthetic_changes(images, [0, 2, 4], kind="confetti", extract=extract, seed=0))
    before, after = np.concatenate(seen[::2]), np.concatenate(seen[1::2])
    assert len(before) == PAIRS
    altered = (before != after).any(-1).reshape(PAIRS, 8, 8, 8, 8).mean((2, 4))
    assert sum(map(len, batches)) == pytest.approx((altered > COVERED).sum(), rel=0.05)  # confetti may match a pixel
    assert {image.tobytes() for image in before} == {images[index].tobytes() for index in (0, 2, 4)}
