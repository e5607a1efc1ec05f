"""Files that are either whole or absent, and the words for what can go wrong with one."""

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

from blemish.errors import BlemishError
from blemish.io.text import printable

_AS_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
MAX_NAME_BYTES = 200  # bytes; disks allow 255
_READ_FAULTS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EISDIR: "a folder, not a file",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
}


def read_fault(error: OSError) -> str:
    """What keeps a file from being read, in a few words."""
    return _READ_FAULTS.get(error.errno or 0, f"cannot be read ({error.strerror or error})")


def fingerprint(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes as 64 hexadecimal digits, read in pieces.

    Raises BlemishError where the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error


def folder_state(
    root: str | os.PathLike[str], *, besides: str | os.PathLike[str] | None = None, soon_read: int = 0
) -> str:
    """SHA-256 over all files below a folder: another one where any is changed.

    Names and contents count where the files have up to `soon_read` bytes in all; else names, sizes and times of
    change. What lies in the folder `besides` does not count. Raises BlemishError where the folder cannot be read.
    """
    whole, files = hashlib.sha256(), dict(_below(root, besides))
    read = sum(status.st_size for status in files.values()) <= soon_read
    for file, status in files.items():
        state = f"{status.st_size}\0{status.st_mtime_ns}"
        if read and stat.S_ISREG(status.st_mode):
            state = fingerprint(file)
        whole.update(os.fsencode(os.path.relpath(file, root)) + f"\0{state}\0".encode())
    return whole.hexdigest()


def _below(
    root: str | os.PathLike[str], besides: str | os.PathLike[str] | None
) -> Iterator[tuple[str, os.stat_result]]:
    """All files below a folder but not in another one, in one order; each folder once."""
    seen = set() if besides is None else {os.path.realpath(besides)}
    try:
        for folder, below, names in os.walk(root, followlinks=True, onerror=_raise):
            if (real := os.path.realpath(folder)) in seen:  # or a link leads back up
                below.clear()
                continue
            seen.add(real)
            below.sort()
            for name in sorted(names):
                file = os.path.join(folder, name)
                yield file, os.stat(file) if os.path.exists(file) else os.lstat(file)  # a link may lead nowhere
    except OSError as error:
        raise BlemishError(f"{printable(root)}: {read_fault(error)}") from error


def _raise(error: OSError) -> None:
    raise error


def make_folder(path: Path) -> None:
    """Makes a folder with those above it, unless it is there. Raises BlemishError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BlemishError(f"cannot write into {printable(path)}: a file is in its place; name a folder") from error
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
        raise BlemishError(f"cannot make the folder {printable(path)}: {fault}; name another") from error


def temporary_file() -> BinaryIO:
    """A nameless file that goes when it is closed. Raises BlemishError without a folder for it."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _no_temporary_folder(error) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes with all that is in it. Raises BlemishError where none can be made."""
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise _no_temporary_folder(error) from error
    with folder as name:
        yield Path(name)


def _no_temporary_folder(error: OSError) -> BlemishError:
    fault = (error.strerror or str(error)).lower()
    return BlemishError(f"no temporary file can be made ({fault}): set TMPDIR to a folder that can be written")


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """A file to write into that takes the place of `path` when the block ends; on failure it leaves no trace.

    Text (mode "w") is UTF-8 with line ends as written; what is no UTF-8 is escaped.
    A link is followed: the file behind it is replaced, and keeps its permissions.
    Raises BlemishError where the disk or the folder refuses, or the file is write-protected.
    """
    target = Path(os.path.realpath(path))
    short = os.fsdecode(os.fsencode(target.name)[:MAX_NAME_BYTES])  # with what is added no longer than a disk allows
    partial = target.with_name(f".{short}.{secrets.token_hex(4)}.partial")
    with _write_faults(path, target=target, partial=partial):
        check_output_file(path)
        text: dict[str, Any] = {} if mode == "wb" else _AS_TEXT
        try:
            # Not tempfile: its files are private to the user, and the result should obey the umask.
            with open(partial, mode.replace("w", "x"), **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def check_output_file(path: str | os.PathLike[str]) -> None:
    """Raises BlemishError where no file can be at `path`.

    A folder, a device or a write-protected file is there, or no folder for it.
    """
    target = Path(os.path.realpath(path))
    fault = None
    if target.is_dir():
        fault = "it is a folder; add a file name"
    elif target.exists() and not target.is_file():
        fault = "it is a device, not a file; name a file"  # a rename would replace /dev/null itself
    elif target.exists() and not target.stat().st_mode & _WRITABLE:  # a rename would not care
        fault = "it is write-protected; allow writing to it, or name another file"
    elif not target.parent.is_dir():
        fault = f"there is no folder {printable(target.parent)}; create it first"
    if fault:
        raise BlemishError(f"cannot write {printable(path)}: {fault}")


@contextmanager
def _write_faults(path: str | os.PathLike[str], *, target: Path, partial: Path) -> Iterator[None]:
    folder = printable(target.parent)
    faults = {
        errno.ENOSPC: "the disk is full; free some space and run again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.EACCES: f"no permission to write in {folder}; choose another folder",
        errno.EPERM: f"no permission to write in {folder}; choose another folder",
        errno.EROFS: f"{folder} is on a read-only disk; choose another folder",
        errno.ENAMETOOLONG: "the file name is too long; choose a shorter one",
    }
    ours = {None, *(os.fspath(place) for place in (partial, target, target.parent))}
    try:
        yield
    except OSError as error:
        # A failed write names no file: an error with another file's name, or no number, is the block's own.
        name = os.fspath(error.filename) if isinstance(error.filename, os.PathLike) else error.filename
        if error.errno is None or name not in ours:
            raise
        fault = faults.get(error.errno, os.strerror(error.errno).lower())
        raise BlemishError(f"cannot write {printable(path)}: {fault}") from error
