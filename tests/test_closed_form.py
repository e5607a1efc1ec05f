"""The closed form against scikit-learn's covariance and SciPy's Mahalanobis distance, place by place."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance

from blemish.closed_form import FOLDS, FREAK, RIDGE, CrossFit
from blemish.networks.heads import GaussianHead, Head, LearnedHead, from_blocks, to_blocks

N, C, ROWS, COLUMNS = 23, 5, 4, 6


def features(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(N, C, ROWS, COLUMNS, generator=generator) * torch.arange(1, COLUMNS + 1)
    return mixed + 40 + torch.randn(C, ROWS, COLUMNS, generator=generator)


def literal_distances(fitted: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of every cell: its own mean, the covariance of its 2 x 2 block about the cells' means."""
    means = fitted.mean(0)
    distances = np.zeros((len(scored), ROWS, COLUMNS))
    for top in range(0, ROWS, 2):
        for left in range(0, COLUMNS, 2):
            cells = [(top + i, left + k) for i in (0, 1) for k in (0, 1)]
            residuals = np.concatenate([fitted[:, :, r, c] - means[:, r, c] for r, c in cells])
            covariance = EmpiricalCovariance(assume_centered=True).fit(residuals).covariance_ + RIDGE * np.eye(C)
            precision = np.linalg.inv(covariance)
            for r, c in cells:
                for n, image in enumerate(scored):
                    distances[n, r, c] = mahalanobis(image[:, r, c], means[:, r, c], precision)
    return distances


@pytest.mark.parametrize("batch", [1, 7, N])
def test_distances_are_mahalanobis_over_the_left_out_scale(batch: int) -> None:
    nominal, new = features(), features(seed=1)
    head = GaussianHead(channels=C, grid=(ROWS, COLUMNS))
    CrossFit(head).fit(nominal.split(batch))

    exact = nominal.double().numpy()
    maps = []
    for fold in range(FOLDS):
        left_out = np.arange(N) % FOLDS == fold
        maps += list(literal_distances(exact[~left_out], exact[left_out]))
    usual = sorted(one.max() for one in maps)[N // 2]
    largest = np.max([one * min(1, FREAK * usual / one.max()) for one in maps], axis=0)
    smooth = np.array(
        [[largest[max(0, r - 2) : r + 3, max(0, c - 2) : c + 3].mean() for c in range(COLUMNS)] for r in range(ROWS)]
    )
    expected = literal_distances(exact, new.double().numpy()) / (smooth / smooth.mean())
    np.testing.assert_allclose(head(new).sqrt().numpy(), expected, rtol=2e-3)
    np.testing.assert_allclose(head.whiten(new).square().sum(1).sqrt().numpy(), expected, rtol=2e-3)


def test_a_single_image_is_enough() -> None:
    head = GaussianHead(channels=C, grid=(ROWS, COLUMNS))
    CrossFit(head).fit([features()[:1]])
    assert torch.all(head.scale == 1)
    assert torch.isfinite(head(features(seed=1))).all()


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no features"):
        CrossFit(GaussianHead(channels=C, grid=(ROWS, COLUMNS))).fit([])


def test_blocks_come_back_where_they_were() -> None:
    x = torch.randn(3, C, ROWS, COLUMNS)
    torch.testing.assert_close(from_blocks(to_blocks(x), n=3, grid=(ROWS, COLUMNS)), x)
    block = to_blocks(x)[COLUMNS // 2 + 1]  # second row of blocks, second block: cells (2..3, 2..3)
    wanted = x[:, :, 2:4, 2:4].permute(0, 2, 3, 1).reshape(-1, C)
    torch.testing.assert_close(block, wanted)


def test_the_learned_output_only_adds_evidence() -> None:
    gaussian = GaussianHead(channels=C, grid=(ROWS, COLUMNS))
    CrossFit(gaussian).fit([features()])
    alone, joined = Head(gaussian), Head(gaussian, LearnedHead(channels=C))
    new = features(seed=2)
    with torch.inference_mode():
        assert (joined(new) >= alone(new) - 1e-4).all()
        phi = alone(new).double()
        learned = joined.learned.gain * joined.learned(gaussian.whiten(new))
        # A + 1 = sqrt(|phi|^2 + 1), so the two forms must be one right-angled triangle.
        torch.testing.assert_close(
            (joined(new).double() + 1) ** 2, (phi + 1) ** 2 + learned.double() ** 2, rtol=1e-4, atol=1e-4
        )
