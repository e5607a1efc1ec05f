"""Research variants: small functions from cached features to the maps and scores of all test images.

A variant takes a `Cached` set and a seed and returns maps (M, 256, 256) and scores (M,); `maximum` and `enlarged` do
what every method does with its cells unless the variant is about just that.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.metrics import PixelMetrics, auroc
from panel.book import Run, add_runs, read_runs
from panel.cache import Cached, cached
from panel.features import enlarged, one_grid
from panel.peers import PositionGaussians
from panel.runs import commit, peak_megabytes

Maps = npt.NDArray[np.float32]
Variant = Callable[[Cached, int], tuple[Maps, npt.NDArray[np.float32]]]
VARIANTS: dict[str, Variant] = {}
TIMED = 16  # images at once


def variant(function: Variant) -> Variant:
    """Registers a variant by the name of its function, with dashes."""
    VARIANTS[function.__name__.replace("_", "-")] = function
    return function


def maximum(maps: Maps) -> tuple[Maps, npt.NDArray[np.float32]]:
    """Maps (M, H, W) with their largest values as scores."""
    return maps, maps.max((1, 2))


def grid(level: Callable[[int], Tensor]) -> Tensor:
    """The peers' features (N, 176, h, w), of `Cached.train` or `Cached.test`."""
    return one_grid([level(stride) for stride in (4, 8, 16)])


@variant
def padim(found: Cached, seed: int) -> tuple[Maps, npt.NDArray[np.float32]]:
    """The peer of that name: one Gaussian a position of all channels."""
    model = PositionGaussians()
    model.fit(grid(found.train))
    features = grid(found.test)
    return maximum(np.concatenate([enlarged(model.score(some).numpy()) for some in features.split(TIMED)]))


def run(
    names: Iterable[str],
    sets: Iterable[str],
    seeds: Sequence[int],
    *,
    data: Path,
    cache: Path,
    file: Path,
    say: Callable[[str], None],
) -> None:
    """Scores variants on sets and adds a row each to the file, but for those it has; one process, one thread."""
    torch.set_num_threads(1)
    done = read_runs(file)
    names = list(names)
    for name in sets:
        for seed in seeds:
            for method in names:
                if (name, method, "good", seed) in done:
                    continue
                one = score(method, cached(data / name, cache), seed=seed, name=name)
                add_runs(file, [one])
                say(one.words())


def score(method: str, found: Cached, *, seed: int, name: str) -> Run:
    """The row of a variant on one set; its seconds are of fitting and scoring together."""
    started = time.perf_counter()
    with torch.inference_mode():
        maps, scores = VARIANTS[method](found, seed)
    seconds = time.perf_counter() - started
    pixels = _pixels(maps, found)
    return Run(
        commit=commit(),
        seed=seed,
        set=name,
        method=method,
        protocol="good",
        images=len(scores),
        image_auroc=auroc(found.anomalous, scores),
        pixel_auroc=pixels[0],
        aupro=pixels[1],
        fit_s=seconds,
        memory_mb=peak_megabytes(),
    )


def _pixels(maps: Maps, found: Cached) -> tuple[float | None, float | None]:
    if not found.masks.any():
        return None, None
    with PixelMetrics() as pixels:
        for index in np.flatnonzero(found.known):
            pixels.update(maps[index], found.masks[index])
        result = pixels.compute()
    return result.auroc, result.aupro
