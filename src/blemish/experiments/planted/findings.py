"""What is measured on a detector that may have learned the watermark, and the table of it."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from blemish.evaluation.metrics import auroc
from blemish.experiments.planted.photographs import DOG, MARKED_DOG, MARKED_OTHER, OTHER
from blemish.experiments.recipe import MethodName
from blemish.experiments.results import Result
from blemish.experiments.tables import METHOD_NAMES
from blemish.io.files import atomic_write

_NOTES = (
    "Test photographs never seen in training, each in both versions; mean ± sample standard deviation over the seeds.",
    "* heatmap mass in the box: of the dogs' upsampled heatmaps, the share inside the watermark's box; chance is the "
    "box's share of the photograph.\n"
    "* AUROC: dogs against foreign photographs without the watermark, the dogs without and with it.\n"
    "* watermark alone: AUROC of the foreign photographs with the watermark against the same without it; 0.5 where it "
    "does not count, 1 where it makes a dog of everything.",
    "The paper shows this in pictures only, on the horses of Pascal VOC (section 4.3).",
)
_EFFECT_NOTE = (
    "The heatmap mass that the watermark gains by training: that of a test dog with the watermark, less that of the "
    "same dog by the detector that has learned from no watermark, in percentage points. The mean over the dogs of all "
    "seeds, with its bootstrap interval of 95 %."
)


@dataclass(frozen=True)
class Finding:
    """One detector.

    Attributes:
        share: of the dogs it learned from, the share with the watermark.
        marked: how many these were.
        mass_without: mean share of a test dog's heatmap inside the watermark's box.
        mass_with: the same with the watermark on it.
        chance: the box's share of the photograph.
        auroc_without: dogs against foreign photographs, nobody with the watermark.
        auroc_with: the same, all dogs with it.
        auroc_watermark: foreign photographs with it against the same without it.
    """

    method: MethodName
    share: float
    seed: int
    marked: int
    mass_without: float
    mass_with: float
    chance: float
    auroc_without: float
    auroc_with: float
    auroc_watermark: float


@dataclass(frozen=True)
class Masses:
    """The share of each test dog's heatmap inside the watermark's box.

    Attributes:
        without: of the photographs as they are.
        marked: of the same with the watermark.
    """

    without: list[float]
    marked: list[float]


def mass_inside(maps: NDArray[np.float32], box: tuple[slice, slice]) -> list[float]:
    """The share of each heatmap (N, H, W), >= 0, that lies in the box; of one that is zero everywhere, 0."""
    inside, whole = (part.sum((1, 2), dtype=np.float64) for part in (maps[:, *box], maps))
    shares: list[float] = np.divide(inside, whole, out=np.zeros_like(whole), where=whole > 0).tolist()
    return shares


def measure(result: Result, masses: Masses, *, share: float, marked: int, chance: float) -> Finding:
    """The figures of a finished run."""
    kinds = np.array(result.kinds)

    def against(positive: str, negative: str) -> float:
        chosen = np.isin(kinds, (positive, negative))
        return auroc(kinds[chosen] == positive, result.scores[chosen])

    return Finding(
        method=result.method,
        share=share,
        seed=result.seed,
        marked=marked,
        mass_without=float(np.mean(masses.without)),
        mass_with=float(np.mean(masses.marked)),
        chance=chance,
        auroc_without=against(DOG, OTHER),
        auroc_with=against(MARKED_DOG, OTHER),
        auroc_watermark=against(MARKED_OTHER, OTHER),
    )


@dataclass(frozen=True)
class Effect:
    """What learning from watermarks did to the heatmaps of the test dogs with the watermark.

    Attributes:
        gain: the mean share of the heatmap that the box gained, over pairs of the same dog.
        low, high: the 95 % interval of that mean (bootstrap over the pairs).
        more: pairs of which the box gained.
        pairs: dogs, of each seed.
    """

    gain: float
    low: float
    high: float
    more: int
    pairs: int


def effect(masses: Sequence[Masses], without: Sequence[Masses]) -> Effect:
    """Compares detectors that have learned from watermarks with detectors that have not, seed by seed.

    Args:
        masses: of each seed's detector.
        without: of the detectors of the same seeds, whose training photographs have no watermark.
    """
    pairs = zip(masses, without, strict=True)
    gains = np.concatenate([np.subtract(one.marked, other.marked) for one, other in pairs])  # (P,)
    interval = bootstrap((gains,), np.mean, n_resamples=2000, random_state=0).confidence_interval
    return Effect(float(gains.mean()), float(interval.low), float(interval.high), int((gains > 0).sum()), len(gains))


def effects_markdown(found: Mapping[tuple[MethodName, float], Effect]) -> str:
    """A table of the effects by method and share."""
    lines = ["| method | training dogs with the watermark | mass gained, points | 95 % interval | dogs with more |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for (method, share), one in found.items():
        interval = f"{100 * one.low:.3f} to {100 * one.high:.3f}"
        cells = [METHOD_NAMES[method], f"{share:.0%}", f"{100 * one.gain:.3f}", interval, f"{one.more} of {one.pairs}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{_EFFECT_NOTE}\n"


def write_csv(findings: Sequence[Finding], path: Path) -> None:
    """A detector a row, shares and AUROC as fractions. Raises BlemishError where the file cannot be written."""
    with atomic_write(path, mode="w") as file:
        lines = csv.DictWriter(file, [entry.name for entry in fields(Finding)], lineterminator="\n")
        lines.writeheader()
        for finding in findings:
            row = asdict(finding)
            lines.writerow({key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()})


def markdown(findings: Sequence[Finding], notes: Mapping[str, str]) -> str:
    """A share a row, averaged over the seeds, what the columns mean, and how the detectors were made."""
    names = ["method", "training dogs with the watermark", "heatmap mass in the box", "…, watermark on", "chance"]
    names += ["AUROC", "…, watermark on the dogs", "watermark alone"]
    lines = [names, ["---", *["---:"] * (len(names) - 1)]]
    for method, share in dict.fromkeys((finding.method, finding.share) for finding in findings):
        of_share = [finding for finding in findings if (finding.method, finding.share) == (method, share)]
        cells = [METHOD_NAMES[method], f"{share:.0%} ({of_share[0].marked})"]
        cells += [_percent([f.mass_without for f in of_share]), _percent([f.mass_with for f in of_share])]
        cells += [f"{of_share[0].chance:.1%}", _auroc([f.auroc_without for f in of_share])]
        cells += [_auroc([f.auroc_with for f in of_share]), _auroc([f.auroc_watermark for f in of_share])]
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    made = ", ".join(f"{name} {value}" for name, value in notes.items())
    return "\n\n".join([text, *_NOTES, f"How these runs were made: {made}."]) + "\n"


def _percent(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.1%}" if len(values) > 1 else ""
    return f"{np.mean(values):.1%}{deviation}"


def _auroc(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"
