"""Figures that others published for the same experiments, each with its source, from published.toml."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Measure = Literal["image_auroc", "pixel_auroc"]


@dataclass(frozen=True, eq=False)
class Column:
    """One method's column of a published table; AUROC as fractions.

    Attributes:
        name: who published it, in a word: "paper", or "rerun" for others' runs of the authors' code.
        method: this package's name of the method where it has it, otherwise the paper's.
        source: where the figures are from, in words.
        mean: over all classes, as printed.
        by_class: empty where only the mean is known; use `figure`.
    """

    name: str
    method: str
    measure: Measure
    source: str
    mean: float
    by_class: Mapping[str, float]

    def figure(self, nominal_class: str) -> float | None:
        """A class' figure; "metal_nut", "Metal nut" and "metal-nut" are one class."""
        return self.by_class.get(_plain(nominal_class))


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean AUROC, as a fraction, over the values of a setting.

    Attributes:
        x: what the setting is, with its unit.
        source: where the points are from, in words.
        checked: whether they were read in print.
        points: (value of the setting, AUROC).
    """

    x: str
    measure: Measure
    source: str
    checked: bool
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Published:
    """All that is published for one experiment."""

    columns: tuple[Column, ...] = ()
    curves: tuple[Curve, ...] = ()


def published(experiment: str) -> Published:
    """The published figures of an experiment; none for one that only this package has."""
    return _everything().get(experiment, Published())


@cache
def _everything() -> dict[str, Published]:
    tables = tomllib.loads((files("blemish.experiments") / "published.toml").read_text("utf-8"))
    sources = tables.pop("sources")
    return {name: _published(table, sources) for name, table in tables.items()}


def _published(table: dict[str, Any], sources: dict[str, str]) -> Published:
    columns = []
    for entry in table.get("columns", []):
        figures = entry.pop("figures", None)
        by_class = dict(zip(table["classes"], figures, strict=True)) if figures else {}
        columns.append(Column(**entry | {"source": sources[entry["source"]]}, by_class=by_class))
    curves = []
    for entry in table.get("curves", []):
        points = tuple((float(x), auroc) for x, auroc in entry["points"])
        curves.append(Curve(**entry | {"source": sources[entry["source"]], "points": points}))
    return Published(tuple(columns), tuple(curves))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
