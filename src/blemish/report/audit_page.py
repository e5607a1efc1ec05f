"""An audit as one HTML file to be read from top to bottom: the verdict first, then what it rests on."""

import base64
import io
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.audit import findings
from blemish.audit.counterfactuals import Change
from blemish.audit.data import Mask
from blemish.audit.findings import Suspect
from blemish.audit.run import Audit
from blemish.imaging.heatmaps import LEGEND, HeatmapScale, overlay
from blemish.imaging.outputs import PAGE, check_overwriting
from blemish.io.files import atomic_write
from blemish.io.text import printable
from blemish.report.environment import page_environment

EXAMPLES = 4  # images beside a suspect
SHEET = 12  # images of a cluster
MAX_HANGING = 100
SIDE = 224  # pixels


@dataclass(frozen=True)
class Example:
    """One image beside a suspect; pictures are data URIs."""

    name: str
    verdict: str
    photograph: str
    heatmap: str
    changed: str | None
    after: str | None


@dataclass(frozen=True)
class Exhibit:
    """A suspect as the page shows it."""

    number: int
    suspect: Suspect
    examples: list[Example]
    given: list[Example]


@dataclass(frozen=True)
class Sheet:
    """A cluster: what its heatmaps have in common, and the first of them."""

    title: str
    mean: str
    heatmaps: list[tuple[str, str]]
    left_out: int


def write_audit(found: Audit, path: Path) -> None:
    """Writes an audit as one self-contained HTML file.

    Raises BlemishError where it cannot be written, is an input, or its name is not that of a page.
    """
    check_overwriting(path, (sample.path for sample in found.material.samples), kind=PAGE)
    page = page_environment().get_template("audit.html.j2").render(_content(found))
    with atomic_write(path, mode="w") as file:
        file.write(page)


def image_name(found: Audit, index: int) -> str:
    """An image's path below the folder."""
    path = found.material.samples[index].path
    root = found.data.root
    return printable(path.relative_to(root) if path.is_relative_to(root) else path)


def _content(found: Audit) -> dict[str, Any]:
    """What the template refers to by name."""
    material = found.material
    flagged = found.flagged
    unflagged = [suspect for suspect in found.suspects if not suspect.flagged]
    return {
        "found": found,
        "model": printable(found.detector.name),
        "data": printable(found.data.root.resolve().name),
        "date": date.today().isoformat(),
        "good": int((~material.anomalous).sum()),
        "bad": int(material.anomalous.sum()),
        "alarms": int(material.alarmed.sum()),
        "false_alarms": int((material.alarmed & ~material.anomalous).sum()),
        "ignored": float(material.ignored.mean()),
        "flags": [_exhibit(found, suspect, number) for number, suspect in enumerate(flagged, start=1)],
        "observed": unflagged,
        "evidence": [(one, _mean_picture(found, one.mean)) for one in found.evidence],
        "sheets": _sheets(found),
        "hanging": [
            (image_name(found, index), suspect, flagged.index(suspect) + 1)
            for index, suspect in found.hanging[:MAX_HANGING]
        ],
        "hanging_left_out": max(0, len(found.hanging) - MAX_HANGING),
        "statistics": _statistics(found),
        "levels": (findings.SHARED, findings.PLACES),
        "scale": found.detector.scale,
        "legend": ", ".join(f"rgb({r} {g} {b})" for r, g, b in LEGEND[::15].tolist()),
    }


def _exhibit(found: Audit, suspect: Suspect, number: int) -> Exhibit:
    material = found.material
    if suspect.taken is None:
        examples = [_example(found, int(index), suspect.region) for index in suspect.carriers[:EXAMPLES]]
        return Exhibit(number, suspect, examples, [])
    change = suspect.taken.change
    # Those whose alarm vanishes first, then by score: they show what the words say.
    order = np.lexsort((-change.before, ~np.isin(change.images, change.gone)))
    examples = [_changed(found, change, int(place), suspect.region) for place in order[:EXAMPLES]]
    given: list[Example] = []
    if suspect.given is not None and len(suspect.given.change.new):
        change = suspect.given.change
        fresh = np.flatnonzero(np.isin(change.images, change.new) & ~material.anomalous[change.images])
        given = [_changed(found, change, int(place), suspect.region) for place in fresh[:2]]
    return Exhibit(number, suspect, examples, given)


def _example(found: Audit, index: int, region: Mask | None) -> Example:
    material = found.material
    verdict = "alarm" if material.alarmed[index] else "no alarm"
    return Example(
        image_name(found, index),
        verdict,
        _photograph(material.pixels[index]),
        _heatmap(found, material.pixels[index], material.maps[index], region),
        None,
        None,
    )


def _changed(found: Audit, change: Change, place: int, region: Mask | None) -> Example:
    index = int(change.images[place])
    one = _example(found, index, region)
    after = "alarm" if change.after[place] >= change.threshold else "no alarm"
    return Example(
        one.name,
        f"{one.verdict} → {after}",
        one.photograph,
        one.heatmap,
        _photograph(change.pixels[place]),
        _heatmap(found, change.pixels[place], change.maps[place], region),
    )


def _sheets(found: Audit) -> list[Sheet]:
    material = found.material
    sheets = []
    for number in range(found.clusters.number):
        members = found.clustered[found.clusters.labels == number]
        bad = int(material.anomalous[members].sum())
        alarmed = int(material.alarmed[members].sum())
        title = (
            f"{len(members)} heatmaps: {bad} of anomalous images, {len(members) - bad} of good ones; {alarmed} alarms"
        )
        sheets.append(
            Sheet(
                title=title,
                mean=_mean_picture(found, material.maps[members].mean(axis=0)),
                heatmaps=[
                    (image_name(found, int(one)), _heatmap(found, material.pixels[one], material.maps[one], None))
                    for one in members[:SHEET]
                ],
                left_out=max(0, len(members) - SHEET),
            )
        )
    return sheets


def _statistics(found: Audit) -> list[tuple[str, list[str]]]:
    """Medians and middle halves of each statistic over good images, anomalous ones and alarms."""
    material = found.material
    groups = (~material.anomalous, material.anomalous, material.alarmed)
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


def _mean_picture(found: Audit, mean: npt.NDArray[np.float32] | None) -> str:
    """A mean map over the mean good image, coloured from its own lowest to its own highest value."""
    if mean is None:
        return ""
    material = found.material
    ground = material.pixels[~material.anomalous].mean(axis=0).round().astype(np.uint8)
    low, high = float(np.median(mean)), float(mean.max())
    span = max(high - low, 1e-9)
    scale = HeatmapScale(low=low, threshold=low + 0.5 * span, high=high + 0.01 * span)
    picture = overlay(Image.fromarray(ground), mean, scale, regions=[], mask=found.interest, colour_bar=False)
    return _jpeg(picture)


def _photograph(pixels: npt.NDArray[np.uint8]) -> str:
    return _jpeg(Image.fromarray(pixels))


def _heatmap(found: Audit, pixels: npt.NDArray[np.uint8], values: npt.NDArray[np.float32], region: Mask | None) -> str:
    return _jpeg(overlay(Image.fromarray(pixels), values, found.detector.scale, mask=region, colour_bar=False))


def _jpeg(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
