"""`blemish report`."""

import time
from pathlib import Path

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    data_options,
    emit,
    faithfulness_option,
    ignore_mask_option,
    json_option,
    model_rate_option,
    seed_option,
    threads_option,
)
from blemish.cli.evaluate import as_text, run_evaluation, run_study
from blemish.imaging.outputs import PAGE
from blemish.io.text import printable
from blemish.report.evaluation_page import write_report


@click.command("report")
@click.argument("model", type=FILE)
@data_options
@click.option("-o", "--output", type=FILE, default="report.html", show_default=True, help="The page to write.")
@model_rate_option
@ignore_mask_option
@faithfulness_option
@seed_option
@threads_option
@json_option
def command(
    model: Path,
    data: DataChoice,
    output: Path,
    false_alarm_rate: float | None,
    ignore_mask: Path | None,
    faithfulness: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Evaluate MODEL on the test images of the folder DATA and write one page to look at.

    \b
    Example:
      blemish report screws.onnx screws/ -o report.html
    """
    check_writable(output, model, *data.inputs(), ignore_mask, kind=PAGE)
    started = time.perf_counter()
    evaluation = run_evaluation(model, data, false_alarm_rate=false_alarm_rate, ignore_mask=ignore_mask)
    heatmap_study = None
    if faithfulness is not None:
        heatmap_study = run_study(model, data, images=faithfulness, seed=seed, ignore_mask=ignore_mask)
    write_report(evaluation, output, faithfulness=heatmap_study)
    seconds = time.perf_counter() - started
    result = {
        "report": printable(output),
        "images": evaluation.metrics["images"],
        "failed": len(evaluation.failed),
        "left_out": evaluation.left_out,
        "mask_warnings": list(evaluation.mask_warnings),
        "image_auroc": evaluation.metrics["image_auroc"],
        "pixel_auroc": evaluation.metrics["pixel_auroc"],
        "seconds": seconds,
    }
    text = f"{as_text(evaluation, seconds)}\n\nopen {printable(output)} in a browser"
    emit(result, text, as_json=as_json)
