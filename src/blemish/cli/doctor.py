"""`blemish doctor`."""

import click

from blemish.cli.common import DataChoice, data_options, emit, json_option, open_screen, threads_option
from blemish.datasets.inspection import examine


@click.command("doctor")
@data_options
@threads_option
@json_option
def command(data: DataChoice, as_json: bool) -> None:
    """Check the folder DATA: what it holds, what is wrong with it and how it would be used.

    DATA is a folder of good images; or has good/, a folder for each type of defect, and masks/; or has train/good,
    test/good and test/DEFECT as in MVTec AD; or another layout of the guide. If none fits, name the folders with
    --good, --bad and --masks.

    \b
    Example:
      blemish doctor screws/
      blemish doctor screws/ --good fine --bad bent --bad rusty --masks drawn
    """
    with open_screen() as screen:
        diagnosis = examine(data.read(), progress=screen.progress)
    emit(diagnosis.as_json(), diagnosis.as_text(), as_json=as_json)
