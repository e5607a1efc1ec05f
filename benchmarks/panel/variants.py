"""Research variants: functions from cached features to the maps and scores of all test images.

A variant takes a `Cached` set and a seed and returns maps (M, 256, 256) and scores (M,). Most are a `Rule` with one
thing changed: what each part of the detector is worth.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from blemish.evaluation.metrics import PixelMetrics, auroc
from panel.book import Run, add_runs, read_runs
from panel.cache import Cached, cached
from panel.rules import Rule
from panel.runs import commit, peak_megabytes

Maps = npt.NDArray[np.float32]
Variant = Callable[[Cached, int], tuple[Maps, npt.NDArray[np.float32]]]
DEFAULT = Rule()
VARIANTS: dict[str, Variant] = {
    "default": DEFAULT,
    "one Gaussian of strides 4, 8, 16 (PaDiM)": replace(DEFAULT, levels=("all in one",), reach=0),
    "fine alone": replace(DEFAULT, levels=("fine",)),
    "middle alone": replace(DEFAULT, levels=("middle",)),
    "coarse alone": replace(DEFAULT, levels=("coarse",)),
    "without fine": replace(DEFAULT, levels=("middle", "coarse")),
    "without middle": replace(DEFAULT, levels=("fine", "coarse")),
    "without coarse": replace(DEFAULT, levels=("fine", "middle")),
    "coarse: stride 32 alone": replace(DEFAULT, levels=("fine", "middle", "coarse of stride 32 alone")),
    "all components of stride 16": replace(
        DEFAULT, levels=("fine", "middle of all components", "coarse of all components of stride 16")
    ),
    "fine: not averaged": replace(DEFAULT, levels=("fine as it is", "middle", "coarse")),
    "fine: with stride 4": replace(DEFAULT, levels=("fine with stride 4", "middle", "coarse")),
    "middle: averaged over 3 x 3": replace(DEFAULT, levels=("fine", "middle averaged", "coarse")),
    "middle: with strides 4, 8": replace(DEFAULT, levels=("fine", "middle with strides 4, 8", "coarse")),
    "four levels, stride 4 too": replace(DEFAULT, levels=("finest", "fine", "middle", "coarse")),
    "joined by the minimum": replace(DEFAULT, power=-math.inf),
    "joined by power -4": replace(DEFAULT, power=-4),
    "joined by power -1": replace(DEFAULT, power=-1),
    "joined by the geometric mean": replace(DEFAULT, power=0),
    "joined by the mean": replace(DEFAULT, power=1),
    "joined by the root mean square": replace(DEFAULT, power=2),
    "joined by the maximum": replace(DEFAULT, power=math.inf),
    "unit: median": replace(DEFAULT, unit="median"),
    "unit: median image's largest": replace(DEFAULT, unit="largest"),
    "unit: none": replace(DEFAULT, unit="one"),
    "no neighbours": replace(DEFAULT, reach=0),
    "neighbours up to 2 cells off": replace(DEFAULT, reach=2),
    "diagonal covariances": replace(DEFAULT, covariance="diagonal"),
    "one covariance for all positions": replace(DEFAULT, covariance=1.0),
    "covariances half shared": replace(DEFAULT, covariance=0.5),
    "covariances a tenth shared": replace(DEFAULT, covariance=0.1),
    "ridge 0.01": replace(DEFAULT, ridge=0.01),
    "ridge 1": replace(DEFAULT, ridge=1.0),
    "scale of places": replace(DEFAULT, place_scale=1),
    "scale of places, square root": replace(DEFAULT, place_scale=0.5),
    "outlying images trimmed (1.5)": replace(DEFAULT, trim=1.5),
    "score: mean of the top 0.1 %": replace(DEFAULT, top=0.001),
    "score: mean of the top 2 %": replace(DEFAULT, top=0.02),
    "sigma 3": replace(DEFAULT, sigma=3.0),
    "sigma 8": replace(DEFAULT, sigma=8.0),
}


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
