"""`blemish audit`."""

import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    data_options,
    duration,
    emit,
    json_option,
    model_rate_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.errors import BlemishError
from blemish.imaging.masks import read_mask
from blemish.imaging.outputs import PAGE
from blemish.io.text import counted, printable
from blemish.model.detector import Detector
from blemish.model.records import save_record

if TYPE_CHECKING:
    from blemish.auditing.findings import Finding
    from blemish.auditing.run import Audit


@click.command("audit")
@click.argument("model", type=FILE)
@data_options
@click.option("-o", "--output", type=FILE, default="audit.html", show_default=True, help="The page to write.")
@click.option(
    "--roi",
    type=FILE,
    metavar="MASK.png",
    help="Region of interest: white where evidence may lie; stretched to the images. Alarms from outside it are "
    "reported, and the share of evidence there.",
)
@click.option("--save", is_flag=True, help="Keep what was found in the model file for blemish info.")
@model_rate_option
@seed_option
@threads_option
@json_option
def command(
    model: Path,
    data: DataChoice,
    output: Path,
    roi: Path | None,
    save: bool,
    false_alarm_rate: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Find out what MODEL responds to in the folder DATA, training images included, and flag spurious cues.

    A cue is something that good or anomalous images have in common and that is no defect: a watermark, a date stamp, a
    border, another lamp. One page shows what the images hold, what the detector uses, and which verdicts depend on it.

    \b
    Example:
      blemish audit screws.onnx screws/ -o audit.html
    """
    from blemish.auditing.run import audit  # after --help: scipy's statistics take a moment to import
    from blemish.report.audit_page import write_audit

    started = time.perf_counter()
    check_writable(output, model, *data.inputs(), roi, kind=PAGE)
    region = None
    if roi is not None:
        region = read_mask(roi, without_black="darkest")
        if region.all() or not region.any():
            raise BlemishError(
                f"{printable(roi)}: {'white' if region.all() else 'black'} everywhere; paint white where evidence "
                "may lie, and leave the rest black"
            )
    detector = Detector.load(model, false_alarm_rate=false_alarm_rate)
    with open_screen() as screen:
        found = audit(
            detector,
            data.read(screen.notify),
            roi=region,
            seed=seed,
            progress=screen.progress,
        )
        audited = found.data
        for sentence in [*(reason for _, reason in audited.failed), *audited.remarks, *audited.mask_warnings]:
            screen.notify(sentence)
    write_audit(found, output)
    seconds = time.perf_counter() - started
    result = _as_json(found, output, seconds)
    if save:
        save_record(model, "audit", _kept(found, result))
    emit(result, _as_text(found, output, seconds), as_json=as_json)


def _as_json(found: "Audit", output: Path, seconds: float) -> dict[str, Any]:
    audited = found.data
    clusters = []
    for number in range(found.clusters.number):
        members = found.clustered[found.clusters.labels == number]
        clusters.append(
            {
                "images": len(members),
                "anomalous": int(audited.anomalous[members].sum()),
                "alarms": int(audited.alarmed[members].sum()),
                "paths": [printable(audited.samples[index].path) for index in members],
            }
        )
    return {
        "audit": printable(output),
        "flagged": bool(found.flagged),
        "verdict": found.headline,
        "flags": [_flag(found, finding) for finding in found.flagged],
        "observed": [_flag(found, finding) for finding in found.findings if not finding.flagged],
        "clusters": clusters,
        "evidence": {group.name: {"images": group.images, "outside_roi": group.outside} for group in found.evidence},
        "images": len(audited.samples),
        "alarms": int(audited.alarmed.sum()),
        "failed": len(audited.failed),
        "left_out": audited.left_out,
        "mask_warnings": list(audited.mask_warnings),
        "seconds": seconds,
    }


def _kept(found: "Audit", result: dict[str, Any]) -> dict[str, Any]:
    """What goes into the model file: findings in words, no lists of paths."""
    flags = [{name: flag[name] for name in ("kind", "words", "p_value", "used", "box")} for flag in result["flags"]]
    same = {name: result[name] for name in ("flagged", "verdict", "images", "alarms")}
    return same | {"flags": flags, "data": found.data_set.root.resolve().name, "date": date.today().isoformat()}


def _flag(found: "Audit", finding: "Finding") -> dict[str, Any]:
    paths = found.data.samples
    return {
        "kind": finding.kind,
        "words": finding.words,
        "p_value": finding.p_value,
        "in_data": finding.in_data,
        "used": finding.used,
        "box": _box(finding.region),
        "images": [printable(paths[index].path) for index in finding.carriers],
        "hanging": [printable(paths[index].path) for index in finding.dependent],
    }


def _box(region: np.ndarray | None) -> list[float] | None:
    """Left, top, right, bottom as shares of width and height."""
    if region is None or not region.any():
        return None
    height, width = region.shape
    rows, columns = np.nonzero(region)
    edges = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    return [round(float(edge), 4) for edge in edges]


def _as_text(found: "Audit", output: Path, seconds: float) -> str:
    audited = found.data
    lines = [
        f"{printable(found.detector.name)} on {printable(found.data_set.root)}: "
        f"{counted(len(audited.samples), 'image')}, {counted(int(audited.alarmed.sum()), 'alarm')}, "
        f"{counted(found.clusters.number, 'cluster')} of heatmaps, in {duration(seconds)}",
        f"  {found.headline}",
    ]
    lines += [f"  {number}. {finding.words}" for number, finding in enumerate(found.flagged, start=1)]
    return "\n".join([*lines, f"open {printable(output)} in a browser"])
