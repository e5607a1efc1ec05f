"""`blemish train`."""

import time
from pathlib import Path
from typing import Any, Literal

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    data_options,
    device_option,
    duration,
    emit,
    false_alarm_rate_option,
    ignore_option,
    in_megabytes,
    json_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.imaging.outputs import MODEL
from blemish.io.arguments import GONE
from blemish.io.text import printable


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
@click.option("-o", "--output", type=FILE, required=True, metavar="MODEL.onnx", help="The model file to write.")
@click.option(
    "--size",
    type=NetworkSize(),
    metavar="auto|N|HxW",
    default="auto",
    show_default=True,
    help="Network size in pixels, multiples of 32; auto has the images' shape and as many pixels as 256 x 256.",
)
@seed_option
@false_alarm_rate_option(default=0.01, note="default: 0.01")
@click.option("--backbone", metavar="NAME", default="tf_efficientnet_lite0", show_default=True, help="A timm model.")
@click.option("--weights", type=FILE, help="A local file with the backbone's weights.")
@click.option("--download", is_flag=True, help="Let timm fetch the backbone's weights.")
@click.option("--outliers", type=FILE, metavar="DIR", help="A folder of unrelated images to learn from.")
@ignore_option
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
    help="Which good images show one part, to be held back together: a regular expression on paths below DATA, whose "
    "first group names the part, or a table of columns path and group.",
)
@click.option(
    "--align/--no-align",
    default=True,
    help="Turn parts upright where they lie in any direction on a plain background. On unless said otherwise.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=6,
    show_default=True,
    help="Passes over known anomalies: labelled defects and outliers.",
)
@click.option("--anomalies", hidden=True)
@click.option("--cells", hidden=True)
@device_option
@click.option(
    "--devices",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Processes that train together, each on a device of its own.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1),
    metavar="M",
    default=1,
    show_default=True,
    help="Machines with as many devices; start the same command on each, with MASTER_ADDR and NODE_RANK set.",
)
@threads_option
@json_option
def command(data: DataChoice, output: Path, as_json: bool, **settings: Any) -> None:
    """Learn from the images in the folder DATA, calibrate, and write one model file.

    \b
    Example:
      blemish train screws/ -o screws.onnx
    """
    given = (settings[name] for name in ("weights", "outliers", "ignore"))
    check_writable(output, *data.inputs(), *given, kind=MODEL)
    from blemish import train  # after the quick checks: torch takes seconds to import
    from blemish.training.distributed import is_first_process

    started = time.perf_counter()
    gone = {name: why for name, why in GONE.items() if settings.pop(name) is not None}
    with open_screen() as screen:
        if is_first_process():
            screen.notify(_headline(settings))
            for name, why in gone.items():
                screen.notify(f"--{name} no longer does anything: {why}")
        detector = train(
            data.root, output, progress=screen.progress, notify=screen.notify, **data.options(), **settings
        )
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


def _headline(settings: dict[str, Any]) -> str:
    backbone = f"backbone {printable(settings['backbone'])}"
    if settings["size"] == "auto":  # training says it once it knows the images
        return backbone
    height, width = settings["size"]
    return f"{backbone} · {height} px" if height == width else f"{backbone} · {height} x {width} px"
