"""The comparison's two baselines against scikit-learn and SciPy, its figures against `evaluate`'s, its images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

import blemish
from blemish.closed_form import CrossFit
from blemish.datasets.layouts import read_data_set
from blemish.evaluation import evaluate
from conftest import load_script, noise, save_image, stained

N, C, ROWS, COLUMNS = 23, 5, 4, 6


@pytest.fixture(scope="module")
def comparison():
    return load_script("comparison")


def features(seed: int, *, images: int = N) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, C, ROWS, COLUMNS, generator=generator) * torch.arange(1, COLUMNS + 1) + 7


def vectors(x: torch.Tensor) -> np.ndarray:
    """Every cell of every image, row by row: (N * h * w, C)."""
    return np.array([image[:, r, c] for image in x.double().numpy() for r in range(ROWS) for c in range(COLUMNS)])


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_a_bank_of_everything_gives_the_nearest_neighbours(comparison, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(comparison, "CHUNK", chunk)
    nominal, new = features(0), features(1, images=3)
    model = comparison.MemoryBank(size=10_000, seed=0)
    model.fit(nominal)
    expected = NearestNeighbors(n_neighbors=1).fit(vectors(nominal)).kneighbors(vectors(new))[0]
    np.testing.assert_allclose(model.score(new).numpy(), expected.reshape(3, ROWS, COLUMNS), rtol=1e-3, atol=1e-3)
    assert model.stored == nominal.numel() * 4


def test_a_bank_is_a_random_sample_without_repetition(comparison) -> None:
    everything = {tuple(vector) for vector in vectors(features(0))}
    banks = []
    for seed in (0, 0, 1):
        model = comparison.MemoryBank(size=50, seed=seed)
        model.fit(features(0))
        banks.append({tuple(vector) for vector in model.bank.double().tolist()})
    assert all(len(bank) == 50 and bank < everything for bank in banks)
    assert banks[0] == banks[1] != banks[2]


def test_gaussians_give_mahalanobis_distances_cell_by_cell(comparison) -> None:
    nominal, new = features(0), features(1, images=3)
    model = comparison.PositionGaussians(ridge=0.1)
    model.fit(nominal)
    expected = np.zeros((3, ROWS, COLUMNS))
    for r in range(ROWS):
        for c in range(COLUMNS):
            fitted = EmpiricalCovariance().fit(nominal[:, :, r, c].double().numpy())
            precision = np.linalg.inv(fitted.covariance_ + 0.1 * np.eye(C))
            for i, image in enumerate(new.double().numpy()):
                expected[i, r, c] = mahalanobis(image[:, r, c], fitted.location_, precision)
    np.testing.assert_allclose(model.score(new).numpy(), expected, rtol=1e-3)
    assert model.stored == 4 * ROWS * COLUMNS * (C + C * C)


class EnoughError(Exception):
    """Ends a training that has shown what it fits to."""


def test_all_methods_fit_to_the_same_features_of_the_same_images(comparison, parts: Path, monkeypatch) -> None:
    for i in range(4, 9):
        save_image(parts / f"train/good/{i}.png", noise(200 + i))
    theirs, ours, further = [], [], []
    monkeypatch.setattr(comparison.PositionGaussians, "fit", lambda self, given: theirs.append(given))
    monkeypatch.setattr(comparison.PositionGaussians, "stored", 0)
    comparison.fit_baselines(read_data_set(parts), size=64, bank=10, seed=5)

    fit_to = CrossFit.fit

    def fit(self, batches, *, copies, first) -> None:
        ours.append(torch.cat(list(batches)))
        fit_to(self, [ours[-1]])

    def second_opinion(self, batches, *, copies, farthest) -> None:
        further.append(torch.cat(list(batches)))
        raise EnoughError

    monkeypatch.setattr(CrossFit, "fit", fit)
    monkeypatch.setattr(CrossFit, "second_opinion", second_opinion)
    with pytest.raises(EnoughError):
        comparison.train_blemish("Blemish", parts, size=64, seed=5, anomalies="none")
    assert (len(ours[0]), len(further[0])) == (7, 2)

    def in_order(some: torch.Tensor) -> torch.Tensor:
        return some[some.flatten(1).sum(1).argsort()]

    torch.testing.assert_close(in_order(theirs[0]), in_order(torch.cat([ours[0], further[0]])))


def test_figures_are_those_of_evaluate_and_no_used_image_counts(
    comparison, parts: Path, tiny_model: Path, monkeypatch, capsys
) -> None:
    asked = []

    def train(data: Path, output: Path, **options: object) -> None:
        asked.append(options)
        shutil.copy(tiny_model, output)

    monkeypatch.setattr(comparison.blemish, "train", train)
    # Not square and stained in a corner: maps must come back to the image's own size, the right way up.
    corner = noise(800, size=(48, 96))
    corner[:16, :24] = 0
    save_image(parts / "test/stain/corner.png", corner)
    save_image(parts / "ground_truth/stain/corner_mask.png", ((corner == 0).all(axis=2) * 255).astype(np.uint8))
    save_image(parts / "test/good/odd.png", stained(500))  # without it every figure would be near 1
    expected = evaluate(blemish.Detector.load(tiny_model), read_data_set(parts)).metrics
    save_image(parts / "train/good/seen.png", stained(600))
    save_image(parts / "test/good/seen.png", stained(600))
    monkeypatch.setattr(
        "sys.argv", ["comparison.py", "--data", str(parts.parent), "--size", "64", "--bank", "40", "parts"]
    )
    threads = torch.get_num_threads()
    comparison.main()

    header, _, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    methods = ["nearest neighbours", "one Gaussian a position", "Blemish", "Blemish, closed form"]
    assert [row[:2] for row in rows] == [["parts", method] for method in methods]
    assert all(len(row) == header.count("|") - 1 for row in rows)
    for row in rows[2:]:
        for cell, figure in zip(row[2:5], ("image_auroc", "pixel_auroc", "aupro"), strict=True):
            assert float(cell) == pytest.approx(expected[figure], abs=0.0006)
        assert float(row[-1]) == pytest.approx(tiny_model.stat().st_size / 1e6, abs=0.06)
    assert [(options["anomalies"], options["seed"]) for options in asked] == [("scars", 0), ("none", 0)]
    assert torch.get_num_threads() == threads


def test_several_seeds_show_their_spread(comparison) -> None:
    rows = [[0.5, 0.9, 0.8, 1.0, 10.0, 3.0], [0.7, 0.9, 0.9, 3.0, 10.0, 3.0]]
    assert comparison.cells(rows) == (
        "0.600 ± 0.141 | 0.900 ± 0.000 | 0.850 ± 0.071 | 2.0 ± 1.4 | 10.0 ± 0.0 | 3.0 ± 0.0"
    )
    assert comparison.cells(rows[:1]) == "0.500 | 0.900 | 0.800 | 1.0 | 10.0 | 3.0"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bank", "0", "parts"], "--bank: must be 1 or more, not 0"),
        (["--seeds", "0", "parts"], "--seeds: must be 1 or more, not 0"),
        (["--size", "100", "parts"], "the size must be a multiple of 32"),
        (["--size", "64", "parts"], "labelled defects to train on, which only Blemish could use"),
        (["nowhere"], "nowhere"),
    ],
    ids=["bank", "seeds", "size", "labelled", "no folder"],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    comparison, parts: Path, monkeypatch, capsys, arguments: list[str], sentence: str
) -> None:
    if "labelled" in sentence:
        save_image(parts / "train/stain/0.png", stained(700))
    monkeypatch.setattr("sys.argv", ["comparison.py", "--data", str(parts.parent), *arguments])
    with pytest.raises(SystemExit) as stopped:
        comparison.main()
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
