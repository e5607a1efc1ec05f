"""The plots of a report as inline SVG in the page's own colours, light or dark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation import metrics
from blemish.imaging.heatmaps import short
from blemish.report import charts
from blemish.report.charts import Axis

NOMINAL, ANOMALOUS = "var(--nominal)", "var(--anomalous)"
LOG_SPREAD = 10
MARGIN, RIGHT = 10, 30  # pixels; at the right half a tick's label sticks out
BELOW, BESIDE = 34, 56  # pixels for ticks and label below an axis, and at the left of one
ROW, GAP = 118, 14  # pixels: a histogram's height, and between two


def score_histogram(nominal: Sequence[float], anomalous: Sequence[float], threshold: float) -> str:
    """Scores of good images above those of defective ones, each with its own counts, and the threshold.

    The score axis is logarithmic where scores go beyond ten times the threshold.
    """
    groups = [
        (label, colour, np.array(scores))
        for label, colour, scores in (("good", NOMINAL, nominal), ("defective", ANOMALOUS, anomalous))
        if scores
    ]
    everything = np.concatenate([scores for *_, scores in groups])
    log = bool(everything.min() > 0 and everything.max() > LOG_SPREAD * threshold > 0)
    bins = _bins(np.append(everything, threshold), threshold, log=log)
    width, height = 520, MARGIN + len(groups) * (ROW + GAP) - GAP + BELOW
    across = Axis(float(bins[0]), float(bins[-1]), BESIDE, width - RIGHT, log=log)
    at = float(across.place(threshold))
    parts = []
    for row, (label, colour, scores) in enumerate(groups):
        top = MARGIN + row * (ROW + GAP)
        counts = np.histogram(scores, bins)[0].tolist()
        up = Axis(0, 1.05 * max(counts), top + ROW, top)
        last = row == len(groups) - 1
        parts += [
            charts.rows_of_bars(counts, bins, across, up, colour),
            charts.left_axis(up, BESIDE, label=f"{label} images", most=min(5, max(counts) + 1)),
            charts.bottom_axis(across, top + ROW, label="score", ticks=last),
            charts.line((at, at), (top, top + ROW), width=1.2, dashes="4 2"),
        ]
    ends = at > (BESIDE + width) / 2  # the words stand on the side that has room for them
    words = f"threshold {short(threshold)}"
    parts.append(charts.text(words, at - 5 if ends else at + 5, MARGIN + 8, anchor="end" if ends else "start"))
    return charts.page(
        parts, size=(width, height), description="Histograms of the scores of good and of defective test images"
    )


def _bins(values: NDArray[np.float64], threshold: float, *, log: bool) -> NDArray[np.float64]:
    """Edges of about forty bins over all values, the threshold one of them: no bar straddles the decision."""
    if log:
        return np.asarray(np.exp(_bins(np.log(values), float(np.log(threshold)), log=False)))
    width = max((values.max() - values.min()) / 40, 1e-9)
    below, above = np.ceil((threshold - values.min()) / width), np.floor((values.max() - threshold) / width)
    edges: NDArray[np.float64] = threshold + width * np.arange(-below, above + 2)
    return edges


def roc_curve(nominal: Sequence[float], anomalous: Sequence[float], threshold: float) -> str:
    """Detection rate over false-alarm rate for every threshold, the one in use marked."""
    kinds = np.repeat([False, True], [len(nominal), len(anomalous)])
    curve = metrics.roc_curve(kinds, np.array([*nominal, *anomalous], dtype=np.float64))
    alarmed, detected = (float(np.mean(np.array(scores) >= threshold)) for scores in (nominal, anomalous))
    crowded, low = alarmed > 0.5, detected < 0.3  # keeps the words inside the axes
    width, height = 360, 280
    across = Axis(0, 1, BESIDE, width - RIGHT)
    up = Axis(0, 1, height - BELOW, MARGIN)
    x, y = float(across.place(alarmed)), float(up.place(detected))
    words = ("this threshold", f"{100 * detected:.3g} % detected", f"{100 * alarmed:.3g} % false alarms")
    parts = [
        charts.line(across.place([0, 1]), up.place([0, 1]), width=0.6, dashes="2 3"),
        charts.line(
            across.place(curve.false_positive_rate), up.place(curve.true_positive_rate), colour=ANOMALOUS, width=2
        ),
        charts.dot(x, y),
        charts.text(
            words, x - 9 if crowded else x + 9, y - 30 if low else y + 17, anchor="end" if crowded else "start"
        ),
        charts.bottom_axis(across, up.start, label="false-alarm rate", most=6),
        charts.left_axis(up, BESIDE, label="detection rate"),
    ]
    return charts.page(parts, size=(width, height), description="ROC curve with the operating point")
