"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): colour photographs, 32 x 32, read by torchvision.

The publisher's files are pickles, and a pickle can run code. Torchvision unpickles a file only where it has the
published MD5.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, extract_archive

from blemish.errors import BlemishError
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
    train, test = _read(CIFAR10, root)
    return OneVsRest(
        CLASSES,
        resized(train.data, spec),
        torch.tensor(train.targets),
        resized(test.data, spec),
        torch.tensor(test.targets),
    )


def open_cifar100_outliers(root: Path, spec: ResizeSpec, *, limit: int | None, seed: int) -> ArrayImages:
    """The training images of CIFAR-100, or `limit` of them chosen by `seed`.

    They are read from cifar-100-python.tar.gz or its folder cifar-100-python in `root`. Raises as `open_cifar10`.
    """
    train, _ = _read(CIFAR100, root)
    return resized(train.data[choose(len(train.data), limit=limit, seed=seed)], spec)


def _read(data_set: type[CIFAR10], root: Path) -> tuple[CIFAR10, CIFAR10]:
    """The training and the test split, in memory."""
    place = find(
        (data_set.base_folder, data_set.filename),
        (root,),
        otherwise=f"download {data_set.filename} from https://www.cs.toronto.edu/~kriz/cifar.html "
        f"into {printable(root)}",
    )
    try:
        if place.is_dir():
            return _splits(data_set, place.parent)
        if not check_integrity(place, data_set.tgz_md5):
            raise BlemishError(f"{printable(place)}: not the published archive (its MD5 differs); download it again")
        with TemporaryDirectory() as folder:
            extract_archive(place, folder)
            return _splits(data_set, Path(folder))
    except OSError as error:
        name = printable(error.filename or place)
        raise BlemishError(f"{name}: {read_fault(error)}; download and unpack the archive again") from error


def _splits(data_set: type[CIFAR10], root: Path) -> tuple[CIFAR10, CIFAR10]:
    folder = root / data_set.base_folder
    for name, md5 in [*data_set.train_list, *data_set.test_list, (data_set.meta["filename"], data_set.meta["md5"])]:
        if not (folder / name).exists():
            raise BlemishError(f"{printable(folder / name)}: no such file; download and unpack the archive again")
        if not check_integrity(folder / name, md5):
            raise BlemishError(
                f"{printable(folder / name)}: not the published {name} (its MD5 differs); download it again"
            )
    return data_set(root, train=True), data_set(root, train=False)
