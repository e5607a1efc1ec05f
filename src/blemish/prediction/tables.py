"""The files that a finished run leaves beside its pictures: the table of scores and the regions."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from blemish.discoveries import Discoveries
from blemish.errors import BlemishError
from blemish.files import atomic_write, printable
from blemish.prediction.scoring import Row
from blemish.results import REGIONS

TableFormat = Literal["csv", "parquet"]
COLUMNS = ("path", "score", "p_value", "verdict")
DISCOVERY_COLUMNS = ("q_value", "discovered")
ROW_GROUP = 50_000  # rows in memory while a Parquet file is written

Results = Iterable[tuple[str, Row]]


def table_name(table: TableFormat) -> str:
    """The file's name."""
    return f"scores.{table}"


def refuse_missing_packages(table: TableFormat) -> None:
    """Raises BlemishError where the format needs a package that is not there: to be known before hours of work."""
    if table == "parquet":
        _pyarrow()


def write_table(results: Results, out: Path, table: TableFormat, *, discoveries: Discoveries | None = None) -> None:
    """Writes scores.csv or scores.parquet; an image without a score has empty cells, nulls in Parquet.

    ``discoveries`` are those of the images with a score, in their order; they add two columns.
    """
    rows: Iterator[tuple[Any, ...]]
    rows = ((printable(name), row.score, row.p_value, row.verdict) for name, row in results)
    columns: tuple[str, ...] = COLUMNS
    if discoveries is not None:
        rows, columns = _with_discoveries(rows, discoveries), COLUMNS + DISCOVERY_COLUMNS
    path = out / table_name(table)
    if table == "parquet":
        _write_parquet(rows, columns, path)
        return
    with atomic_write(path, mode="w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_regions(results: Results, out: Path) -> None:
    """Writes regions.json, one object with a list of regions for every scored image."""
    with atomic_write(out / REGIONS, mode="w") as file:
        separator = "{\n"
        for name, row in results:
            if row.fault is None:
                file.write(f"{separator}{json.dumps(printable(name), ensure_ascii=False)}: {row.regions}")
                separator = ",\n"
        file.write("{}\n" if separator == "{\n" else "\n}\n")


def _with_discoveries(rows: Iterator[tuple[Any, ...]], discoveries: Discoveries) -> Iterator[tuple[Any, ...]]:
    found = zip(discoveries.q_values.tolist(), discoveries.discovered.tolist(), strict=True)
    for row in rows:
        yield (*row, *((None, None) if row[1] is None else next(found)))


def _write_parquet(rows: Iterator[tuple[Any, ...]], names: Sequence[str], path: Path) -> None:
    pyarrow = _pyarrow()
    from pyarrow.parquet import ParquetWriter

    text, number = pyarrow.string(), pyarrow.float64()
    types = (text, number, number, text, number, pyarrow.bool_())[: len(names)]
    schema = pyarrow.schema(list(zip(names, types, strict=True)))
    with atomic_write(path) as file, ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            columns = zip(*group, strict=True)
            arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema=schema))


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise BlemishError('Parquet needs the package pyarrow: pip install "blemish[parquet]"') from error
    return pyarrow
