"""An audit as one HTML file to be read from top to bottom: the verdict first, then what it rests on."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.auditing.counterfactuals import Change
from blemish.auditing.data import Mask
from blemish.auditing.findings import LOCATION_LEVEL, SHARED_LEVEL, Finding
from blemish.auditing.run import Audit
from blemish.imaging.heatmaps import HeatmapScale, overlay
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.io.text import printable
from blemish.report.data_uris import jpeg_uri
from blemish.report.environment import write_page

MAX_EXAMPLES = 4  # images beside a finding
MAX_INSERTED = 2  # images beside it that the cue was inserted into
MAX_OF_CLUSTER = 12  # images
MAX_DEPENDENT = 100  # images
SIDE = 224  # pixels


@dataclass(frozen=True)
class Example:
    """One image beside a finding; pictures are data URIs."""

    name: str
    verdict: str
    photograph: str
    heatmap: str
    changed: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Flag:
    """A flagged finding as the page shows it."""

    number: int
    finding: Finding
    examples: list[Example]
    inserted: list[Example]


@dataclass(frozen=True)
class ClusterSheet:
    """A cluster: what its heatmaps have in common, and the first of them."""

    title: str
    mean: str
    heatmaps: list[tuple[str, str]]
    left_out: int


def write_audit(found: Audit, path: Path) -> None:
    """Writes an audit as one self-contained HTML file.

    Args:
        found: what `audit` returned.
        path: the file to write, with the suffix .html or .htm.

    Raises:
        BlemishError: the file cannot be written, is an input, or has a name that is not that of a page.
    """
    check_overwriting(path, (sample.path for sample in found.data.samples), kind=PAGE)
    write_page(path, "audit.html.j2", **_content(found))


def image_name(found: Audit, index: int) -> str:
    """An image's path below the folder."""
    path = found.data.samples[index].path
    root = found.data_set.root
    return printable(path.relative_to(root) if path.is_relative_to(root) else path)


def _content(found: Audit) -> dict[str, Any]:
    """What the template refers to by name."""
    data, flagged = found.data, found.flagged
    ground = data.pixels[~data.anomalous].mean(axis=0).round().astype(np.uint8)  # the mean good image (H, W, 3)
    return {
        "found": found,
        "model": printable(found.detector.name),
        "data": printable(found.data_set.root.resolve().name),
        "date": date.today().isoformat(),
        "good": int((~data.anomalous).sum()),
        "bad": int(data.anomalous.sum()),
        "alarms": int(data.alarmed.sum()),
        "false_alarms": int((data.alarmed & ~data.anomalous).sum()),
        "ignored": float(data.ignored.mean()),
        "flags": [_flag(found, finding, number) for number, finding in enumerate(flagged, start=1)],
        "observed": [finding for finding in found.findings if not finding.flagged],
        "evidence": [(group, _mean_picture(found, ground, group.mean)) for group in found.evidence],
        "sheets": _sheets(found, ground),
        "dependent": [
            (image_name(found, index), flagged.index(finding) + 1) for index, finding in found.dependent[:MAX_DEPENDENT]
        ],
        "dependent_left_out": max(0, len(found.dependent) - MAX_DEPENDENT),
        "statistics": _statistics(found),
        "levels": (SHARED_LEVEL, LOCATION_LEVEL),
        "scale": found.detector.scale,
    }


def _flag(found: Audit, finding: Finding, number: int) -> Flag:
    if finding.removed is None:
        examples = [_example(found, int(index), finding.region) for index in finding.carriers[:MAX_EXAMPLES]]
        return Flag(number, finding, examples, [])
    change = finding.removed.change
    # Those whose alarm is lost first, then by score: they show what the words say.
    order = np.lexsort((-change.before, ~np.isin(change.images, change.lost)))
    examples = [_changed(found, change, int(place), finding.region) for place in order[:MAX_EXAMPLES]]
    inserted: list[Example] = []
    if finding.inserted is not None:
        change = finding.inserted.change
        good = np.flatnonzero(np.isin(change.images, change.gained) & ~found.data.anomalous[change.images])
        inserted = [_changed(found, change, int(place), finding.region) for place in good[:MAX_INSERTED]]
    return Flag(number, finding, examples, inserted)


def _example(found: Audit, index: int, region: Mask | None) -> Example:
    data = found.data
    return Example(
        name=image_name(found, index),
        verdict="alarm" if data.alarmed[index] else "no alarm",
        photograph=_photograph(data.pixels[index]),
        heatmap=_heatmap(found, data.pixels[index], data.maps[index], region),
    )


def _changed(found: Audit, change: Change, place: int, region: Mask | None) -> Example:
    before = _example(found, int(change.images[place]), region)
    after = "alarm" if change.after[place] >= change.threshold else "no alarm"
    return replace(
        before,
        verdict=f"{before.verdict} → {after}",
        changed=_photograph(change.pixels[place]),
        after=_heatmap(found, change.pixels[place], change.maps[place], region),
    )


def _sheets(found: Audit, ground: npt.NDArray[np.uint8]) -> list[ClusterSheet]:
    data = found.data
    sheets = []
    for number in range(found.clusters.number):
        members = found.clustered[found.clusters.labels == number]
        bad = int(data.anomalous[members].sum())
        alarmed = int(data.alarmed[members].sum())
        title = (
            f"{len(members)} heatmaps: {bad} of anomalous images, {len(members) - bad} of good ones; {alarmed} alarms"
        )
        heatmaps = [
            (image_name(found, int(image)), _heatmap(found, data.pixels[image], data.maps[image], None))
            for image in members[:MAX_OF_CLUSTER]
        ]
        mean = _mean_picture(found, ground, data.maps[members].mean(axis=0))
        sheets.append(ClusterSheet(title, mean, heatmaps, left_out=max(0, len(members) - MAX_OF_CLUSTER)))
    return sheets


def _statistics(found: Audit) -> list[tuple[str, list[str]]]:
    """Medians and middle halves of each statistic over good images, anomalous ones and alarms."""
    data = found.data
    groups = (~data.anomalous, data.anomalous, data.alarmed)
    rows = []
    for name, values in found.statistics.items():
        cells = []
        for chosen in groups:
            if not chosen.any():
                cells.append("–")
                continue
            low, middle, high = np.quantile(values[chosen], (0.25, 0.5, 0.75), axis=0)
            cells.append(" · ".join(f"{b:.0f} ({a:.0f} to {c:.0f})" for a, b, c in zip(low, middle, high, strict=True)))
        rows.append((name, cells))
    return rows


def _mean_picture(found: Audit, ground: npt.NDArray[np.uint8], mean: npt.NDArray[np.float32] | None) -> str:
    """A mean map over the mean good image, coloured from its own lowest to its own highest value."""
    if mean is None:
        return ""
    low, high = float(np.median(mean)), float(mean.max())
    span = max(high - low, 1e-9)
    scale = HeatmapScale(low=low, threshold=low + 0.5 * span, high=high + 0.01 * span)
    picture = overlay(Image.fromarray(ground), mean, scale, regions=[], mask=found.roi, colour_bar=False)
    return _small(picture)


def _photograph(pixels: npt.NDArray[np.uint8]) -> str:
    return _small(Image.fromarray(pixels))


def _heatmap(found: Audit, pixels: npt.NDArray[np.uint8], values: npt.NDArray[np.float32], region: Mask | None) -> str:
    return _small(overlay(Image.fromarray(pixels), values, found.detector.scale, mask=region, colour_bar=False))


def _small(picture: Image.Image) -> str:
    thumbnail = picture.copy()
    thumbnail.thumbnail((SIDE, SIDE))
    return jpeg_uri(thumbnail)
