"""PatchCore: its bank is a greedy coreset, its distances are those to the nearest vector, out of fold by images."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from blemish.methods import patchcore
from blemish.methods.patchcore import PatchCore, coreset, farthest_first
from blemish.networks.feature_pyramid import FeaturePyramid
from blemish.training.distributed import ProcessGroup
from blemish.training.feature_extraction import MapsInMemory
from helpers.images import noise
from helpers.processes import on_each_process
from helpers.small_networks import new_model, random_pyramid

SIZE = (64, 64)
IMAGES, MEMORY = 9, 50


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    torch.manual_seed(0)
    return random_pyramid(SIZE)


def maps_of(pyramid: FeaturePyramid, seeds: range) -> list[torch.Tensor]:
    with torch.inference_mode():
        return pyramid(torch.from_numpy(np.stack([noise(seed, size=SIZE) for seed in seeds])))


def fitted(pyramid: FeaturePyramid, maps: list[torch.Tensor], **options: object) -> tuple[PatchCore, torch.Tensor]:
    model = new_model(pyramid, "patchcore", **options)
    assert isinstance(model, PatchCore)
    return model, model.fit(MapsInMemory([maps]))


def vectors_of(model: PatchCore, maps: list[torch.Tensor]) -> np.ndarray:
    """(N * P, C), less the centre, in float64."""
    with torch.inference_mode():
        return (model.features(maps) - model.centre).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


def test_distances_are_those_to_the_nearest_vector(pyramid: FeaturePyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = fitted(pyramid, maps_of(pyramid, range(IMAGES)), memory=MEMORY)
    new = maps_of(pyramid, range(50, 53))
    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(model.bank.double().numpy())
    expected = neighbours.kneighbors(vectors_of(model, new))[0].reshape(3, 8, 8) / float(model.unit)
    for chunk in (7, 2048):
        monkeypatch.setattr(patchcore, "CHUNK", chunk)
        np.testing.assert_allclose(model(new).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_bank_is_the_coreset_of_all_nominal_vectors(pyramid: FeaturePyramid) -> None:
    maps = maps_of(pyramid, range(IMAGES))
    model, _ = fitted(pyramid, maps, memory=MEMORY, seed=3)
    vectors = vectors_of(model, maps).astype(np.float32)
    taken = coreset(vectors, MEMORY, seed=3)
    np.testing.assert_allclose(model.bank.float().numpy(), vectors[taken], rtol=1e-3, atol=1e-3)


def test_memory_bounds_the_bank_and_a_few_images_fill_less_of_it(pyramid: FeaturePyramid) -> None:
    maps = maps_of(pyramid, range(2))
    assert len(fitted(pyramid, maps, memory=MEMORY)[0].bank) == MEMORY
    assert len(fitted(pyramid, maps, memory=10_000)[0].bank) == 2 * 8 * 8


def test_images_are_measured_out_of_fold_by_the_vectors_of_other_folds(pyramid: FeaturePyramid) -> None:
    maps = maps_of(pyramid, range(IMAGES))
    model, found = fitted(pyramid, maps, memory=MEMORY)
    vectors = vectors_of(model, maps)
    bank = model.bank.double().numpy()
    fold_of_bank = cdist(bank, vectors).argmin(1) // 64 % 4
    by_image = vectors.reshape(IMAGES, 64, -1)
    expected = np.stack([cdist(by_image[i], bank[fold_of_bank != i % 4]).min(1).reshape(8, 8) for i in range(IMAGES)])
    assert float(model.unit) == pytest.approx(expected.mean(), rel=1e-3)
    np.testing.assert_allclose(found.numpy(), expected / expected.mean(), rtol=5e-3, atol=5e-3)
    assert float(found.mean()) == pytest.approx(1, rel=1e-4)


def test_a_single_image_has_no_distances_out_of_fold(pyramid: FeaturePyramid) -> None:
    maps = maps_of(pyramid, range(1))
    model, found = fitted(pyramid, maps, memory=10_000)
    assert found.shape == (0, 8, 8)
    assert model(maps).max() < 0.1


def test_several_processes_choose_the_bank_of_one(pyramid: FeaturePyramid) -> None:
    maps = maps_of(pyramid, range(IMAGES))

    def fit(processes: ProcessGroup) -> tuple[torch.Tensor, torch.Tensor]:
        share = processes.shard(IMAGES)
        model = new_model(pyramid, "patchcore", memory=MEMORY)
        found = model.fit(MapsInMemory([[one[share] for one in maps]], processes, share.start))
        return model.bank, found

    alone, expected = fitted(pyramid, maps, memory=MEMORY)
    for bank, found in on_each_process(3, fit):
        torch.testing.assert_close(bank, alone.bank)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_nothing_to_fit_to_is_refused(pyramid: FeaturePyramid) -> None:
    with pytest.raises(ValueError, match="no features"):
        new_model(pyramid, "patchcore").fit(MapsInMemory([]))


# The coreset


def slow_greedy(points: np.ndarray, number: int) -> list[int]:
    """Word by word: the point whose nearest one taken is farthest away, from the first point on."""
    taken = [0]
    while len(taken) < number:
        nearest = cdist(points, points[taken]).min(1)
        nearest[taken] = -1
        taken.append(int(nearest.argmax()))
    return taken


def test_a_coreset_is_greedy():
    points = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    assert farthest_first(points, 40).tolist() == slow_greedy(points.astype(float), 40)


def test_all_points_are_taken_once_also_where_some_are_equal():
    points = np.repeat(np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), 3, axis=0)
    taken = coreset(points, 60, seed=0)
    assert sorted(taken) == list(range(60))
    assert len(np.unique(points[taken[:20]], axis=0)) == 20  # copies last


def test_a_coreset_finds_every_cluster_through_the_projection():
    generator = np.random.default_rng(1)
    middles = 10 * generator.standard_normal((60, 100))
    sizes = generator.integers(1, 100, 60)
    points = np.repeat(middles, sizes, axis=0) + generator.standard_normal((sizes.sum(), 100))
    cluster = np.repeat(np.arange(60), sizes)
    taken = coreset(points.astype(np.float32), 60, seed=0)
    assert sorted(cluster[taken]) == list(range(60))
    assert taken.tolist() == coreset(points.astype(np.float32), 60, seed=0).tolist()
    assert taken.tolist() != coreset(points.astype(np.float32), 60, seed=1).tolist()
