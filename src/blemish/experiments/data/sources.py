"""The paper's data sets, from the files that their publishers give out to detection tasks and foreign images.

======================  ===================================================================================
name                    in the folder
======================  ===================================================================================
fashion-mnist           its four idx files; without them Debian's package dataset-fashion-mnist is used
cifar10, cifar100       the archive of pickles, or the folder in it
emnist                  the idx files
imagenet30              train/<class>/<image>, val/<class>/<image>
imagenet                imagenet/train/<class>/<image>, or train/<class>/<image>
mvtec                   <class>/train/good, <class>/test/<defect>, <class>/ground_truth; or one class's folder
pascal-voc              VOCdevkit
custom                  any layout of `blemish.datasets.layouts`, or train/<class>, test/<class>
class-folders           train/<class>/<image>, test/<class>/<image>; taken for fashion-mnist and cifar10 as well
folder                  images, to any depth
======================  ===================================================================================
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from blemish.errors import BlemishError
from blemish.experiments.data.cifar import open_cifar10, open_cifar100_outliers
from blemish.experiments.data.class_folders import open_class_folder_outliers, open_class_folders
from blemish.experiments.data.custom import open_custom
from blemish.experiments.data.emnist import open_emnist_outliers
from blemish.experiments.data.fashion_mnist import open_fashion_mnist
from blemish.experiments.data.imagenet import open_imagenet30, open_imagenet_outliers
from blemish.experiments.data.mvtec import open_mvtec
from blemish.experiments.data.outlier_folder import open_folder_outliers
from blemish.experiments.data.tasks import Images, ResizeSpec, Task
from blemish.experiments.data.voc import open_pascal_voc


class Source(Protocol):
    """A data set with a detection task for each of its classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    def task(self, nominal_class: str) -> Task:
        """The task in which this class is nominal. Raises BlemishError, which lists them, for any other name."""
        ...


_SOURCES: dict[str, Callable[[Path, ResizeSpec], Source]] = {
    "fashion-mnist": open_fashion_mnist,
    "cifar10": open_cifar10,
    "imagenet30": open_imagenet30,
    "mvtec": open_mvtec,
    "pascal-voc": open_pascal_voc,
    "custom": open_custom,
    "class-folders": open_class_folders,
}
SMALL_SETS = ("fashion-mnist", "cifar10")  # which come as image files in class folders too
_OUTLIERS: dict[str, Callable[..., Images]] = {
    "cifar100": open_cifar100_outliers,
    "emnist": open_emnist_outliers,
    "imagenet": open_imagenet_outliers,
    "folder": open_folder_outliers,
    "class-folders": open_class_folder_outliers,
}


def open_source(
    name: str,
    root: Path,
    *,
    channels: int | None = None,
    size: int | None = None,
    square: bool = False,
    antialias: bool = True,
) -> Source:
    """A data set of the paper, or one's own in class folders, from the files in `root`.

    Both sides of an image become `size` pixels where `square`, otherwise the short one; None keeps its size. With
    `antialias` off the nearest pixel is taken, as in the paper's implementation. Images have 1 (grey) or 3 `channels`;
    None is grey for Fashion-MNIST and colour for all others. Raises BlemishError where a file is missing, damaged or
    not as published.
    """
    if name not in _SOURCES:
        raise BlemishError(f"there is no data set {name}; there are {', '.join(_SOURCES)}")
    read = _SOURCES[name]
    if name in SMALL_SETS and all((root / split).is_dir() for split in ("train", "test")):
        read = open_class_folders
    return read(root, ResizeSpec(channels or (1 if name == "fashion-mnist" else 3), size, square, antialias))


def open_outliers(
    name: str,
    root: Path,
    *,
    channels: int,
    size: int,
    square: bool,
    limit: int | None,
    seed: int,
) -> Images:
    """Foreign images for outlier exposure, brought to `channels` and `size`: all, or `limit` of them chosen by `seed`.

    Those of "imagenet" and "folder" are read when they are asked for. Raises as `open_source` does.
    """
    if name not in _OUTLIERS:
        raise BlemishError(f"there are no outliers {name}; there are {', '.join(_OUTLIERS)}")
    return _OUTLIERS[name](root, ResizeSpec(channels, size, square), limit=limit, seed=seed)
