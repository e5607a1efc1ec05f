"""`blemish demo`."""

import time
from pathlib import Path

import click

from blemish.cli.common import (
    FILE,
    check_writable,
    duration,
    emit,
    in_megabytes,
    json_option,
    open_screen,
    seed_option,
    threads_option,
)
from blemish.datasets.layouts import read_data_set
from blemish.evaluation.run import evaluate
from blemish.imaging.outputs import MODEL, PAGE, check_folder_name
from blemish.io.files import make_folder
from blemish.io.text import figure, percent, printable
from blemish.report.evaluation_page import write_report

FALSE_ALARM_RATE = 0.05  # 40 calibration images, a fifth of the good ones, can promise no less than 0.024


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=FILE,
    default="demo",
    show_default=True,
    metavar="DIR",
    help="Folder for images, model and report.",
)
@seed_option
@threads_option
@json_option
def command(output: Path, seed: int, as_json: bool) -> None:
    """Build a small inspection set from a photograph of a brick wall, train on it and write the report.

    \b
    Example:
      blemish demo -o demo/
    """
    from blemish import train  # after --help: torch takes seconds to import
    from blemish.datasets.demo import build_demo_set

    started = time.perf_counter()
    model, page = output / "bricks.onnx", output / "report.html"
    check_folder_name(output)
    make_folder(output)
    check_writable(page, kind=PAGE)
    check_writable(model, kind=MODEL)
    with open_screen() as screen:
        bricks = build_demo_set(output / "bricks", seed=seed, progress=screen.progress)
        detector = train(
            bricks,
            model,
            seed=seed,
            false_alarm_rate=FALSE_ALARM_RATE,
            progress=screen.progress,
            notify=screen.notify,
        )
        evaluation = evaluate(detector, read_data_set(bricks), progress=screen.progress)
    write_report(evaluation, page)
    seconds = time.perf_counter() - started
    image_auroc, pixel_auroc = evaluation.metrics["image_auroc"], evaluation.metrics["pixel_auroc"]
    found = percent(evaluation.metrics["detection_rate"])
    result = {
        "report": printable(page),
        "model": printable(model),
        "image_auroc": image_auroc,
        "pixel_auroc": pixel_auroc,
        "seconds": seconds,
    }
    lines = [
        f"{printable(bricks)}/  the images, {evaluation.metrics['images']} of them to test on",
        f"{printable(model)}  {in_megabytes(model)}, trained and tested in {duration(seconds)}",
        f"  image AUROC {figure(image_auroc)} · pixel AUROC {figure(pixel_auroc)}",
        f"  {found} of the defects found at a false-alarm rate of {percent(FALSE_ALARM_RATE)}",
        f"open {printable(page)} in a browser",
    ]
    emit(result, "\n".join(lines), as_json=as_json)
