"""The template engine of all pages, and what their templates share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from blemish.imaging.heatmaps import short
from blemish.io.text import counted, figure, percent, printable


@dataclass(frozen=True)
class KeyFigure:
    """One big number of a page, with the words under it."""

    label: str
    value: str
    note: str


def page_environment() -> Environment:
    """Jinja with the templates of this package and the filters that they use."""
    environment = Environment(
        loader=PackageLoader("blemish", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": counted,
        "percent": percent,
        "figure": figure,
        "printable": printable,
        "setting": setting,
        "short": short,
    }
    return environment


def setting(value: object) -> str:
    """A value of the model's settings as text; lists and tables as JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
