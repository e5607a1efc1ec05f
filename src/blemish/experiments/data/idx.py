"""MNIST's file format idx, as Fashion-MNIST and EMNIST have it: plain or .gz, read by torchvision."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import calculate_md5, extract_archive

from blemish.errors import BlemishError
from blemish.io.files import read_fault
from blemish.io.text import printable

_READER_ERRORS = (AssertionError, KeyError, RuntimeError, TypeError, ValueError)  # of torchvision, on damaged files


def read_images(path: Path, *, md5: str | None = None) -> Tensor:
    """Grey images uint8 (N, H, W) of a file.

    Raises BlemishError where it is damaged or no such file, or where its content, unpacked, has another MD5.
    """
    return _read(path, read_image_file, md5)


def read_labels(path: Path, *, md5: str | None = None) -> Tensor:
    """Labels int64 (N,) of a file. Raises as `read_images` does."""
    return _read(path, read_label_file, md5)


def _read(path: Path, read: Callable[[Path], Tensor], md5: str | None) -> Tensor:
    with TemporaryDirectory() as folder:
        try:
            plain = Path(extract_archive(path, folder)) if path.suffix == ".gz" else path
            if md5 is not None and calculate_md5(plain) != md5:
                raise BlemishError(
                    f"{printable(path)}: not the published {plain.name} (its MD5 differs); download it again"
                )
            return read(plain)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise BlemishError(f"{printable(path)}: damaged or truncated; download it again") from error
        except OSError as error:
            raise BlemishError(f"{printable(path)}: {read_fault(error)}") from error
        except _READER_ERRORS as error:
            what = "images" if read is read_image_file else "labels"
            raise BlemishError(
                f"{printable(path)}: not an idx file of {what}, or damaged; download it again"
            ) from error
