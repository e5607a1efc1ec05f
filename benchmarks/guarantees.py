"""Checks what docs/guarantees.md promises on real scores, and prints Markdown tables.

    python benchmarks/guarantees.py [--splits 1000] [--seed 0] MODEL DATA [MODEL DATA]...

Each model file comes with the folder it was trained on. Its calibration images and the nominal test images are scored
once, and once more darker and blurred; together they are the pool. Each split deals the pool by chance into
calibration and test, which makes the two exchangeable, as a promise assumes; the table "as deployed" does not.
Cross-conformal needs several trainings a split, so it is checked with a small detector on the same frozen features.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from scipy.stats import ks_2samp, kstest

from blemish.calibration import Calibration
from blemish.cross_calibration import CrossCalibration
from blemish.datasets.layouts import read_data_set
from blemish.detector import Detector, FailedImage
from blemish.discoveries import discover
from blemish.drift import DriftCheck, drift_statistics
from blemish.errors import BlemishError
from blemish.images import read_image, to_network_size
from blemish.networks.backbones import Backbone
from blemish.networks.features import FeatureGrid
from blemish.region_calibration import RegionCalibration

Array = np.ndarray
Change = Callable[[Image.Image], Image.Image]

RATES = (0.01, 0.05, 0.1)
DRIFT_RATE = 0.01
DRIFTS: dict[str, Change] = {
    "none": lambda image: image,
    "brightness -20 %": lambda image: image.point(lambda value: round(0.8 * value)),
    "blur, sigma 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blur, sigma 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
}


@dataclass(frozen=True)
class Scored:
    """Scores (N,) of N images, and their maps (N, H, W)."""

    scores: Array
    maps: Array


@dataclass(frozen=True)
class Material:
    """Everything scored of one model and its data.

    Attributes:
        calibration: number of the model's calibration images; they are the first of the pool.
        pool: calibration and nominal test images, by drift; "none" are the images as they are.
        anomalous: the anomalous test images.
        fit_scores: of the images the model was fitted to.
        train: number of nominal training images; they are the first in `light`.
        light: brightness and sharpness of all nominal images, training and test, by drift.
        pool_places: where the images of the pool are in `light`.
        features: of all nominal and of all anomalous images, float32 (N, cells, channels), for the small detector.
    """

    name: str
    calibration: int
    pool: dict[str, Scored]
    anomalous: Scored
    fit_scores: Array
    train: int
    light: dict[str, dict[str, Array]]
    pool_places: Array
    features: tuple[Array, Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="MODEL DATA")
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.pairs) % 2:
        parser.error("give a folder after each model file")
    try:
        materials = [read(*pair) for pair in zip(options.pairs[::2], options.pairs[1::2], strict=True)]
    except BlemishError as fault:
        parser.error(str(fault))
    for table in (
        partial(split_conformal, splits=options.splits),
        as_deployed,
        partial(false_discoveries, splits=options.splits),
        partial(regions, splits=options.splits),
        partial(cross_conformal, splits=options.splits),
        drift,
    ):
        for number, material in enumerate(materials):
            table(material, np.random.default_rng(options.seed), first=number == 0)
    silence(np.random.default_rng(options.seed))


# Scoring


def read(model: Path, folder: Path) -> Material:
    detector, data = Detector.load(model), read_data_set(folder)
    train = [sample.path for sample in data.train if not sample.anomalous]
    test = [sample.path for sample in data.test if not sample.anomalous]
    scored = score(detector, train)
    # The file names its calibration images only by their scores.
    held_back = sorted({int(np.abs(scored.scores - one).argmin()) for one in detector.calibration.scores})
    found = np.sort(scored.scores[held_back])
    if len(found) != detector.calibration.images or not np.allclose(found, np.sort(detector.calibration.scores), 1e-3):
        raise BlemishError(f"{folder}: not all calibration images of {model} are here; give the folder it learned from")
    pool = [train[index] for index in held_back] + test
    anomalous = [sample.path for sample in data.test if sample.anomalous]
    return Material(
        name=data.root.name,
        calibration=len(held_back),
        pool={name: score(detector, pool, change) for name, change in DRIFTS.items()},
        anomalous=score(detector, anomalous),
        fit_scores=np.delete(scored.scores, held_back),
        train=len(train),
        pool_places=np.concatenate([held_back, np.arange(len(train), len(train) + len(test))]),
        light={name: light(detector, train + test, change) for name, change in DRIFTS.items()},
        features=(features(detector, train + test), features(detector, anomalous)),
    )


def score(detector: Detector, paths: Sequence[Path], change: Change = lambda image: image) -> Scored:
    results = []
    for path in paths:
        (result,) = detector.stream([change(read_image(path))])
        if isinstance(result, FailedImage):
            raise BlemishError(result.reason)
        results.append(result)
    return Scored(np.array([one.score for one in results], np.float32), np.stack([one.anomaly_map for one in results]))


def light(detector: Detector, paths: Sequence[Path], change: Change) -> dict[str, Array]:
    pictures = (to_network_size(change(read_image(path)), detector.metadata.size) for path in paths)
    values = [drift_statistics(picture, 0.0) for picture in pictures]
    return {name: np.array([one[name] for one in values]) for name in ("brightness", "sharpness")}


def features(detector: Detector, paths: Sequence[Path]) -> Array:
    """Frozen features averaged to 4 x 4 cells, in 24 random directions: (N, 16, 24)."""
    size = detector.metadata.size
    grid = FeatureGrid(Backbone(), size=size).eval()
    directions = torch.randn(grid.channels, 24, generator=torch.Generator().manual_seed(0)) / grid.channels**0.5
    rows = []
    with torch.inference_mode():
        for path in paths:
            pixels = torch.from_numpy(to_network_size(read_image(path), size))[None]
            rows.append(F.adaptive_avg_pool2d(grid(pixels), 4).flatten(2).mT @ directions)
    return torch.cat(rows).numpy()


# The promises, one table each


def split_conformal(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """False alarms at each rate; one p-value a split, smoothed, must be uniform."""
    if first:
        print(f"\n### Split conformal, {splits:,} splits: false-alarm rate ± standard error\n")
        header("data", "calibration", *(f"asked {rate:g}" for rate in RATES), "p-values uniform: KS p")
    pool = material.pool["none"].scores
    for n in sorted({material.calibration, 99}):
        alarms, smoothed = [], []
        for _ in range(splits):
            calibration, test = deal(pool, n, rng)
            p_values = np.array([Calibration(calibration).p_value(one) for one in test])
            alarms.append([(p_values <= rate + 1e-9).mean() for rate in RATES])
            above, equal = (calibration > test[0]).sum(), (calibration == test[0]).sum()
            smoothed.append((above + rng.random() * (1 + equal)) / (n + 1))
        row(
            material.name,
            n,
            *(plus_minus(column) for column in np.transpose(alarms)),
            f"{kstest(smoothed, 'uniform').pvalue:.2f}",
        )


def as_deployed(material: Material, rng: np.random.Generator, *, first: bool) -> None:
    """The model's own calibration images against the nominal test images: whether the assumption held."""
    if first:
        print("\n### As deployed: the calibration images of the file, nominal test images in random order\n")
        asked = (f"asked {rate:g} (held)" for rate in RATES)
        header("data", "calibration", "test", *asked, "same scores: KS p", "drift check of score, light, focus")
    scores, n = material.pool["none"].scores, material.calibration
    cells = []
    for rate in RATES:
        held = Calibration(scores[:n], rate)
        cells.append(f"{(scores[n:] >= held.threshold).mean():.3f} ({held.held_rate:.3f})")
    light = material.light["none"]
    check = DriftCheck(
        {"score": scores[:n]} | {name: values[: material.train] for name, values in light.items()},
        false_alarm_rate=DRIFT_RATE,
    )
    stream = {"score": scores[n:]} | {name: values[material.train :] for name, values in light.items()}
    order = rng.permutation(len(scores) - n)
    run(check, {name: values[order] for name, values in stream.items()})
    words = f"{check.drift.statistic} {check.drift.direction}, image {check.drift.image}" if check.drift else "silent"
    row(material.name, n, len(scores) - n, *cells, f"{ks_2samp(scores[:n], scores[n:]).pvalue:.1g}", words)


def false_discoveries(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """Batches of 30 images, a third anomalous: the share of nominal ones among the discoveries, and defects found."""
    rates = (0.05, 0.1, 0.2)
    if first:
        print(f"\n### False discoveries in batches of 20 nominal and 10 anomalous images, {splits:,} splits\n")
        header("data", "calibration", *(f"rate {rate:g}: false among discoveries, defects found" for rate in rates))
    pool, anomalous = material.pool["none"].scores, material.anomalous.scores
    figures = np.zeros((splits, len(rates), 2))
    for split in range(splits):
        calibration, test = deal(pool, material.calibration, rng)
        batch = np.concatenate([test[:20], rng.choice(anomalous, 10, replace=False)])
        p_values = [Calibration(calibration).p_value(one) for one in batch]
        for column, rate in enumerate(rates):
            found = discover(p_values, false_discovery_rate=rate).discovered
            figures[split, column] = found[:20].sum() / max(1, found.sum()), found[20:].mean()
    cells = (f"{plus_minus(false)}, {defects.mean():.2f}" for false, defects in figures.transpose(1, 2, 0))
    row(material.name, material.calibration, *cells)


def regions(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """How often any region of a nominal image, and of an anomalous one, has a small p-value."""
    rates = (0.05, 0.1)
    if first:
        print(f"\n### Region p-values, {splits:,} splits: images with any region at p <= rate\n")
        header("data", *(f"rate {rate:g}: nominal, anomalous (by peak alone)" for rate in rates))
    excesses, of_defects = (
        np.array(RegionCalibration.from_maps(material.fit_scores, one.maps).largest)
        for one in (material.pool["none"], material.anomalous)
    )
    peaks, peaks_of_defects = material.pool["none"].scores, material.anomalous.scores
    figures = np.zeros((splits, len(rates), 3))
    for split in range(splits):
        order = rng.permutation(len(excesses))
        chosen, test = order[: material.calibration], order[material.calibration :]
        for column, rate in enumerate(rates):
            figures[split, column] = (
                small(excesses[chosen], excesses[test], rate).mean(),
                small(excesses[chosen], of_defects, rate).mean(),
                small(peaks[chosen], peaks_of_defects, rate).mean(),
            )
    cells = (f"{plus_minus(a)}, {b.mean():.2f} ({c.mean():.2f})" for a, b, c in figures.transpose(1, 2, 0))
    row(material.name, *cells)


def small(calibration: Array, values: Array, rate: float) -> Array:
    """Whether each value's conformal p-value is at most the rate."""
    return (1 + (calibration >= values[:, None]).sum(1)) / (len(calibration) + 1) <= rate + 1e-9


def cross_conformal(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """Forty images that all train and calibrate, against 32 that train and 8 that calibrate."""
    images, rates = 40, (0.05, 0.1, 0.2)
    if first:
        print(f"\n### Cross-conformal with a small detector, {images} nominal images, {splits:,} splits\n")
        header("data", "folds", *(f"asked {rate:g}: false alarms (proven bound), defects found" for rate in rates))
    nominal, anomalous = material.features
    for folds in (4, 10, images):
        figures = np.zeros((splits, len(rates), 2))
        for split in range(splits):
            order = rng.permutation(len(nominal))
            test = np.concatenate([nominal[order[images : images + 50]], anomalous[rng.choice(len(anomalous), 50)]])
            cross, scores = cross_fit(nominal[order[:images]], test, folds)
            p_values = np.array([cross.p_value(one) for one in scores.T])
            figures[split] = [
                [(part <= rate + 1e-9).mean() for part in (p_values[:50], p_values[50:])] for rate in rates
            ]
        bounds = [cross.false_alarm_bound(rate) for rate in rates]
        cells = (
            f"{plus_minus(false)} ({bound:.3f}), {found.mean():.2f}"
            for (false, found), bound in zip(figures.transpose(1, 2, 0), bounds, strict=True)
        )
        row(material.name, folds, *cells)
    row(material.name, "none, 8 held back", *split_fit(nominal, anomalous, images, rates, splits, rng))


def cross_fit(nominal: Array, test: Array, folds: int) -> tuple[CrossCalibration, Array]:
    """The left-out scores of nominal features, already in random order, and test scores (folds, N)."""
    left_out, scores = [], []
    for fold in range(folds):
        held = np.arange(len(nominal)) % folds == fold
        both = small_detector(nominal[~held], np.concatenate([nominal[held], test]))
        left_out.append(both[: held.sum()])
        scores.append(both[held.sum() :])
    return CrossCalibration(left_out), np.stack(scores)


def split_fit(
    nominal: Array, anomalous: Array, images: int, rates: Sequence[float], splits: int, rng: np.random.Generator
) -> list[str]:
    """The cells of split conformal that holds a fifth of the images back."""
    figures = np.zeros((splits, len(rates), 2))
    held = images // 5
    for split in range(splits):
        order = rng.permutation(len(nominal))
        test = np.concatenate([nominal[order[images : images + 50]], anomalous[rng.choice(len(anomalous), 50)]])
        scores = small_detector(nominal[order[held:images]], np.concatenate([nominal[order[:held]], test]))
        for column, rate in enumerate(rates):
            alarms = small(scores[:held], scores[held:], rate)
            figures[split, column] = alarms[:50].mean(), alarms[50:].mean()
    bounds = (rate if (held + 1) * rate >= 1 else 0.0 for rate in rates)
    return [
        f"{plus_minus(false)} ({bound:.3f}), {found.mean():.2f}"
        for (false, found), bound in zip(figures.transpose(1, 2, 0), bounds, strict=True)
    ]


def small_detector(fit: Array, others: Array) -> Array:
    """Scores (N,) of features (N, cells, channels): the largest Mahalanobis distance over cells, as in FCDD's max."""
    mean = fit.mean(0)
    centred = (fit - mean).transpose(1, 0, 2)  # (cells, n, channels)
    covariance = centred.mT @ centred / len(fit)
    ridge = 0.1 * np.trace(covariance, axis1=1, axis2=2).mean() / covariance.shape[-1]
    inverse = np.linalg.inv(covariance + ridge * np.eye(covariance.shape[-1]))
    away = (others - mean).transpose(1, 0, 2)  # (cells, N, channels)
    return ((away @ inverse) * away).sum(2).max(0)


def drift(material: Material, rng: np.random.Generator, *, first: bool) -> None:
    """The score over the pool; light and focus, which no model has touched, over all nominal images."""
    if first:
        print(f"\n### Drift check at {DRIFT_RATE:g}: streams of 200 images, 100 runs\n")
        header("data", "watched", "calibration", *(f"{name}: fired, median image" for name in DRIFTS))
    scores = {name: {"score": scored.scores} for name, scored in material.pool.items()}
    # As `blemish predict` watches them, but with no more images for light and focus than for the score.
    together = {
        name: scores[name] | {light: values[material.pool_places] for light, values in material.light[name].items()}
        for name in DRIFTS
    }
    for by_drift, n in (
        (scores, material.calibration),
        (material.light, material.train),
        (together, material.calibration),
    ):
        cells = []
        for kind, drifted in by_drift.items():
            fired = []
            for _ in range(100):
                order = rng.permutation(len(next(iter(drifted.values()))))
                calibration = {name: values[order[:n]] for name, values in by_drift["none"].items()}
                # Drawing again and again from few nominal images is no exchangeable stream: there each comes once.
                stream = order[n:][:200] if kind == "none" else rng.choice(order[n:], 200)
                check = DriftCheck(calibration, false_alarm_rate=DRIFT_RATE)
                fired.append(run(check, {name: values[stream] for name, values in drifted.items()}))
            cells.append(f"{np.isfinite(fired).mean():.2f}, {np.median(fired):g}")
        row(material.name, ", ".join(drifted), n, *cells)


def run(check: DriftCheck, stream: dict[str, Array]) -> float:
    """The image at which the check fires, infinity where it does not."""
    for number, values in enumerate(np.transpose(list(stream.values())).tolist(), start=1):
        if check.add(dict(zip(stream, values, strict=True))):
            return number
    return np.inf


def silence(rng: np.random.Generator) -> None:
    """Without drift, 1,000 images a run: simulated, as no data set has so many nominal images.

    The check sees ranks only, so its false alarms are the same for every continuous distribution of scores.
    """
    print(
        "\n### Drift check without drift: share of 500 runs of 1,000 images from a gamma distribution with an alarm\n"
    )
    header("calibration", *(f"rate {rate:g}" for rate in (0.01, 0.05, 0.2)))
    for n in (20, 64, 500):
        lowest = np.ones(500)
        for number in range(len(lowest)):
            drawn = rng.gamma(4, size=n + 1000)
            check = DriftCheck({"score": drawn[:n]}, false_alarm_rate=1e-9)
            run(check, {"score": drawn[n:]})
            lowest[number] = check.p_value
        row(n, *(f"{(lowest <= rate).mean():.3f}" for rate in (0.01, 0.05, 0.2)))


# Small things


def deal(pool: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """n values of the pool, and the others."""
    if n >= len(pool):
        raise BlemishError(f"{len(pool)} nominal images in the pool; {n} for calibration leave none to test")
    order = rng.permutation(len(pool))
    return pool[order[:n]], pool[order[n:]]


def plus_minus(values: Array) -> str:
    return f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}"


def header(*names: object) -> None:
    row(*names)
    print("|" + "---|" * len(names))


def row(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
