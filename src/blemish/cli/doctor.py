"""`blemish doctor`."""

import click

from blemish.cli.common import DataChoice, data_options, emit, json_option, open_screen, threads_option
from blemish.datasets.doctor import examine


@click.command("doctor")
@data_options
@threads_option
@json_option
def command(data: DataChoice, as_json: bool) -> None:
    """Say what the folder DATA holds, what is wrong with it and how it would be used.

    \b
    Example:
      blemish doctor screws/
      blemish doctor screws/ --good fine --bad bent --bad rusty --masks drawn
    """
    with open_screen() as screen:
        diagnosis = examine(data.read(), progress=screen.stage("opening images"))
    emit(diagnosis.as_json(), diagnosis.as_text(), as_json=as_json)
