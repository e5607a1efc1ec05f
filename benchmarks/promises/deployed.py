"""What a user meets: one model file, its own calibration, good images that it has never seen."""

import numpy as np
from scipy.stats import betabinom, ks_2samp

from blemish.conformal.fdr import control_fdr
from blemish.conformal.regions import RegionCalibration
from blemish.conformal.split import Calibration
from promises.material import Material
from promises.tables import RATES, header, row

REGION_RATE = 0.05
DISCOVERY_RATES = (0.05, 0.1, 0.2)


def as_deployed(material: Material, rng: np.random.Generator, *, first: bool) -> None:
    """False alarms on images kept away, where the assumption holds, and on the test folder's, where it may not."""
    if first:
        print(
            "\n### As deployed: false alarms on new images with the calibration in the file; the most in nineteen of "
            "twenty calibration sets where the assumption holds\n"
        )
        asked = (f"asked {rate:g}" for rate in RATES)
        regions = f"any region at p <= {REGION_RATE:g}"
        drift = "drift check of score, light, sharpness"
        header("data", "new images", "calibration", *asked, regions, "same scores: KS p", drift)
    kept, tested = material.kept_away, len(material.new["none"].scores) - material.kept_away
    for name, places in ((f"{kept} kept away", slice(0, kept)), (f"{tested} of the test folder", slice(kept, None))):
        new = material.new["none"].scores[places]
        cells = [false_alarms(material.calibration, new, rate) for rate in RATES]
        excess = small_regions(material, material.new["none"].maps[places])
        same = ks_2samp(material.calibration, new).pvalue
        row(
            material.name,
            name,
            len(material.calibration),
            *cells,
            f"{excess:.3f}",
            f"{same:.2g}",
            drifts(material, places, rng),
        )


def false_alarms(calibration: np.ndarray, new: np.ndarray, rate: float) -> str:
    held = Calibration(calibration, rate)
    text = f"{(new >= held.threshold).mean():.3f}, most {most_alarms(held, len(new)):.3f}"
    return text if held.effective_rate == rate else f"{text}, holds {held.effective_rate:.3f}"


def most_alarms(calibration: Calibration, images: int) -> float:
    """The share of false alarms that nineteen of twenty calibration sets stay below, where no scores are equal.

    The rate of one calibration set is drawn from a Beta distribution, and the alarms among so many images from it.
    """
    n = calibration.images
    k = int(calibration.effective_rate * (n + 1) + 1e-9)
    return float(betabinom.ppf(0.95, images, k, n + 1 - k)) / images


def small_regions(material: Material, maps: np.ndarray) -> float:
    """The share of maps with any region at a p-value of at most `REGION_RATE`."""
    calibrated = material.detector.metadata.regions
    assert calibrated is not None
    excesses = np.array(RegionCalibration.from_maps([calibrated.level], maps).largest)
    at_least = (np.array(calibrated.largest) >= excesses[:, None]).sum(1)
    return float(((1 + at_least) / (1 + len(calibrated.largest)) <= REGION_RATE).mean())


def drifts(material: Material, places: slice, rng: np.random.Generator) -> str:
    check = material.detector.drift_check()
    values = material.new["none"].statistics()
    stream = np.transpose([values[name][places] for name in values])
    for image in rng.permutation(stream).tolist():
        check.add(dict(zip(values, image, strict=True)))
    return f"{check.drift.statistic} {check.drift.direction}, image {check.drift.image}" if check.drift else "silent"


def defects_found(material: Material, rng: np.random.Generator, *, first: bool) -> None:
    if first:
        print("\n### As deployed: share of anomalous images found\n")
        header("data", "images", *(f"asked {rate:g}" for rate in RATES))
    thresholds = [Calibration(material.calibration, rate).threshold for rate in RATES]
    scores = material.anomalous.scores
    row(material.name, len(scores), *(f"{(scores >= one).mean():.3f}" for one in thresholds))


def discoveries_as_deployed(material: Material, rng: np.random.Generator, *, splits: int, first: bool) -> None:
    """Batches with kept-away images and the calibration in the file."""
    if first:
        print(
            f"\n### As deployed: false discoveries in batches of 20 kept-away and 10 anomalous images, {splits:,} "
            "batches with one calibration set\n"
        )
        asked = (f"rate {rate:g}: false among discoveries, defects found" for rate in DISCOVERY_RATES)
        header("data", "calibration", *asked)
    nominal, anomalous = material.new["none"].scores[: material.kept_away], material.anomalous.scores
    calibration = Calibration(material.calibration)
    figures = np.zeros((splits, len(DISCOVERY_RATES), 2))
    for split in range(splits):
        batch = (rng.choice(nominal, 20, replace=False), rng.choice(anomalous, 10, replace=False))
        p_values = [calibration.p_value(one) for one in np.concatenate(batch)]
        for column, rate in enumerate(DISCOVERY_RATES):
            found = control_fdr(p_values, false_discovery_rate=rate).discovered
            figures[split, column] = found[:20].sum() / max(1, found.sum()), found[20:].mean()
    cells = (f"{false:.3f}, {defects:.2f}" for false, defects in figures.mean(0))
    row(material.name, len(material.calibration), *cells)
