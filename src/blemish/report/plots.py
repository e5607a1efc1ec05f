"""The plots of a report as inline SVG in the page's own colours, light or dark."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from blemish.heatmaps import short

# matplotlib knows no CSS variables: it draws in these colours, and the page's names take their place.
INK, NOMINAL, ANOMALOUS = "#0a0b0c", "#0a0b0d", "#0a0b0e"
PAGE_COLOURS = {INK: "currentColor", NOMINAL: "var(--nominal)", ANOMALOUS: "var(--anomalous)"}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "blemish",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
LOG_SPREAD = 10


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
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(6.0, 3.6), layout="constrained")
        rows = page.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, colour, scores) in zip(rows, groups, strict=True):
            axes.hist(scores, bins=bins, color=colour)
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.set_ylabel(f"{label} images")
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        if log:
            rows[-1].set_xscale("log")
        rows[-1].set_xlabel("score")
        rows[0].annotate(
            f"threshold {short(threshold)}", (threshold, 1), xycoords=("data", "axes fraction"),
            xytext=(5, 0), textcoords="offset points", va="top",
        )  # fmt: skip
        return _svg(page, "Histograms of the scores of good and of defective test images")


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
    false_alarms, detections = operating_points(nominal, anomalous)
    alarmed, detected = (float(np.mean(np.array(scores) >= threshold)) for scores in (nominal, anomalous))
    crowded, low = alarmed > 0.5, detected < 0.3  # keeps the words inside the axes
    with matplotlib.rc_context(STYLE):
        page = Figure(figsize=(4.2, 3.6), layout="constrained")
        axes = page.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.6, linestyle=(0, (2, 3)))
        axes.plot(false_alarms, detections, color=ANOMALOUS, linewidth=2, clip_on=False)
        axes.plot(alarmed, detected, "o", color=INK, markersize=7, clip_on=False, zorder=3)
        axes.annotate(
            f"this threshold\n{100 * detected:.3g} % detected\n{100 * alarmed:.3g} % false alarms",
            (alarmed, detected),
            xytext=(-10 if crowded else 10, 8 if low else -8), textcoords="offset points",
            va="bottom" if low else "top", ha="right" if crowded else "left",
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="false-alarm rate", ylabel="detection rate")
        return _svg(page, "ROC curve with the operating point")


def operating_points(
    nominal: Sequence[float], anomalous: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the ROC curve: rates of good and of defective images at or above each score."""
    thresholds = np.unique(np.concatenate([nominal, anomalous]))[::-1]
    rates = [
        1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores) for scores in (nominal, anomalous)
    ]
    return np.append(0.0, rates[0]), np.append(0.0, rates[1])


def _svg(page: Figure, description: str) -> str:
    buffer = io.StringIO()
    page.savefig(
        buffer, format="svg", transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )  # fmt: skip
    text = buffer.getvalue()
    for drawn, named in PAGE_COLOURS.items():
        text = text.replace(drawn, named)
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
