"""Fashion-MNIST (Xiao et al. 2017): grey pictures of clothes, 28 x 28, ten classes."""

from pathlib import Path

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.idx import read_images, read_labels
from blemish.experiments.data.lookup import find
from blemish.experiments.data.one_vs_rest import OneVsRest
from blemish.experiments.data.tasks import ArrayImages, ResizeSpec, resized
from blemish.io.text import printable

CLASSES = (
    "t-shirt-top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def open_fashion_mnist(root: Path, spec: ResizeSpec) -> OneVsRest:
    """The data set from its four idx files, plain or .gz, in `root`, in `root`/fashion-mnist or in the system's folder.

    Raises BlemishError where one is missing or is not as published.
    """
    return OneVsRest(CLASSES, *_split(root, "train", spec), *_split(root, "t10k", spec))


def _split(root: Path, split: str, spec: ResizeSpec) -> tuple[ArrayImages, Tensor]:
    images = read_images(_find(root, f"{split}-images-idx3-ubyte"), data_set="fashion-mnist")
    path = _find(root, f"{split}-labels-idx1-ubyte")
    labels = read_labels(path, data_set="fashion-mnist")
    if len(labels) != len(images) or labels.max(initial=0) >= len(CLASSES):
        raise BlemishError(f"{printable(path)}: its labels do not belong to the {len(images):,} images; download both")
    return resized(images, spec), torch.from_numpy(labels.astype("int64"))


def _find(root: Path, name: str) -> Path:
    return find(
        (f"{name}.gz", name),
        (root, root / "fashion-mnist", SYSTEM_FOLDER),
        otherwise="download the four files from https://github.com/zalandoresearch/fashion-mnist "
        f"into {printable(root)} or install Debian's dataset-fashion-mnist",
    )
