"""The drift check: that it fires when images change, and stays silent when they do not."""

from collections.abc import Mapping

import numpy as np

from blemish.conformal.drift import DriftMonitor
from promises.material import DRIFTS, Material
from promises.tables import header, row

RATE = 0.01
LENGTH = 200
STREAMS = 100
SIMULATED = 500
SIMULATED_LENGTH = 1000
WATCHED = {
    "score": ("score",),
    "light, sharpness": ("brightness", "sharpness"),
    "all": ("score", "brightness", "sharpness"),
}


def planted(material: Material, rng: np.random.Generator, *, first: bool) -> None:
    """Calibrated as the file is: the score by the images held back, light and sharpness by all good training images."""
    if first:
        print(
            f"\n### Drift check at {RATE:g} with the calibration in the file: {STREAMS} streams of kept-away images, "
            f"{LENGTH} changed ones or each once as it is\n"
        )
        header("data", "watched", "calibration", *(f"{name}: fired, median image" for name in DRIFTS))
    watched = {"score": material.calibration.tolist()} | dict(material.detector.metadata.drift_reference)
    for name, statistics in WATCHED.items():
        calibration = {one: watched[one] for one in statistics}
        cells = []
        for kind, changed in material.new.items():
            values = {one: changed.statistics()[one][: material.kept_away] for one in statistics}
            fired = []
            for _ in range(STREAMS):
                # Drawing again and again from few nominal images is no exchangeable stream: there each comes once.
                drawn = rng.permutation(material.kept_away)[:LENGTH]
                order = drawn if kind == "none" else rng.choice(material.kept_away, LENGTH)
                check = DriftMonitor(calibration, false_alarm_rate=RATE)
                fired.append(run(check, {one: of_all[order] for one, of_all in values.items()}))
            cells.append(f"{np.isfinite(fired).mean():.2f}, {np.median(fired):g}")
        row(material.name, name, " and ".join(sorted({str(len(one)) for one in calibration.values()})), *cells)


def run(check: DriftMonitor, stream: Mapping[str, np.ndarray]) -> float:
    """The image at which the check fires, infinity where it does not."""
    for number, values in enumerate(np.transpose(list(stream.values())).tolist(), start=1):
        if check.add(dict(zip(stream, values, strict=True))):
            return number
    return np.inf


def silence(seed: int) -> None:
    """Without drift, long streams: simulated, as no data set has so many nominal images.

    The check sees ranks only, so its false alarms are the same for every continuous distribution of scores.
    """
    print(
        f"\n### Drift check without drift: share of {SIMULATED} simulated streams of {SIMULATED_LENGTH:,} images with "
        "an alarm\n"
    )
    rates = (0.01, 0.05, 0.2)
    header("calibration", *(f"rate {rate:g}" for rate in rates))
    for n in (20, 64, 500):
        rng, lowest = np.random.default_rng(seed), np.ones(SIMULATED)
        for number in range(SIMULATED):
            drawn = rng.gamma(4, size=n + SIMULATED_LENGTH)
            check = DriftMonitor({"score": drawn[:n]}, false_alarm_rate=1e-9)
            run(check, {"score": drawn[n:]})
            lowest[number] = check.p_value
        row(n, *(f"{(lowest <= rate).mean():.3f}" for rate in rates))
