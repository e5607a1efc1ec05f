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
    from blemish.audit.findings import Suspect
    from blemish.audit.run import Audit


@click.command("audit")
@click.argument("model", type=FILE)
@data_options
@click.option("-o", "--output", type=FILE, default="audit.html", show_default=True, help="The page to write.")
@click.option(
    "--roi",
    type=FILE,
    metavar="MASK.png",
    help="White where evidence may lie; stretched to the images. The share outside it is told, and alarms from there.",
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
    """Say what MODEL looks at in the folder DATA, training images included, and flag spurious cues.

    A cue is something that good or anomalous images have in common and that is no defect: a watermark, a date stamp, a
    border, another lamp. One page tells what the images hold, what the detector uses, and what hangs on it.

    \b
    Example:
      blemish audit screws.onnx screws/ -o audit.html
    """
    from blemish.audit.run import audit  # after --help: scipy's statistics take a moment to import
    from blemish.report.audit_page import write_audit

    started = time.perf_counter()
    check_writable(output, model, *data.inputs(), roi, kind=PAGE)
    interest = None
    if roi is not None:
        interest = read_mask(roi, without_black="darkest")
        if interest.all() or not interest.any():
            raise BlemishError(
                f"{printable(roi)}: {'white' if interest.all() else 'black'} everywhere; paint white where evidence "
                "may lie, and leave the rest black"
            )
    detector = Detector.load(model, false_alarm_rate=false_alarm_rate)
    with open_screen() as screen:
        found = audit(
            detector,
            data.read(screen.notify),
            interest=interest,
            seed=seed,
            progress=screen.progress,
        )
        material = found.material
        for sentence in [*(reason for _, reason in material.failed), *material.remarks, *material.mask_warnings]:
            screen.notify(sentence)
    write_audit(found, output)
    seconds = time.perf_counter() - started
    result = _as_json(found, output, seconds)
    if save:
        save_record(model, "audit", _kept(found, result))
    emit(result, _as_text(found, output, seconds), as_json=as_json)


def _as_json(found: "Audit", output: Path, seconds: float) -> dict[str, Any]:
    material = found.material
    clusters = []
    for number in range(found.clusters.number):
        members = found.clustered[found.clusters.labels == number]
        clusters.append(
            {
                "images": len(members),
                "anomalous": int(material.anomalous[members].sum()),
                "alarms": int(material.alarmed[members].sum()),
                "paths": [printable(material.samples[index].path) for index in members],
            }
        )
    return {
        "audit": printable(output),
        "flagged": bool(found.flagged),
        "verdict": found.headline,
        "flags": [_flag(found, suspect) for suspect in found.flagged],
        "observed": [_flag(found, suspect) for suspect in found.suspects if not suspect.flagged],
        "clusters": clusters,
        "evidence": {one.name: {"images": one.images, "outside_roi": one.outside} for one in found.evidence},
        "images": len(material.samples),
        "alarms": int(material.alarmed.sum()),
        "failed": len(material.failed),
        "left_out": material.left_out,
        "mask_warnings": list(material.mask_warnings),
        "seconds": seconds,
    }


def _kept(found: "Audit", result: dict[str, Any]) -> dict[str, Any]:
    """What goes into the model file: findings in words, no lists of paths."""
    flags = [{name: flag[name] for name in ("kind", "words", "p_value", "used", "box")} for flag in result["flags"]]
    same = {name: result[name] for name in ("flagged", "verdict", "images", "alarms")}
    return same | {"flags": flags, "data": found.data.root.resolve().name, "date": date.today().isoformat()}


def _flag(found: "Audit", suspect: "Suspect") -> dict[str, Any]:
    paths = found.material.samples
    return {
        "kind": suspect.kind,
        "words": suspect.words,
        "p_value": suspect.p_value,
        "in_data": suspect.in_data,
        "used": suspect.used,
        "box": _box(suspect.region),
        "images": [printable(paths[index].path) for index in suspect.carriers],
        "hanging": [printable(paths[index].path) for index in suspect.hanging],
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
    material = found.material
    lines = [
        f"{printable(found.detector.name)} on {printable(found.data.root)}: "
        f"{counted(len(material.samples), 'image')}, {counted(int(material.alarmed.sum()), 'alarm')}, "
        f"{counted(found.clusters.number, 'cluster')} of heatmaps, in {duration(seconds)}",
        f"  {found.headline}",
    ]
    lines += [f"  {number}. {suspect.words}" for number, suspect in enumerate(found.flagged, start=1)]
    return "\n".join([*lines, f"open {printable(output)} in a browser"])
