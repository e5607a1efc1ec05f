"""A greedy k-center coreset: every next vector is the one farthest from all those taken (Sener and Savarese 2018).

The bank of PatchCore (Roth et al. 2022), made affordable for hundreds of thousands of vectors on one core.
"""

import numpy as np
import numpy.typing as npt

DIMENSIONS = 64  # of the random projection
FEWEST = 40_000  # candidates
TIMES = 3  # so many candidates for each vector taken


def coreset(vectors: npt.NDArray[np.float32], number: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Indices (number,) of the vectors (N, C) taken, in the order in which they are.

    Exactly: of the N vectors max(40,000, 3 x number) are drawn as candidates, or all where there are no more. Their
    distances are taken after a random Gaussian projection to 64 dimensions, or as they are where C is no more. The
    first vector taken is the first candidate drawn, each next one the candidate whose smallest distance to those taken
    is the largest. The seed decides candidates and projection.
    """
    generator = np.random.default_rng(seed)
    candidates = generator.permutation(len(vectors))[: max(FEWEST, TIMES * number)]
    points = vectors[candidates] - vectors.mean(0)
    if points.shape[1] > DIMENSIONS:
        projection = generator.standard_normal((points.shape[1], DIMENSIONS), dtype=np.float32)
        points = points @ (projection / np.float32(DIMENSIONS**0.5))
    return candidates[farthest_first(points, min(number, len(points)))]


def farthest_first(points: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.int64]:
    """Indices (number,) of points (N, D) taken greedily, from the first point on."""
    squares = np.einsum("nd,nd->n", points, points)
    smallest = np.full(len(points), np.inf, dtype=np.float32)
    taken = np.zeros(number, dtype=np.int64)
    for step in range(number):
        new = taken[step]
        distances = points @ points[new]
        distances *= -2
        distances += squares
        distances += squares[new]
        np.minimum(smallest, distances, out=smallest)
        smallest[new] = -np.inf  # not again
        if step + 1 < number:
            taken[step + 1] = smallest.argmax()
    return taken
