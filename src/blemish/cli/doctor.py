"""`blemish doctor`."""

from pathlib import Path

import click

from blemish.cli.common import FILE, emit, json_option, nominal_class_option, open_screen
from blemish.datasets.doctor import examine
from blemish.datasets.layouts import read_data_set


@click.command("doctor")
@click.argument("data", type=FILE)
@nominal_class_option
@json_option
def command(data: Path, nominal_class: str | None, as_json: bool) -> None:
    """Say what the folder DATA holds, what is wrong with it and how it would be used.

    \b
    Example:
      blemish doctor screws/
    """
    with open_screen() as screen:
        diagnosis = examine(read_data_set(data, nominal_class=nominal_class), progress=screen.stage("opening images"))
    emit(diagnosis.as_json(), diagnosis.as_text(), as_json=as_json)
