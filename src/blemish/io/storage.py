"""Images in object storage, read through fsspec: the extra [remote]."""

import errno
import os
import re
from typing import Any

from blemish.errors import BlemishError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive


def is_url(path: str) -> bool:
    """Whether the path is a URL such as s3://bucket/a.jpg and no path of this machine."""
    return _URL.match(path) is not None


def open_storage(url: str) -> tuple[Any, str]:
    """The fsspec file system behind a URL, and the path in it.

    Raises BlemishError where fsspec or the package for this kind of storage is missing.
    """
    scheme = url.partition("://")[0]
    try:
        import fsspec

        storage, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        missing = "" if error.name == "fsspec" else f" ({error})"
        raise BlemishError(
            f'{scheme}:// needs a package that is not installed{missing}: pip install "blemish[remote]", '
            "and the one that fsspec asks for, such as s3fs or gcsfs"
        ) from error
    except ValueError as error:
        raise BlemishError(f"{url}: fsspec knows no storage called {scheme}://; check the address") from error
    return storage, path


def read_bytes(url: str) -> bytes:
    """One object, whole. Raises OSError, whatever the storage library raises."""
    try:
        storage, path = open_storage(url)
    except BlemishError as error:  # one image that cannot be read, among others that can
        raise OSError(str(error)) from error
    try:
        content: bytes = storage.cat_file(path)
    except (FileNotFoundError, PermissionError) as error:  # storage libraries give them no number
        number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EACCES
        raise OSError(number, os.strerror(number), url) from error
    except OSError:
        raise
    except Exception as error:  # every storage library has exceptions of its own
        raise OSError(f"{type(error).__name__}: {error}") from error
    return content
