"""The list of images and their rows, on disk while a run lasts, from which a killed run is resumed."""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.imaging.results import JOURNAL as FILE
from blemish.io.text import counted, printable
from blemish.prediction.engine import Chunk, Item, Row, file_state
from blemish.prediction.outputs import OutputPaths, OutputSpec, PictureNames, identity

COMMIT_SECONDS = 1.0  # a commit waits for the disk, so the rows of this time share one; a kill loses them

# Names are bytes: a file name need not be text. `path` tells images apart, `name` is the path as it was given.
_TABLE = """
CREATE TABLE images (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, name BLOB NOT NULL,
    state TEXT, verdict TEXT, score REAL, p_value REAL, regions TEXT, error TEXT, brightness REAL, sharpness REAL,
    remark TEXT
)
"""
_FIELDS = ("state", "verdict", "score", "p_value", "regions", "error", "brightness", "sharpness", "remark")  # of a Row
_RESULT = ", ".join(_FIELDS)
_SCORED = "verdict IS NOT NULL AND error IS NULL"


@dataclass(frozen=True)
class ResumeSummary:
    """What a run takes over from an unfinished one: rows kept, and images added, removed and changed since."""

    done: int
    added: int
    removed: int
    changed: int

    def __str__(self) -> str:
        changes = [
            f"{counted(number, 'image')} {what}"
            for number, what in ((self.added, "new"), (self.removed, "no longer given"), (self.changed, "changed"))
            if number
        ]
        since = f" (since then: {', '.join(changes)})" if changes else ""
        return f"going on with an unfinished run, {counted(self.done, 'image')} done{since}"


class Journal:
    """An SQLite file in the results' folder; one process at a time holds it. Use `open_journal`.

    Attributes:
        total: images in the list.
        done: images with a row.
        earlier: a sentence on the unfinished run in the folder and what becomes of it; None if there was none.
    """

    def __init__(self, connection: sqlite3.Connection, spec: OutputSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._committed = time.monotonic()
        self.total = self.done = 0
        self.earlier: str | None = None

    def pending(self, size: int) -> Iterator[Chunk]:
        """The images without a row, in chunks that begin at every `size`-th image of the list."""
        names = self._names()
        for start in range(0, self.total, size):
            rows = self._connection.execute(
                "SELECT position, path, name FROM images WHERE position BETWEEN ? AND ? AND verdict IS NULL "
                "ORDER BY position",
                (start + 1, start + size),  # SQLite counts rows from 1
            ).fetchall()
            if rows:
                yield [
                    self._item(position, os.fsdecode(name), self._spec.paths(os.fsdecode(path), names))
                    for position, path, name in rows
                ]

    def _item(self, position: int, name: str, outputs: OutputPaths) -> Item:
        return Item(position, name, outputs, self._spec.frame(name))

    def record(self, rows: Iterable[Row]) -> None:
        """Keeps the rows of images whose output files are written."""
        values = [(*(getattr(row, name) for name in _FIELDS), row.position) for row in rows]
        settings = ", ".join(f"{name}=?" for name in _FIELDS)
        self._connection.executemany(f"UPDATE images SET {settings} WHERE position=?", values)
        self.done += len(values)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Writes the rows to the disk."""
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN")
        self._committed = time.monotonic()

    def results(self) -> Iterator[tuple[str, Row]]:
        """Names and rows of all images in the order of the list."""
        query = f"SELECT name, position, {_RESULT} FROM images ORDER BY position"
        for name, position, *fields in self._connection.execute(query):
            yield os.fsdecode(name), Row(position, **dict(zip(_FIELDS, fields, strict=True)))

    def verdicts(self) -> Counter[str]:
        """The number of images with each verdict."""
        return Counter(dict(self._connection.execute("SELECT verdict, count(*) FROM images GROUP BY verdict")))

    def begin(self, settings: str, images: Iterable[str], *, restart: bool) -> None:
        """Writes the list of images and takes over the rows of an unfinished run with the same settings."""
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        earlier = self._connection.execute("SELECT settings, parent FROM run").fetchone() if "run" in tables else None
        if earlier is None:
            self._connection.execute("CREATE TABLE run (settings TEXT, parent BLOB)")
        else:
            self._connection.execute("ALTER TABLE images RENAME TO earlier")
        self._connection.execute(_TABLE)
        parent = self._list(images)
        self._connection.execute("DELETE FROM run")
        self._connection.execute("INSERT INTO run VALUES (?, ?)", (settings, os.fsencode(parent)))
        if earlier is not None:
            if restart:
                self.earlier = "starting over; the unfinished run in it is dropped"
            elif earlier[0] != settings:
                self.earlier = "starting over; the unfinished run in it had another model or other options"
            else:
                self.earlier = str(self._take_over_rows(os.fsdecode(earlier[1])))
            self._connection.execute("DROP TABLE earlier")
        (self.total,) = self._connection.execute("SELECT count(*) FROM images").fetchone()
        self.commit()

    def _list(self, images: Iterable[str]) -> str:
        """Writes the list, each image once, and returns the folder that holds them all."""
        folders: list[str] = []

        def rows() -> Iterator[tuple[bytes, bytes]]:
            for name in images:
                path = identity(name)
                folder = os.path.dirname(path)
                if not folders or folder != folders[-1]:
                    folders[:] = [os.path.commonpath([*folders[:1], folder]), folder]
                yield os.fsencode(path), os.fsencode(name)

        self._connection.executemany("INSERT OR IGNORE INTO images (path, name) VALUES (?, ?)", rows())
        return folders[0]

    def _names(self, table: str = "images", parent: str | None = None) -> PictureNames:
        if parent is None:
            parent = os.fsdecode(self._connection.execute("SELECT parent FROM run").fetchone()[0])

        def listed(path: str) -> bool:
            found = self._connection.execute(f"SELECT 1 FROM {table} WHERE path = ?", (os.fsencode(path),))
            return found.fetchone() is not None

        return PictureNames(parent, listed)

    def _take_over_rows(self, parent: str) -> ResumeSummary:
        """Takes over the rows whose file has not changed and whose output files keep their names; removes other files.

        Unreadable images are read again: the cause may have been the network.
        """
        self._connection.execute(
            f"UPDATE images SET ({_RESULT}) = (SELECT {_RESULT} FROM earlier WHERE earlier.path = images.path) "
            f"WHERE path IN (SELECT path FROM earlier WHERE {_SCORED})"
        )
        earlier_names, names = self._names("earlier", parent), self._names()
        n_changed = 0
        for path, state in self._connection.execute(f"SELECT path, iif({_SCORED}, state, NULL) FROM earlier"):
            outputs = self._spec.paths(os.fsdecode(path), earlier_names)
            row = self._connection.execute("SELECT name FROM images WHERE path = ?", (path,)).fetchone()
            changed = row is not None and state is not None and file_state(self._file(row[0])) != state
            n_changed += changed
            if row is None or changed or self._spec.paths(os.fsdecode(path), names) != outputs:
                self._connection.execute("UPDATE images SET verdict = NULL WHERE path = ?", (path,))
                outputs.remove()
        (self.done,) = self._connection.execute(f"SELECT count(*) FROM images WHERE {_SCORED}").fetchone()
        return ResumeSummary(
            self.done, self._missing("images", "earlier"), self._missing("earlier", "images"), n_changed
        )

    def _file(self, name: bytes) -> str:
        """The path of the file behind the name of an image."""
        return self._item(0, os.fsdecode(name), OutputPaths(None, None)).file

    def _missing(self, table: str, other: str) -> int:
        query = f"SELECT count(*) FROM {table} WHERE path NOT IN (SELECT path FROM {other})"
        number: int = self._connection.execute(query).fetchone()[0]
        return number


@contextmanager
def open_journal(spec: OutputSpec) -> Iterator[Journal]:
    """The journal in the results' folder; removed when the block ends, kept after an exception if it has rows.

    Raises BlemishError where another process holds it or it cannot be written.
    """
    path = spec.out / FILE
    with _sqlite_errors(path), closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        keep = False
        try:
            yield Journal(connection, spec)
        except BaseException:
            connection.rollback()
            keep = _has_rows(connection)
            raise
        finally:
            if not keep:
                connection.close()
                path.unlink()


def _has_rows(connection: sqlite3.Connection) -> bool:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone() is None:
        return False
    return connection.execute("SELECT 1 FROM images WHERE verdict IS NOT NULL").fetchone() is not None


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BlemishError(f"cannot write {printable(path)}: {_reason(error)}") from error


def _reason(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_BUSY:
        return "another run is writing into this folder; wait for its end, or choose another folder"
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space and run again"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return "it is damaged; remove it, and the run starts over"
    return f"{error}; choose another folder"
