"""MNIST's file format, idx: two zero bytes, a type, the number of dimensions, their lengths, then the values."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.experiments.data.checksums import check
from blemish.io.files import read_fault
from blemish.io.text import printable

_UNSIGNED_BYTES = 0x08


def read_images(path: Path, *, data_set: str) -> NDArray[np.uint8]:
    """Grey images uint8 (N, H, W) of a file, plain or .gz.

    Raises BlemishError where it is not such a file, or not the one that was published as part of `data_set`.
    """
    return _read(path, data_set, dimensions=3)


def read_labels(path: Path, *, data_set: str) -> NDArray[np.uint8]:
    """Labels uint8 (N,) of a file, plain or .gz. Raises as `read_images` does."""
    return _read(path, data_set, dimensions=1)


def _read(path: Path, data_set: str, *, dimensions: int) -> NDArray[np.uint8]:
    content = _content(path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]):
        what = "images" if dimensions == 3 else "labels"
        raise BlemishError(f"{printable(path)}: not an idx file of {what}; download it again")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        size = " x ".join(map(str, shape))
        raise BlemishError(
            f"{printable(path)}: holds {len(content) - start:,} values where its header says {size}; download it again"
        )
    check(f"{data_set}/{path.name.removesuffix('.gz')}", content, path=path)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BlemishError(f"{printable(path)}: damaged or truncated; download it again") from error
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
