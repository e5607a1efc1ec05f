"""`blemish evaluate`."""

import time
from datetime import date
from pathlib import Path
from typing import Any

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    cautions,
    data_options,
    duration,
    emit,
    faithfulness_option,
    ignore_mask_option,
    json_option,
    model_rate_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.evaluation.confidence import intervals
from blemish.evaluation.figures import defect_columns, text_lines
from blemish.evaluation.results import Evaluation
from blemish.evaluation.run import evaluate
from blemish.faithfulness.study import MODEL_MAP, HeatmapFigures, Study, study
from blemish.io.text import counted, figure, percent, printable
from blemish.model.detector import Detector
from blemish.model.records import save_record


@click.command("evaluate")
@click.argument("model", type=FILE)
@data_options
@model_rate_option
@ignore_mask_option
@faithfulness_option
@click.option(
    "--save", is_flag=True, help="Keep the figures, with confidence intervals, in the model file for blemish info."
)
@seed_option
@threads_option
@json_option
def command(
    model: Path,
    data: DataChoice,
    false_alarm_rate: float | None,
    ignore_mask: Path | None,
    faithfulness: int | None,
    save: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure MODEL on the test images of the folder DATA; images that it was trained or calibrated on are left out.

    \b
    Example:
      blemish evaluate screws.onnx screws/
    """
    started = time.perf_counter()
    evaluation = run_evaluation(model, data, false_alarm_rate=false_alarm_rate, ignore_mask=ignore_mask)
    heatmap_study = None
    if faithfulness is not None:
        heatmap_study = run_study(model, data, images=faithfulness, seed=seed, ignore_mask=ignore_mask)
    confidence_intervals = intervals(evaluation.images, seed=seed) if save else None
    seconds = time.perf_counter() - started
    result = evaluation.metrics | {
        "model": printable(evaluation.model),
        "data": printable(evaluation.data),
        "failed": len(evaluation.failed),
        "left_out": evaluation.left_out,
        "hidden": evaluation.fully_ignored,
        "mask_warnings": list(evaluation.mask_warnings),
        "calibration_statement": evaluation.calibration_statement,
        "seconds": seconds,
    }
    text = as_text(evaluation, seconds)
    if confidence_intervals is not None:
        result["intervals"] = confidence_intervals
    if heatmap_study is not None:
        result["faithfulness"] = heatmap_study.as_json()
        text += "\n\n" + study_as_text(heatmap_study)
    if save:
        save_record(model, "evaluation", result | {"date": date.today().isoformat()})
        text += f"\n\nkept in {printable(model)}: see blemish info {printable(model)}"
    emit(result, text, as_json=as_json)


def run_evaluation(
    model: Path, data: DataChoice, *, false_alarm_rate: float | None, ignore_mask: Path | None
) -> Evaluation:
    """Evaluates with a progress bar; every file that was left out or could not be read is named on stderr."""
    detector = Detector.load(model, false_alarm_rate=false_alarm_rate, ignore_mask=ignore_mask)
    with open_screen() as screen:
        for sentence in cautions(detector):
            screen.notify(sentence)
        evaluation = evaluate(detector, data.read(screen.notify), progress=screen.progress)
        faults = [reason for _, reason in evaluation.failed]
        for sentence in [*faults, *evaluation.remarks, *evaluation.mask_warnings]:
            screen.notify(sentence)
    return evaluation


def run_study(model: Path, data: DataChoice, *, images: int, seed: int, ignore_mask: Path | None) -> Study:
    """Measures how faithful heatmaps are, with a progress bar."""
    detector = Detector.load(model, ignore_mask=ignore_mask)
    with open_screen() as screen:
        return study(
            model,
            detector,
            data.read(),
            images=images,
            seed=seed,
            progress=screen.progress,
        )


def study_as_text(studied: Study) -> str:
    """The table of heatmaps and measures."""
    columns = ("pixel AUROC", "mass inside", "pointing", "deletion", "inpainted", "insertion", "shift", "ms")
    names = {name: "this model's" if name == MODEL_MAP else name for name in studied.methods}
    width = max(map(len, names.values()))

    def row(name: str, figures: HeatmapFigures) -> str:
        on_masks = (figures.pixel_auroc, figures.mass_inside, figures.pointing)
        on_scores = (figures.deletion, figures.deletion_healed, figures.insertion)
        cells = [figure(value) for value in (*on_masks, *on_scores)]
        cells += [f"{figures.shift:.2f}", f"{figures.milliseconds:.0f}"]
        aligned = (f"{cell:>{len(column)}}" for cell, column in zip(cells, columns, strict=True))
        return f"  {name:<{width}}  {'  '.join(aligned)}"

    on = f"{counted(studied.images, 'defective image')} ({counted(studied.masks, 'mask')})"
    return "\n".join(
        [
            f"  {'heatmap':<{width}}  {'  '.join(columns)}",
            *(row(names[name], figures) for name, figures in studied.methods.items()),
            f"  on {on}; better are low deletion, inpainted and ms, and high values of all else",
        ]
    )


def as_text(evaluation: Evaluation, seconds: float) -> str:
    """The figures as a few lines to read."""
    metrics = evaluation.metrics
    aside = [f"{evaluation.left_out:,} left out, seen in training"] * bool(evaluation.left_out)
    aside += [f"{evaluation.fully_ignored:,} defective only where ignored, left out"] * bool(evaluation.fully_ignored)
    aside += [f"{len(evaluation.failed):,} unreadable"] * bool(evaluation.failed)
    lines = [
        f"{printable(evaluation.model)} on {printable(evaluation.data)}: "
        + " · ".join([f"{counted(metrics['images'], 'test image')} in {duration(seconds)}", *aside]),
        *(f"  {line}" for line in text_lines(metrics)),
        f"  {evaluation.calibration_statement}",
        *[f"  ignored      {percent(metrics['ignored'])} of the pixels"] * bool(metrics["ignored"]),
        *_per_defect(metrics["per_defect"]),
    ]
    return "\n".join(lines)


def _per_defect(figures: dict[str, dict[str, Any]]) -> list[str]:
    if not figures:
        return []
    names = [printable(name) for name in figures]
    width = max(len("defect"), *map(len, names))
    columns = defect_columns()
    rows = ["  ".join([f"  {'defect':<{width}}", "images", "detected", *(column.label for column in columns)])]
    for name, values in zip(names, figures.values(), strict=True):
        cells = [f"{column.format(values[column.name]):>{len(column.label)}}" for column in columns]
        rows.append("  ".join([f"  {name:<{width}}", f"{values['images']:>6,}", f"{values['detected']:>8,}", *cells]))
    return ["", *rows]
