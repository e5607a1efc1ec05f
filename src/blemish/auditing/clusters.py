"""What heatmaps have in common: spectral clustering of where they are bright.

As in SpRAy (Lapuschkin et al., Nature Communications 10, 2019): heatmaps are brought down to a few cells and joined to
their nearest neighbours in a graph; the eigenvectors of its Laplacian tell groups apart, and the largest gap between
neighbouring eigenvalues tells how many there are (von Luxburg, Statistics and Computing 17, 2007); the first gap, which
is the largest wherever the graph is in one piece, is left out. Groups are for inspection: none is a fault by itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import cdist

from blemish.auditing.data import Maps

CELLS = 16  # a side of the heatmaps that are compared
NEIGHBOURS = 10
MAX_CLUSTERS = 8
MIN_HEATMAPS = 6  # fewer are one cluster

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Heatmaps in groups.

    Attributes:
        labels: (N,) from 0, the largest cluster first.
    """

    labels: npt.NDArray[np.intp]

    @property
    def number(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


def cluster(maps: Maps) -> Clusters:
    """Groups maps (N, H, W) by where their brightness lies, however bright they are."""
    if len(maps) < MIN_HEATMAPS:
        return Clusters(np.zeros(len(maps), dtype=np.intp))
    return cut(affinity(shapes(maps)))


def shapes(maps: Maps) -> Floats:
    """What of each map is compared, (N, CELLS²): its cells' means above its median, each map's sum 1."""
    small = _block_means(maps)
    above = np.maximum(small - np.median(small, axis=1, keepdims=True), 0)
    total = above.sum(axis=1, keepdims=True)
    return np.divide(above, total, out=np.full_like(above, 1 / above.shape[1]), where=total > 0)


def affinity(points: Floats) -> Floats:
    """The graph (N, N) of points (N, D): 1 between mutual nearest neighbours, 1/2 where only one has the other."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, -1)  # an image is its own nearest
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(points) - 1) + 1]
    graph = np.zeros_like(distances)
    np.put_along_axis(graph, nearest, 1, axis=1)
    joined: Floats = (graph + graph.T) / 2
    return joined


def cut(graph: Floats, *, number: int | None = None) -> Clusters:
    """Cuts a graph (N, N) into clusters, as many as the eigengap says where `number` does not.

    The rows of the first eigenvectors of the symmetric normalised Laplacian, brought to length 1, are clustered by
    k-means (Ng, Jordan and Weiss 2001).
    """
    most = min(MAX_CLUSTERS, len(graph) - 2)
    values, vectors = eigh(laplacian(graph, normed=True), subset_by_index=(0, most))
    count = number or int(np.argmax(np.diff(values)[1:])) + 2
    rows = vectors[:, :count]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    labels = _k_means(rows, count)
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    order = order[np.bincount(labels, minlength=count)[order] > 0]
    ranks = np.zeros(count, dtype=np.intp)
    ranks[order] = np.arange(len(order))
    return Clusters(ranks[labels])


def _k_means(rows: Floats, count: int) -> npt.NDArray[np.intp]:
    """Labels of unit vectors (N, D); it starts from the first and, one after another, the farthest from all chosen."""
    chosen = [0]
    while len(chosen) < count:
        chosen.append(int(np.argmin((rows @ rows[chosen].T).max(axis=1))))
    _, labels = kmeans2(rows, rows[chosen], iter=100, minit="matrix")
    return np.asarray(labels, dtype=np.intp)


def _block_means(maps: Maps) -> Floats:
    """Means over CELLS x CELLS blocks, (N, CELLS²); a map smaller than that is taken as it is."""
    n, height, width = maps.shape
    rows, columns = (np.linspace(0, side, min(CELLS, side) + 1).astype(int) for side in (height, width))
    sums = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), rows[:-1], axis=1), columns[:-1], axis=2)
    means: Floats = (sums / (np.diff(rows)[:, None] * np.diff(columns))).reshape(n, -1)
    return means
