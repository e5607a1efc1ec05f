"""`blemish export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    check_writable,
    emit,
    in_megabytes,
    json_option,
    named_data_options,
    open_screen,
)
from blemish.imaging.outputs import MODEL
from blemish.io.text import figure, printable

if TYPE_CHECKING:
    from blemish.conversion.run import Export, Format

# The words are here, so that --help works without the packages that exports need.
ANY_SIZE = "onnx-any-size"
FORMATS = ("onnx-int8", "openvino", "openvino-bf16", ANY_SIZE)


@click.command("export")
@click.argument("model", type=FILE)
@click.option("--format", "target", type=click.Choice(FORMATS), required=True, help="What to write.")
@named_data_options
@click.option("-o", "--output", type=FILE, metavar="FILE", help="The file to write (default: MODEL.FORMAT.onnx).")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    metavar="P",
    default=0.1,
    show_default=True,
    help="How far p-values of the calibration images may move: on average, and for any whose verdict changes.",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Processor threads (default: all cores).")
@json_option
def command(
    model: Path,
    target: "Format | Literal['onnx-any-size']",
    data: DataChoice,
    output: Path | None,
    tolerance: float,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write MODEL for another runtime or precision, calibrated anew and measured beside MODEL.

    It is refused if its decisions differ on the images that MODEL was calibrated with. The format onnx-any-size is
    MODEL with Blemish's resize inside, for programs that run it without Blemish: it needs no DATA, as its calibration
    stays.

    \b
    Example:
      blemish export screws.onnx --format openvino-bf16 --data screws/
      blemish export screws.onnx --format onnx-any-size
    """
    output = output or model.with_name(f"{model.stem}.{target}.onnx")
    if target != ANY_SIZE:
        data.require_data("option '--data'")
    check_writable(output, model, *data.inputs(), kind=MODEL)
    if target == ANY_SIZE:
        from blemish.conversion.any_size import export_any_size

        resizing = export_any_size(model, output)
        text = f"{printable(output)}  {in_megabytes(output)}\n  takes images of any size: the resize is in the graph"
        emit(resizing.as_json(), text, as_json=as_json)
        return
    from blemish.conversion.run import export  # after the quick checks, and only here are its packages needed

    with open_screen() as screen:
        made = export(
            model,
            data.root,
            output,
            target=cast("Format", target),
            good=data.good,
            bad=data.bad,
            masks=data.masks,
            tolerance=tolerance,
            threads=threads,
            progress=screen.progress,
        )
    emit(made.as_json(), _as_text(made), as_json=as_json)


def _as_text(made: "Export") -> str:
    before, after = made.test_before, made.test_after
    lines = [
        f"{printable(made.file)}  {in_megabytes(made.file)}",
        f"  {made.ms_after:.1f} ms an image, {made.ms_before:.1f} ms before",
        f"  {made.agreement.statement()}",
    ]
    if after["image_auroc"] is not None:
        lines.append(f"  image AUROC {figure(after['image_auroc'])}, {figure(before['image_auroc'])} before")
    if made.int8_convolutions:
        lines.append(f"  int8 in the {made.int8_convolutions} deepest convolutions of the backbone")
    return "\n".join(lines)
