"""What takes many trainings, with a small detector on the same frozen features: a Gaussian in each of 4 x 4 cells.

So promises are seen on average over calibration sets and trainings, as they are made.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from blemish.conformal.cross import cross_conformal_bound
from blemish.imaging.images import read_image
from blemish.imaging.resizing import to_network_size
from blemish.networks.extractor import STRIDES
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.networks.timm_cnn import TimmCNN
from promises.material import Material
from promises.tables import header, plus_minus, row, small

RATES = (0.05, 0.1, 0.2)
IMAGES, FOLDS = 40, (4, 10, 40)  # of cross-conformal


def features(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Frozen features of stride 16 averaged to 4 x 4 cells, in 24 random directions: (N, 16, 24)."""
    pyramid = FeaturePyramid(TimmCNN(), size=size).eval()
    channels = pyramid.channels[STRIDES.index(16)]
    directions = torch.randn(channels, 24, generator=torch.Generator().manual_seed(0)) / channels**0.5
    rows = []
    with torch.inference_mode():
        for path in paths:
            pixels = torch.from_numpy(to_network_size(read_image(path), size))[None]
            found = pyramid(pixels)[STRIDES.index(16)]
            rows.append(F.adaptive_avg_pool2d(found, 4).flatten(2).mT @ directions)
    return torch.cat(rows).numpy()


def distances(fit: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distances (cells, N) of features (N, cells, channels)."""
    mean = fit.mean(0)
    centred = (fit - mean).transpose(1, 0, 2)  # (cells, n, channels)
    covariance = centred.mT @ centred / len(fit)
    ridge = 0.1 * np.trace(covariance, axis1=1, axis2=2).mean() / covariance.shape[-1]
    inverse = np.linalg.inv(covariance + ridge * np.eye(covariance.shape[-1]))
    away = (others - mean).transpose(1, 0, 2)  # (cells, N, channels)
    return ((away @ inverse) * away).sum(2)


def scores(fit: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Scores (N,): the largest distance over cells, as in FCDD's maximum."""
    return distances(fit, others).max(0)


def cross_conformal(
    nominal: np.ndarray, anomalous: np.ndarray, name: str, rng: np.random.Generator, splits: int
) -> None:
    """Rows: forty images that all train and calibrate, against 32 that train and 8 that calibrate."""
    for folds in FOLDS:
        figures = np.zeros((splits, len(RATES), 2))
        for split in range(splits):
            order = rng.permutation(len(nominal))
            test = np.concatenate([nominal[order[IMAGES : IMAGES + 50]], anomalous[rng.choice(len(anomalous), 50)]])
            left_out, of_test = cross_fit(nominal[order[:IMAGES]], test, folds)
            p_values = cross_conformal_p_values(left_out, of_test)
            figures[split] = [
                [(part <= rate + 1e-9).mean() for part in (p_values[:50], p_values[50:])] for rate in RATES
            ]
        bounds = [cross_conformal_bound(rate, [len(fold) for fold in left_out]) for rate in RATES]
        cells = (
            f"{plus_minus(false)} ({bound:.3f}), {found.mean():.2f}"
            for (false, found), bound in zip(figures.transpose(1, 2, 0), bounds, strict=True)
        )
        row(name, folds, *cells)
    row(name, "none, 8 held back", *split_fit(nominal, anomalous, rng, splits))


def cross_fit(nominal: np.ndarray, test: np.ndarray, folds: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The left-out scores of nominal features, already in random order, and test scores (folds, N)."""
    left_out, of_test = [], []
    for fold in range(folds):
        held = np.arange(len(nominal)) % folds == fold
        both = scores(nominal[~held], np.concatenate([nominal[held], test]))
        left_out.append(both[: held.sum()])
        of_test.append(both[held.sum() :])
    return left_out, np.stack(of_test)


def cross_conformal_p_values(left_out: Sequence[np.ndarray], of_test: np.ndarray) -> np.ndarray:
    """P-values (N,) of scores (folds, N), see `blemish.conformal.cross`."""
    at_least = sum((fold[:, None] >= scores).sum(0) for fold, scores in zip(left_out, of_test, strict=True))
    return (1 + at_least) / (1 + sum(map(len, left_out)))


def split_fit(nominal: np.ndarray, anomalous: np.ndarray, rng: np.random.Generator, splits: int) -> list[str]:
    """The cells of split conformal that holds a fifth of the images back."""
    figures = np.zeros((splits, len(RATES), 2))
    held = IMAGES // 5
    for split in range(splits):
        order = rng.permutation(len(nominal))
        test = np.concatenate([nominal[order[IMAGES : IMAGES + 50]], anomalous[rng.choice(len(anomalous), 50)]])
        of_all = scores(nominal[order[held:IMAGES]], np.concatenate([nominal[order[:held]], test]))
        for column, rate in enumerate(RATES):
            alarms = small(of_all[:held], of_all[held:], rate)
            figures[split, column] = alarms[:50].mean(), alarms[50:].mean()
    bounds = (rate if (held + 1) * rate >= 1 else 0.0 for rate in RATES)
    return [
        f"{plus_minus(false)} ({bound:.3f}), {found.mean():.2f}"
        for (false, found), bound in zip(figures.transpose(1, 2, 0), bounds, strict=True)
    ]


def many_trainings(materials: Sequence[Material], *, splits: int, seed: int) -> None:
    """The table, for each data set once."""
    of_data = {}
    for one in materials:
        size = one.detector.metadata.size
        name = one.name.partition(",")[0]
        of_data.setdefault(name, (features(one.nominal, size), features(one.defects, size)))
    print(f"\n### Cross-conformal with a small detector, {IMAGES} nominal images, {splits:,} splits\n")
    header("data", "folds", *(f"asked {rate:g}: false alarms (proven bound), defects found" for rate in RATES))
    for name, pair in of_data.items():
        cross_conformal(*pair, name, np.random.default_rng(seed), splits)
