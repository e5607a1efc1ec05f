"""Training on arrays in memory, with a few labelled defects, and scoring an array.

    python examples/fit_arrays.py

About 20 seconds on two cores. Nothing is written: the detector stays in memory.
"""

import numpy as np

import blemish

SIDE = 64  # pixels


def washer(rng: np.random.Generator, *, dented: bool) -> tuple[np.ndarray, np.ndarray]:
    """A grey ring on a dark table, uint8 (SIDE, SIDE), and the mask of the dent in it."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2 + rng.uniform(-1, 1, (2, 1, 1))
    radius = np.hypot(rows, columns)
    ring = (radius > 10) & (radius < 26)
    angle = rng.uniform(0, 2 * np.pi)
    dent = ring & (np.hypot(rows - 18 * np.sin(angle), columns - 18 * np.cos(angle)) < 5)
    image = np.where(ring, 150, 40) + rng.normal(0, 6, ring.shape)
    if dented:
        image[dent] -= 45
    return image.clip(0, 255).astype(np.uint8), dent & dented


def main() -> None:
    """Trains with and without labels, and prints what each makes of new washers."""
    rng = np.random.default_rng(0)
    good = [washer(rng, dented=False)[0] for _ in range(60)]
    new = [washer(rng, dented=dented)[0] for dented in (False, False, False, True, True, True)]
    options = {"size": SIDE, "false_alarm_rate": 0.08, "align": False, "epochs": 3}

    detector = blemish.fit(good, **options)  # a list of arrays (H, W) or (H, W, C), or one array (N, H, W, C)
    print("good images only   ", detector.predict(new).verdicts)

    # Two labelled dents with masks: the defect branch learns from them.
    dents = [washer(rng, dented=True) for _ in range(2)]
    detector = blemish.fit(
        good + [image for image, _ in dents],
        labels=["good"] * len(good) + ["dent"] * len(dents),
        masks=[None] * len(good) + [mask for _, mask in dents],
        **options,
    )
    predictions = detector.predict(new)
    print("with two labels    ", predictions.verdicts)
    print("scores             ", np.round(detector.score_samples(new), 2))  # higher = more anomalous
    print("score - threshold  ", np.round(detector.decision_function(new), 2))  # >= 0 = anomalous
    print("shape of a map     ", predictions.maps[0].shape)


if __name__ == "__main__":
    main()
