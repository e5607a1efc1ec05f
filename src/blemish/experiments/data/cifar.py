"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): colour photographs, 32 x 32, from the publisher's pickles read safely."""

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.experiments.data.checksums import check
from blemish.experiments.data.lookup import find
from blemish.experiments.data.one_vs_rest import OneVsRest
from blemish.experiments.data.tasks import ArrayImages, ResizeSpec, choose, resized
from blemish.io.files import read_fault
from blemish.io.text import printable

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def open_cifar10(root: Path, spec: ResizeSpec) -> OneVsRest:
    """CIFAR-10 from cifar-10-python.tar.gz or its folder cifar-10-batches-py in `root`.

    Raises BlemishError where neither is there or a file is not as published.
    """
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    place = _find(root, folder="cifar-10-batches-py", archive="cifar-10-python.tar.gz")
    files = _files(place, "cifar-10-batches-py", names)
    *train, test = (_unpickled(path, content, labels=b"labels", classes=10) for path, content in files)
    return OneVsRest(
        CLASSES,
        resized(np.concatenate([images for images, _ in train]), spec),
        torch.tensor([label for _, labels in train for label in labels]),
        resized(test[0], spec),
        torch.tensor(test[1]),
    )


def open_cifar100_outliers(root: Path, spec: ResizeSpec, *, limit: int | None, seed: int) -> ArrayImages:
    """The training images of CIFAR-100, or `limit` of them chosen by `seed`.

    They are read from cifar-100-python.tar.gz or its folder cifar-100-python in `root`. Raises as `open_cifar10`.
    """
    place = _find(root, folder="cifar-100-python", archive="cifar-100-python.tar.gz")
    [(path, content)] = _files(place, "cifar-100-python", ["train"])
    images, _ = _unpickled(path, content, labels=b"fine_labels", classes=100)
    return resized(images[choose(len(images), limit=limit, seed=seed)], spec)


def _find(root: Path, *, folder: str, archive: str) -> Path:
    return find(
        (folder, archive),
        (root,),
        otherwise=f"download {archive} from https://www.cs.toronto.edu/~kriz/cifar.html into {printable(root)}",
    )


def _files(place: Path, folder: str, names: Sequence[str]) -> list[tuple[Path, bytes]]:
    """Path and content of each named file in the folder or in the archive, checked."""
    contents = _archived(place, folder, names) if place.is_file() else {name: _content(place / name) for name in names}
    for name, content in contents.items():
        check(f"{folder}/{name}", content, path=place / name)
    return [(place / name, contents[name]) for name in names]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BlemishError(f"{printable(path)}: {read_fault(error)}; download and unpack the archive again") from error


def _archived(archive: Path, folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """The named files, read in the one pass that a compressed archive allows; nothing is written to disk."""
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix(f"{folder}/")
                if name in names and (file := tar.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BlemishError(f"{printable(archive)}: damaged or truncated; download it again") from error
    except OSError as error:
        raise BlemishError(f"{printable(archive)}: {read_fault(error)}; download it again") from error
    if missing := [name for name in names if name not in contents]:
        raise BlemishError(f"{printable(archive)}: has no {folder}/{missing[0]}; download it again")
    return contents


def _unpickled(path: Path, content: bytes, *, labels: bytes, classes: int) -> tuple[NDArray[np.uint8], list[int]]:
    """Images uint8 (N, 32, 32, 3) and class numbers (N,) of one file; `labels` is the key of the numbers."""
    try:
        table = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        images, numbers = table[b"data"], list(table[labels])
        known = all(isinstance(number, int) and 0 <= number < classes for number in numbers)
        if images.dtype != np.uint8 or images.shape != (len(numbers), 3 * 32 * 32) or not known:
            raise ValueError("not the shape of CIFAR")
    except Exception as error:  # on damaged files an unpickler raises whatever it stumbles over
        fault = f" ({printable(str(error))})" if isinstance(error, pickle.UnpicklingError) else ""
        raise BlemishError(f"{printable(path)}: not a file of CIFAR, or damaged{fault}; download it again") from error
    return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), numbers


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]  # where NumPy keeps it differs between versions
_PERMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numbers, texts, lists, dictionaries and arrays; whatever else a pickle asks for is refused.

    An ordinary unpickler calls any function that the file names.
    """

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for."""
        if (module, name) not in _PERMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _PERMITTED[module, name]
