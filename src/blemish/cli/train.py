"""`blemish train`."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    data_options,
    duration,
    emit,
    in_megabytes,
    json_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.cli.training_options import DEFAULTS, configured, training_options
from blemish.imaging.outputs import MODEL
from blemish.io.arguments import GONE
from blemish.io.text import printable
from blemish.plugins import METHODS
from blemish.training.config import TrainConfig


@click.command("train")
@data_options
@click.option("-o", "--output", type=FILE, metavar="MODEL.onnx", help="The model file to write.")
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Print what would be decided from the images, and stop: nothing is trained or written.",
)
@seed_option
@click.option(
    "--method",
    metavar="NAME",
    default=DEFAULTS.method,
    show_default=True,
    help=f"How anomalies are found: {', '.join(METHODS)}. All but fcdd and hsc compare images with good ones; "
    "these train a network on good and anomalous images.",
)
@training_options
@click.option(
    "--train-from",
    metavar="LAYER",
    help="Methods fcdd and hsc: train the backbone, too, from this layer on; all for the whole of it (default: it is "
    "frozen).",
)
@click.option("--anomalies", hidden=True)
@click.option("--cells", hidden=True)
@click.option(
    "--devices",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULTS.devices,
    show_default=True,
    help="Processes that train together, each on a device of its own.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1),
    metavar="M",
    default=DEFAULTS.nodes,
    show_default=True,
    help="Machines with as many devices; start the same command on each, with MASTER_ADDR and NODE_RANK set.",
)
@click.option(
    "--tensorboard",
    type=FILE,
    metavar="DIR",
    help="Write a TensorBoard log of this training into the folder DIR: heatmaps of up to eight images, the "
    "calibration scores and the final figures; curves too, where known anomalies are learned from.",
)
@click.option(
    "--mlflow",
    metavar="URI",
    help="Log the same as a run of MLflow: the URI of a tracking server or a database, or a folder.",
)
@threads_option
@json_option
def command(
    data: DataChoice, output: Path | None, only_plan: bool, config_file: Path | None, as_json: bool, **options: Any
) -> None:
    """Train a detector on the images in the folder DATA, calibrate it, and write one model file.

    \b
    Example:
      blemish train screws/ -o screws.onnx
      blemish train screws/ --plan
      blemish train screws/ -o screws.onnx --method fcdd
    """
    gone = [name for name in GONE if options.pop(name) is not None]
    config = configured(config_file, options)
    if only_plan:
        _print_plan(data, config, as_json=as_json)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.", click.get_current_context())
    check_writable(
        output, *data.inputs(), config.weights, config.outlier_exposure, config.ignore_mask, config_file, kind=MODEL
    )
    from blemish import train  # after the quick checks: torch takes seconds to import
    from blemish.training.distributed import is_first_process

    started = time.perf_counter()
    with open_screen() as screen:
        if is_first_process():
            screen.notify(_headline(config))
            for name in gone:
                screen.notify(f"--{name} no longer does anything: {GONE[name]}")
        detector = train(data.root, output, config, progress=screen.progress, notify=screen.notify, **data.options())
    if not is_first_process():
        return
    seconds = time.perf_counter() - started
    result = {
        "model": printable(output),
        "train_images": detector.metadata.data["train_images"],
        "calibration_images": detector.metadata.data["calibration_images"],
        "supervision": detector.metadata.supervision,
        "calibration_statement": detector.calibration.statement(),
        "seconds": seconds,
    }
    lines = [
        f"supervision: {detector.metadata.supervision}",
        f"{printable(output)}  {in_megabytes(output)} in {duration(seconds)}",
        f"  {detector.calibration.statement()}",
    ]
    emit(result, "\n".join(lines), as_json=as_json)


def _print_plan(data: DataChoice, config: TrainConfig, *, as_json: bool) -> None:
    """Prints what would be decided, and which images would learn and calibrate."""
    from blemish.datasets.layouts import read_data_set
    from blemish.training.run import prepare_on

    read = partial(read_data_set, data.root, **data.options())
    with open_screen() as screen:
        prepared = prepare_on(read, config, progress=screen.progress, notify=screen.notify)
    emit(prepared.plan.to_dict() | {"roles": prepared.files_by_role()}, prepared.plan.as_text(), as_json=as_json)


def _headline(config: TrainConfig) -> str:
    backbone = f"backbone {printable(config.backbone)}"
    if config.size == "auto":  # training says it once it knows the images
        return backbone
    height, width = config.size
    return f"{backbone} · {height} px" if height == width else f"{backbone} · {height} x {width} px"
