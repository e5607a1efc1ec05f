"""Renamed options: the old spelling goes on for one release, hidden from --help, with a sentence on stderr."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from click.core import ParameterSource

from blemish.process.deprecation import renamed


def renamed_option(*declarations: str, old: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option as of `click.option`, which is also found under its old name.

    Example:
        @renamed_option("--restart", old="--fresh", is_flag=True, help="Score everything again.")

    Args:
        declarations: the new name and whatever else `click.option` takes, such as the name of the parameter.
        old: the old name, such as "--fresh". A command line may give one of the two names, not both.
        attributes: those of `click.option`, but for `required`.
    """
    option = click.Option(declarations, **attributes)
    name, new = str(option.name), option.opts[0]
    old_name = f"{name}_by_old_name"

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_one_name(**given: Any) -> Any:
            context = click.get_current_context()
            value = given.pop(old_name)
            if context.get_parameter_source(old_name) is ParameterSource.COMMANDLINE:
                if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                    raise click.UsageError(f"{old} is the old name of {new}: give {new} alone", context)
                click.echo(f"warning: {renamed(old, new)}", err=True)
                given[name] = value
            return command(**given)

        hidden = click.option(old, old_name, **attributes | {"hidden": True})
        return click.option(*declarations, **attributes)(hidden(with_one_name))

    return decorate
