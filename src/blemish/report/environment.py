"""The template engine of all pages, and what their templates share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from blemish.imaging.heatmaps import LEGEND, short
from blemish.io.files import atomic_write
from blemish.io.text import counted, figure, percent, printable


@dataclass(frozen=True)
class KeyFigure:
    """One big number of a page, with the words under it."""

    label: str
    value: str
    note: str


def write_page(path: Path, template: str, **content: Any) -> None:
    """Writes a page, whole or not at all.

    Args:
        path: the file to write.
        template: the file name of the template in this package.
        content: what the template refers to by name.

    Raises:
        BlemishError: the file cannot be written.
    """
    page = _environment().get_template(template).render(**content)
    with atomic_write(path, mode="w") as file:
        file.write(page)


def _environment() -> Environment:
    """Jinja with the templates of this package, the filters that they use, and the colours of heatmaps."""
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
    environment.globals["legend"] = ", ".join(f"rgb({r} {g} {b})" for r, g, b in LEGEND[::15].tolist())
    return environment


def setting(value: object) -> str:
    """A value of the model's settings as text; lists and tables as JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
