"""`blemish compare`."""

import time
from pathlib import Path
from typing import Any

import click

from blemish.cli.common import (
    FILE,
    DataChoice,
    Names,
    data_options,
    duration,
    emit,
    json_option,
    open_screen,
    threads_option,
)
from blemish.cli.training_options import configured, training_options
from blemish.io.text import printable
from blemish.plugins import METHODS


@click.command("compare")
@data_options
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Where models, table and page go.")
@click.option(
    "--methods",
    type=Names(),
    default=",".join(METHODS),
    show_default=True,
    metavar="A,B",
    help="What to compare, by the names that blemish train --method takes.",
)
@click.option(
    "--seeds", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Trainings of each method."
)
@training_options
@threads_option
@json_option
def command(
    data: DataChoice,
    output: Path,
    methods: tuple[str, ...],
    seeds: int,
    config_file: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train several methods on the folder DATA, evaluate them on its test images, and write one page.

    Where no test image is defective, synthetic defects are made, the same for all methods. Run the same command again
    to go on after an interruption, or with more methods or seeds to add them.

    \b
    Example:
      blemish compare screws/ -o screws-compared/ --methods gaussian,patchcore,padim --seeds 3
    """
    from blemish.comparison.run import RUNS, compare
    from blemish.comparison.table import as_text

    config = configured(config_file, options)
    started = time.perf_counter()
    with open_screen() as screen:

        def progress(stage: str, done: int, total: int) -> None:
            if stage == RUNS:
                screen.keep_only(RUNS)  # the next training has stages of its own
            screen.progress(stage, done, total)

        comparison = compare(
            data.root,
            output,
            config,
            methods=methods,
            seeds=seeds,
            progress=progress,
            notify=screen.notify,
            **data.options(),
        )
    seconds = time.perf_counter() - started
    failed = [f"  {run} failed: {run.failed}" for run in comparison.runs if run.failed is not None]
    lines = [
        *(f"note: {sentence}" for sentence in comparison.warnings),
        as_text(comparison.rows),
        *failed,
        "",
        "  below each figure its 95 % confidence interval over the test images"
        + (", then the range over the seeds" if seeds > 1 else ""),
        *(f"  {found.sentence()}" for found in comparison.differences),
        f"open {printable(comparison.page)} in a browser ({duration(seconds)})",
    ]
    emit(comparison.as_json() | {"seconds": seconds}, "\n".join(lines), as_json=as_json)
