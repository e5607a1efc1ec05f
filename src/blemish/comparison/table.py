"""The table of a comparison: a method a row, figures as means over the seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemish.comparison.records import Run
from blemish.evaluation.figures import Figure, Interval, figures_in
from blemish.io.text import MISSING, counted, printable

DEFECT_FIGURE = "image_auroc"  # in the table by type of defect


@dataclass(frozen=True)
class Summary:
    """A figure of one method.

    Attributes:
        mean: over the seeds; None where no seed has the figure.
        interval: 95 % over the test images, each end a mean over the seeds: what one model varies by with other images.
        least, most: over the seeds.
        seeds: how many have the figure.
    """

    mean: float | None
    interval: Interval | None
    least: float | None
    most: float | None
    seeds: int

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"mean": self.mean, "interval": self.interval, "min": self.least, "max": self.most, "seeds": self.seeds}


@dataclass(frozen=True)
class MethodRow:
    """What was found of one method.

    Attributes:
        method: its name.
        runs: those with a model, in the order of the seeds.
        failures: why other seeds have none.
        figures: by name.
        milliseconds, megabytes, seconds: means over the seeds; None without a model.
    """

    method: str
    runs: tuple[Run, ...]
    failures: tuple[Run, ...]
    figures: dict[str, Summary]
    milliseconds: float | None
    megabytes: float | None
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "method": self.method,
            "seeds": len(self.runs),
            "figures": {name: summary.as_json() for name, summary in self.figures.items()},
            "milliseconds": self.milliseconds,
            "megabytes": self.megabytes,
            "seconds": self.seconds,
            "failed": [{"seed": run.seed, "reason": run.failed} for run in self.failures],
        }


@dataclass(frozen=True)
class Cell:
    """A figure as text.

    Attributes:
        value: the mean, or a dash.
        interval: such as "0.954 to 0.998"; empty where there is none.
        spread: such as "0.960 to 0.972" over the seeds; empty with one seed.
    """

    value: str
    interval: str = ""
    spread: str = ""


def rows_of(runs: Sequence[Run]) -> list[MethodRow]:
    """A row for each method, in the order in which the methods come."""
    methods = dict.fromkeys(run.method for run in runs)
    return [_row(method, [run for run in runs if run.method == method]) for method in methods]


def shown_figures() -> list[Figure]:
    """The figures that are columns of the table: those of a model card, which are figures of a model by itself."""
    return figures_in("card")


def cells(row: MethodRow) -> list[Cell]:
    """The figures of a row, then milliseconds, megabytes and seconds."""
    return [
        *(_cell(row.figures[figure.name], figure.format) for figure in shown_figures()),
        Cell(_number(row.milliseconds)),
        Cell(_number(row.megabytes)),
        Cell(_number(row.seconds)),
    ]


def headings() -> list[str]:
    """Of the columns of `cells`."""
    return [*(figure.label for figure in shown_figures()), "ms/image", "MB", "training s"]


def kinds_of(rows: Sequence[MethodRow]) -> dict[str, int]:
    """Types of defects, and how many test images show each."""
    found: dict[str, int] = {}
    for row in rows:
        for run in row.runs:
            for kind, values in run.per_defect.items():
                found.setdefault(kind, values["images"])
    return found


def of_kind(row: MethodRow, kind: str) -> tuple[str, str]:
    """Image AUROC of one type of defect against all good images, and the share that is detected; means over seeds."""
    values = [run.per_defect[kind] for run in row.runs if kind in run.per_defect]
    areas = [value[DEFECT_FIGURE] for value in values if value.get(DEFECT_FIGURE) is not None]
    area = f"{np.mean(areas):.3f}" if areas else MISSING
    detected = f"{np.mean([value['detected'] / value['images'] for value in values]):.0%}" if values else MISSING
    return area, detected.replace("%", " %")


def as_text(rows: Sequence[MethodRow]) -> str:
    """The table for a terminal: values, below them their intervals and the range over the seeds."""
    head = ["method", *headings()]
    grid, lines = [head], []
    for row in rows:
        shown = cells(row)
        grid.append([printable(row.method), *(cell.value for cell in shown)])
        grid.append(["", *(cell.interval for cell in shown)])
        if any(cell.spread for cell in shown):
            grid.append([f"  {counted(len(row.runs), 'seed')}", *(cell.spread for cell in shown)])
    widths = [max(len(line[column]) for line in grid) for column in range(len(head))]
    for line in grid:
        first, *rest = line
        aligned = [f"{text:>{width}}" for text, width in zip(rest, widths[1:], strict=True)]
        lines.append(f"  {first:<{widths[0]}}  {'  '.join(aligned)}".rstrip())
    kinds = kinds_of(rows)
    if len(kinds) > 1:
        lines += ["", *_kinds_as_text(rows, kinds)]
    return "\n".join(lines)


def _kinds_as_text(rows: Sequence[MethodRow], kinds: dict[str, int]) -> list[str]:
    grid = [["image AUROC by defect", "images", *(printable(row.method) for row in rows)]]
    for kind, images in kinds.items():
        grid.append([printable(kind), f"{images:,}", *(of_kind(row, kind)[0] for row in rows)])
    widths = [max(len(line[column]) for line in grid) for column in range(len(grid[0]))]
    return [
        "  ".join([f"  {line[0]:<{widths[0]}}", *(f"{t:>{w}}" for t, w in zip(line[1:], widths[1:], strict=True))])
        for line in grid
    ]


def _row(method: str, runs: Sequence[Run]) -> MethodRow:
    made = tuple(run for run in runs if run.failed is None)
    return MethodRow(
        method=method,
        runs=made,
        failures=tuple(run for run in runs if run.failed is not None),
        figures={figure.name: _summary(made, figure.name) for figure in shown_figures()},
        milliseconds=_mean([run.milliseconds for run in made]),
        megabytes=_mean([run.megabytes for run in made]),
        seconds=_mean([run.seconds for run in made]),
    )


def _summary(runs: Sequence[Run], name: str) -> Summary:
    values = [run.figures[name] for run in runs if isinstance(run.figures.get(name), int | float)]
    if not values:
        return Summary(None, None, None, None, 0)
    ends = [interval for run in runs if (interval := run.intervals.get(name)) is not None]
    interval = None
    if len(ends) == len(values):
        interval = float(np.mean([low for low, _ in ends])), float(np.mean([high for _, high in ends]))
    return Summary(float(np.mean(values)), interval, float(min(values)), float(max(values)), len(values))


def _cell(summary: Summary, form: Callable[[Any], str]) -> Cell:
    if summary.mean is None:
        return Cell(MISSING)
    interval = "" if summary.interval is None else " to ".join(map(form, summary.interval))
    spread = f"{form(summary.least)} to {form(summary.most)}" if summary.seeds > 1 else ""
    return Cell(form(summary.mean), interval, spread)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
