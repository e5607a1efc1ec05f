"""The table of scores and the file of regions, which a finished run writes beside its output files."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from blemish.conformal.fdr import Discoveries
from blemish.errors import BlemishError
from blemish.imaging.results import REGIONS
from blemish.io.files import atomic_write
from blemish.io.text import printable
from blemish.prediction.engine import Row

TableFormat = Literal["csv", "parquet"]
COLUMNS = ("path", "score", "p_value", "verdict")
DISCOVERY_COLUMNS = ("q_value", "discovered")
# Signs that make a cell a formula in a spreadsheet, ordinary and full width. Tabs and line breaks are escaped before.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
ROW_GROUP = 50_000  # rows in memory while a Parquet file is written

Results = Iterable[tuple[str, Row]]


def key(name: str) -> str:
    """The name of an image in the table and in regions.json: its path, printable and never a spreadsheet formula.

    A name such as =1.png is written ./=1.png, which is the same file.
    """
    text = printable(name)
    return f"./{text}" if text.lstrip().startswith(FORMULA) else text


def table_name(table: TableFormat) -> str:
    """The file's name."""
    return f"scores.{table}"


def require_packages(table: TableFormat) -> None:
    """Raises BlemishError where the format needs a package that is missing, before any work is done."""
    if table == "parquet":
        _pyarrow()


def write_table(results: Results, out: Path, table: TableFormat, *, discoveries: Discoveries | None = None) -> None:
    """Writes scores.csv or scores.parquet; an image without a score has empty cells, nulls in Parquet.

    ``discoveries`` are those of the images with a score, in their order; they add two columns.
    """
    rows: Iterator[tuple[Any, ...]]
    rows = ((key(name), row.score, row.p_value, row.verdict) for name, row in results)
    columns: tuple[str, ...] = COLUMNS
    if discoveries is not None:
        rows, columns = _with_discoveries(rows, discoveries), COLUMNS + DISCOVERY_COLUMNS
    path = out / table_name(table)
    if table == "parquet":
        _write_parquet(rows, columns, path)
        return
    with atomic_write(path, mode="w") as file:
        file.write(",".join(columns) + "\n")
        for path_cell, *cells in rows:
            file.write(",".join([_quoted(path_cell), *("" if cell is None else str(cell) for cell in cells)]) + "\n")


def write_regions(results: Results, out: Path) -> None:
    """Writes regions.json, one object with a list of regions for every scored image."""
    with atomic_write(out / REGIONS, mode="w") as file:
        separator = "{\n"
        for name, row in results:
            if row.error is None:
                file.write(f"{separator}{json.dumps(key(name), ensure_ascii=False)}: {row.regions}")
                separator = ",\n"
        file.write("{}\n" if separator == "{\n" else "\n}\n")


def _quoted(path: str) -> str:
    """The path as a cell, in quotes where it holds a comma or another separator of cells."""
    if any(letter in path for letter in ',;|"'):
        doubled = path.replace('"', '""')
        return f'"{doubled}"'
    return path


def _with_discoveries(rows: Iterator[tuple[Any, ...]], discoveries: Discoveries) -> Iterator[tuple[Any, ...]]:
    values = zip(discoveries.q_values.tolist(), discoveries.discovered.tolist(), strict=True)
    for row in rows:
        yield (*row, *((None, None) if row[1] is None else next(values)))


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
