"""Groups of heatmaps, against scikit-learn and planted groups."""

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from blemish.auditing.clusters import affinity, cluster, cut, shapes
from helpers.audit_images import spots


class TestClusters:
    def test_groups_that_lie_apart_are_found_and_counted(self):
        rng = np.random.default_rng(0)
        truth = np.repeat([0, 1, 2], [20, 15, 12])
        centres = np.array([[14, 14], [50, 14], [30, 52]])[truth] + rng.normal(0, 1.5, (len(truth), 2))
        maps = spots(centres) * rng.uniform(0.5, 9, (len(truth), 1, 1)).astype(np.float32)
        found = cluster(maps)
        assert found.number == 3
        assert adjusted_rand_score(truth, found.labels) == 1
        assert np.bincount(found.labels).tolist() == [20, 15, 12]  # the largest first

    @pytest.mark.parametrize("seed", range(5))
    def test_cuts_as_scikit_learn_does(self, seed):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 3, 60)
        points = np.array([[0, 0], [4, 0], [2, 4]])[truth] + rng.normal(0, 0.9, (60, 2))
        graph = affinity(points)
        reference = SpectralClustering(3, affinity="precomputed", assign_labels="cluster_qr").fit_predict(graph)
        assert adjusted_rand_score(reference, cut(graph, number=3).labels) > 0.9

    def test_brightness_and_a_constant_make_no_difference(self):
        maps = spots(np.array([[20, 20], [40, 40]]))
        np.testing.assert_allclose(shapes(maps), shapes(3 * maps + 7), atol=1e-6)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_too_few_are_one_group(self, count):
        assert cluster(np.ones((count, 8, 8), np.float32)).labels.tolist() == [0] * count
