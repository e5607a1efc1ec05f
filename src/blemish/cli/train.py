"""`blemish train`."""

import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from blemish.cli.aliases import renamed_option
from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    data_options,
    device_option,
    duration,
    emit,
    false_alarm_rate_option,
    ignore_mask_option,
    in_megabytes,
    json_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.imaging.outputs import MODEL
from blemish.io.arguments import GONE
from blemish.io.text import printable
from blemish.plugins import METHODS, SYNTHETIC
from blemish.training.config import TrainConfig

DEFAULTS = TrainConfig()


class NetworkSize(click.ParamType["tuple[int, int] | Literal['auto']"]):
    """N or HxW as (height, width), or "auto"; whether a network can have it is for training to say."""

    name = "size"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int] | Literal["auto"]:
        """Both sides in pixels."""
        if str(value).lower() == "auto":
            return "auto"
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"{value} is no size: give auto, N or HxW, such as 256 or 256x384", parameter, context)
        return int(sides[0]), int(sides[-1])


@click.command("train")
@data_options
@click.option("-o", "--output", type=FILE, metavar="MODEL.onnx", help="The model file to write.")
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Print what would be decided from the images, and stop: nothing is trained or written.",
)
@click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE.toml",
    help="Options and constants by the names of blemish.TrainConfig; options given here take precedence.",
)
@click.option(
    "--size",
    type=NetworkSize(),
    metavar="auto|N|HxW",
    default=DEFAULTS.size,
    show_default=True,
    help="Network size in pixels, multiples of 32, or of a transformer's patch; auto: the shape of the good images, "
    "about 256 x 256 pixels.",
)
@seed_option
@false_alarm_rate_option(default=DEFAULTS.false_alarm_rate, note=f"default: {DEFAULTS.false_alarm_rate}")
@click.option(
    "--method",
    metavar="NAME",
    default=DEFAULTS.method,
    show_default=True,
    help=f"How images are compared with good ones: {', '.join(METHODS)}.",
)
@click.option(
    "--memory",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULTS.memory,
    show_default=True,
    help="Largest number of vectors in the memory bank of patchcore.",
)
@click.option("--backbone", metavar="NAME", default=DEFAULTS.backbone, show_default=True, help="A timm model.")
@click.option("--weights", type=FILE, help="A local file with the backbone's weights.")
@click.option("--download", is_flag=True, help="Let timm fetch the backbone's weights.")
@renamed_option(
    "--outlier-exposure",
    old="--outliers",
    type=FILE,
    metavar="DIR",
    help="A folder of unrelated images to learn from as anomalies.",
)
@click.option(
    "--synthetic",
    metavar="NAME",
    default=DEFAULTS.synthetic,
    show_default=True,
    help=f"Learn from copies of good images with a synthetic anomaly: {', '.join(SYNTHETIC)}. None of them made "
    "detectors better where it was measured (docs/research.md, Tried and lost).",
)
@ignore_mask_option
@click.option(
    "--bits",
    type=click.IntRange(8, 16),
    metavar="N",
    help="Bits of the values in 16-bit images, 8 to 16 (default: by the largest value of all training images).",
)
@click.option(
    "--cross-conformal",
    type=click.IntRange(2),
    metavar="K",
    help="Let all good images train and calibrate, in K folds: for small sets, with a weaker guarantee.",
)
@click.option(
    "--groups",
    metavar="PATTERN|FILE.csv",
    help="Which good images show the same part and are held out together: a regular expression on paths below DATA, "
    "whose first group names the part, or a table of columns path and group.",
)
@click.option(
    "--align/--no-align",
    default=DEFAULTS.align,
    help="Turn parts upright if they lie in any direction on a plain background (default: on).",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=DEFAULTS.epochs,
    show_default=True,
    help="Passes over known anomalies: labelled defects, outliers and synthetic ones.",
)
@click.option("--anomalies", hidden=True)
@click.option("--cells", hidden=True)
@device_option
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
    """
    gone = [name for name in GONE if options.pop(name) is not None]
    config = _configured(config_file, options)
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


def _configured(file: Path | None, options: dict[str, Any]) -> TrainConfig:
    """The configuration of the file, or the defaults, with the options that the command line gives in their place."""
    context = click.get_current_context()
    given = {
        name: value
        for name, value in options.items()
        # By an option's old name the value comes without a source.
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT or value != getattr(DEFAULTS, name)
    }
    return (DEFAULTS if file is None else TrainConfig.from_toml(file)).with_options(**given)


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
