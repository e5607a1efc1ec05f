"""Nearest neighbours, one Gaussian a position and Blemish on the same images, as one Markdown table.

    python benchmarks/comparison.py [--data ../shared/data] [--seeds 1] [--bank 8000] [--size 256] [NAME...]

All methods see the same good images, in the features of Blemish's default backbone, and the same test images, and
their maps are upsampled and measured alike. Blemish holds some of the good images back to calibrate with, of which
only its second opinion learns, and fits to turned copies where images are few. Labelled defects, which the others
cannot use, are refused.

Fitting takes all cores and counts from the folder on. Scoring takes one thread, one image at a time, from pixels at
network size to the map: in PyTorch for the first two methods, in ONNX Runtime for Blemish. MB are what scoring needs
of the method and of the backbone.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import blemish
from blemish.closed_form import RIDGE
from blemish.copies import BATCH
from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.datasets.pixels import read_pixels
from blemish.errors import BlemishError
from blemish.files import fingerprint
from blemish.heatmaps import upscale
from blemish.images import load
from blemish.imaging.masks import read_mask
from blemish.learning import SIGMA
from blemish.metrics import PixelMetrics, auroc
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.networks.upsampling import gaussian_upsampling
from blemish.training import STRIDES, AnomalyKind
from regimes import positive_number, spread

FIGURES = ("image AUROC", "pixel AUROC", "AUPRO", "fit s", "ms an image", "MB")
DIGITS = (3, 3, 3, 1, 1, 1)
CHUNK = 1024  # cells compared with the bank at once: 33 MB of distances for 8,000 patches

Score = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]  # pixels (1, H, W, 3) to a map (H, W)


class MemoryBank:
    """Distance to the nearest of a random sample of nominal vectors: PatchCore (Roth et al. 2022) at its simplest.

    Args:
        size: vectors kept; all of them where there are fewer.
        seed: decides which.
    """

    bank: Tensor  # (size, C)

    def __init__(self, *, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed

    def fit(self, features: Tensor) -> None:
        """Draws the sample from nominal features (N, C, h, w), whatever the image and position."""
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2)  # (N * h * w, C)
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(self.seed))
        self.bank = vectors[order[: self.size]]

    def score(self, features: Tensor) -> Tensor:
        """Euclidean distances (N, h, w) of features (N, C, h, w)."""
        images, _, rows, columns = features.shape
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2)
        nearest = [torch.cdist(some, self.bank).amin(1) for some in vectors.split(CHUNK)]
        return torch.cat(nearest).view(images, rows, columns)

    @property
    def stored(self) -> int:
        """Bytes that scoring needs."""
        return self.bank.nbytes


class PositionGaussians:
    """Mahalanobis distance to a Gaussian of each cell's own, mean and full covariance: PaDiM (Defard et al. 2021).

    Args:
        ridge: added variance, in squared feature units.
    """

    mean: Tensor  # (h * w, 1, C)
    whitening: Tensor  # (h * w, C, C), W with W W^T the inverse of the covariance

    def __init__(self, *, ridge: float = RIDGE) -> None:
        self.ridge = ridge

    def fit(self, features: Tensor) -> None:
        """Takes mean and covariance of nominal features (N, C, h, w) over the N images."""
        vectors = features.permute(2, 3, 0, 1).flatten(0, 1)  # (h * w, N, C)
        self.mean = vectors.mean(1, keepdim=True)
        centred = vectors - self.mean
        identity = torch.eye(features.shape[1])
        covariance = centred.mT @ centred / len(features) + self.ridge * identity
        factor = torch.linalg.cholesky(covariance)
        inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        self.whitening = inverse.mT.contiguous()

    def score(self, features: Tensor) -> Tensor:
        """Mahalanobis distances (N, h, w) of features (N, C, h, w)."""
        images, _, rows, columns = features.shape
        vectors = features.permute(2, 3, 0, 1).flatten(0, 1)  # (h * w, N, C)
        distances = torch.linalg.vector_norm((vectors - self.mean) @ self.whitening, dim=-1)  # (h * w, N)
        return distances.mT.reshape(images, rows, columns)

    @property
    def stored(self) -> int:
        """Bytes that scoring needs."""
        return self.mean.nbytes + self.whitening.nbytes


@dataclass(frozen=True)
class Method:
    """A fitted method, what fitting took and how many bytes it left."""

    name: str
    score: Score
    seconds: float
    stored: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=["screw", "magnetic_tile"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=positive_number, default=1)
    parser.add_argument("--bank", type=positive_number, default=8000, help="vectors that the nearest neighbours keep")
    parser.add_argument("--size", type=positive_number, default=256, help="network size in pixels, a multiple of 32")
    options = parser.parse_args()
    print(f"| data | method | {' | '.join(FIGURES)} |\n|---|---|{'---:|' * len(FIGURES)}")
    for name in options.names:
        try:
            runs = [
                compare(options.data / name, size=options.size, bank=options.bank, seed=seed)
                for seed in range(options.seeds)
            ]
        except BlemishError as error:
            parser.error(str(error))
        for method in runs[0]:
            print(f"| {name} | {method} | {cells([run[method] for run in runs])} |", flush=True)


def cells(rows: Sequence[Sequence[float]]) -> str:
    """One row of the table: the means over seeds, with sample standard deviations where there are several seeds."""
    return " | ".join(spread(column, digits=digits) for column, digits in zip(np.transpose(rows), DIGITS, strict=True))


def compare(data: Path, *, size: int, bank: int, seed: int) -> dict[str, list[float]]:
    """The `FIGURES` of every method, by its name."""
    data_set = read_data_set(data)
    if any(sample.anomalous for sample in data_set.train):
        raise BlemishError(f"{data}: labelled defects to train on, which only Blemish could use; give good images only")
    # Blemish goes first: it refuses a size or a folder that cannot be used.
    blemishes = [
        train_blemish("Blemish", data, size=size, seed=seed, anomalies="scars"),
        train_blemish("Blemish, closed form", data, size=size, seed=seed, anomalies="none"),
    ]
    baselines, used = fit_baselines(data_set, size=size, bank=bank, seed=seed)
    unseen = [sample for sample in data_set.test if fingerprint(sample.path) not in used]
    return {method.name: measure(method, unseen, size=(size, size)) for method in (*baselines, *blemishes)}


def train_blemish(name: str, data: Path, *, size: int, seed: int, anomalies: AnomalyKind) -> Method:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        started = time.perf_counter()
        blemish.train(
            data,
            file,
            size=(size, size),
            seed=seed,
            anomalies=anomalies,
            device="cpu",
        )
        seconds = time.perf_counter() - started
        detector = blemish.Detector.load(file, threads=1)
        return Method(name, lambda pixels: detector.run(pixels)[0][0], seconds, file.stat().st_size)


def fit_baselines(data_set: DataSet, *, size: int, bank: int, seed: int) -> tuple[list[Method], set[str]]:
    """The two other methods, and the fingerprints of all training images."""
    started = time.perf_counter()
    pixels = read_pixels(data_set.train, (size, size), progress=lambda done, total: None, notify=complain)
    grid = FeatureGrid(Backbone(strides=STRIDES), size=(size, size)).eval()
    with torch.inference_mode():
        batches = (pixels.images[i : i + BATCH] for i in range(0, len(pixels.samples), BATCH))
        features = torch.cat([grid(torch.from_numpy(np.array(batch))) for batch in batches])
    shared = time.perf_counter() - started
    models: dict[str, MemoryBank | PositionGaussians] = {
        "nearest neighbours": MemoryBank(size=bank, seed=seed),
        "one Gaussian a position": PositionGaussians(),
    }
    methods = [fit_baseline(name, model, grid, features, shared) for name, model in models.items()]
    return methods, set(pixels.fingerprints)


def fit_baseline(
    name: str, model: MemoryBank | PositionGaussians, grid: FeatureGrid, features: Tensor, shared_seconds: float
) -> Method:
    started = time.perf_counter()
    model.fit(features)
    seconds = shared_seconds + time.perf_counter() - started
    upsample = gaussian_upsampling(grid.field, size=grid.size, sigma=SIGMA)

    def score(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return upsample(model.score(grid(torch.from_numpy(pixels))))[0].numpy()

    stored = model.stored + sum(tensor.nbytes for tensor in grid.state_dict().values())
    return Method(name, score, seconds, stored)


def measure(method: Method, samples: Sequence[Sample], *, size: tuple[int, int]) -> list[float]:
    """The `FIGURES` of one method; those of pixels at the images' own sizes, as `blemish evaluate` has them."""
    scores, milliseconds = [], []
    with PixelMetrics() as pixel_metrics, one_thread():
        for sample in samples:
            pixels, own_size = load(sample.path, size)
            # The processor's time, not the clock's: whatever else the computer does counts least.
            started = time.process_time()
            anomaly_map = method.score(pixels[None])
            milliseconds.append(1000 * (time.process_time() - started))
            scores.append(float(anomaly_map.max()))
            if sample.anomalous and sample.mask is None:
                continue
            mask = read_mask(sample.mask, size=own_size) if sample.mask else np.zeros(own_size, dtype=bool)
            pixel_metrics.update(upscale(anomaly_map, own_size), mask)
        by_pixel = pixel_metrics.compute()
    by_image = auroc([sample.anomalous for sample in samples], scores)
    median = statistics.median(milliseconds)
    return [by_image, by_pixel.auroc, by_pixel.aupro, method.seconds, median, method.stored / 1e6]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread; what is fitted after it has all cores again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def complain(sentence: str) -> None:
    print(sentence, file=sys.stderr)


if __name__ == "__main__":
    main()
