"""The arithmetic on real scores: new images dealt by chance into calibration and test, which so are exchangeable."""

import numpy as np
from scipy.stats import kstest

from blemish.conformal.fdr import control_fdr
from blemish.conformal.regions import RegionCalibration
from blemish.conformal.split import Calibration
from blemish.errors import BlemishError
from promises.deployed import DISCOVERY_RATES
from promises.material import Material
from promises.tables import RATES, header, plus_minus, row, small

IMAGES = 64  # to calibrate with
REGION_RATES = (0.05, 0.1)


def split_conformal(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """False alarms at each rate; one p-value a split, smoothed, must be uniform."""
    if first:
        print(f"\n### Split conformal, {splits:,} splits of the new images: false-alarm rate ± standard error\n")
        header("data", "calibration", *(f"asked {rate:g}" for rate in RATES), "p-values uniform: KS p")
    for n in (IMAGES, 99):
        alarms, smoothed = [], []
        for _ in range(splits):
            calibration, test = deal(material.new["none"].scores, n, rng)
            alarms.append([small(calibration, test, rate).mean() for rate in RATES])
            above, equal = (calibration > test[0]).sum(), (calibration == test[0]).sum()
            smoothed.append((above + rng.random() * (1 + equal)) / (n + 1))
        uniform = kstest(smoothed, "uniform").pvalue
        row(material.name, n, *(plus_minus(column) for column in np.transpose(alarms)), f"{uniform:.2g}")


def false_discoveries(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """Batches of 30 images, a third anomalous: the share of nominal ones among the discoveries, and defects found."""
    if first:
        print(f"\n### False discoveries in batches of 20 nominal and 10 anomalous images, {splits:,} splits\n")
        asked = (f"rate {rate:g}: false among discoveries, defects found" for rate in DISCOVERY_RATES)
        header("data", "calibration", *asked)
    figures = np.zeros((splits, len(DISCOVERY_RATES), 2))
    for split in range(splits):
        calibration, test = deal(material.new["none"].scores, IMAGES, rng)
        batch = np.concatenate([test[:20], rng.choice(material.anomalous.scores, 10, replace=False)])
        p_values = [Calibration(calibration).p_value(one) for one in batch]
        for column, rate in enumerate(DISCOVERY_RATES):
            found = control_fdr(p_values, false_discovery_rate=rate).discovered
            figures[split, column] = found[:20].sum() / max(1, found.sum()), found[20:].mean()
    cells = (f"{plus_minus(false)}, {defects.mean():.2f}" for false, defects in figures.transpose(1, 2, 0))
    row(material.name, IMAGES, *cells)


def regions(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """How often any region of a nominal image, and of an anomalous one, has a small p-value."""
    if first:
        print(f"\n### Region p-values, {splits:,} splits: images with any region at p <= rate\n")
        header("data", *(f"rate {rate:g}: nominal, anomalous (by peak alone)" for rate in REGION_RATES))
    calibrated = material.detector.metadata.regions
    assert calibrated is not None
    excesses, of_defects = (
        np.array(RegionCalibration.from_maps([calibrated.level], one.maps).largest)
        for one in (material.new["none"], material.anomalous)
    )
    peaks, peaks_of_defects = material.new["none"].scores, material.anomalous.scores
    figures = np.zeros((splits, len(REGION_RATES), 3))
    for split in range(splits):
        order = rng.permutation(len(excesses))
        chosen, test = order[:IMAGES], order[IMAGES:]
        for column, rate in enumerate(REGION_RATES):
            figures[split, column] = (
                small(excesses[chosen], excesses[test], rate).mean(),
                small(excesses[chosen], of_defects, rate).mean(),
                small(peaks[chosen], peaks_of_defects, rate).mean(),
            )
    cells = (f"{plus_minus(a)}, {b.mean():.2f} ({c.mean():.2f})" for a, b, c in figures.transpose(1, 2, 0))
    row(material.name, *cells)


def deal(pool: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n values of the pool, and the others."""
    if n + 20 > len(pool):
        raise BlemishError(f"{len(pool)} new images; {n} for calibration leave fewer than 20 to test")
    order = rng.permutation(len(pool))
    return pool[order[:n]], pool[order[n:]]
