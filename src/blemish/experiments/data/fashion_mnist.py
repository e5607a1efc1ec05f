"""Fashion-MNIST (Xiao et al. 2017): grey pictures of clothes, 28 x 28, ten classes."""

from pathlib import Path

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
# MD5 of the unpacked files; the publisher gives those of the .gz files, whose content these are.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


def open_fashion_mnist(root: Path, spec: ResizeSpec) -> OneVsRest:
    """The data set from its four idx files, plain or .gz, in `root`, in `root`/fashion-mnist or in the system's folder.

    Raises BlemishError where one is missing or is not as published.
    """
    return OneVsRest(CLASSES, *_split(root, "train", spec), *_split(root, "t10k", spec))


def _split(root: Path, split: str, spec: ResizeSpec) -> tuple[ArrayImages, Tensor]:
    of_images, of_labels = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
    images = read_images(_find(root, of_images), md5=PUBLISHED_MD5.get(of_images))
    path = _find(root, of_labels)
    labels = read_labels(path, md5=PUBLISHED_MD5.get(of_labels))
    if len(labels) != len(images) or labels.max() >= len(CLASSES):
        raise BlemishError(f"{printable(path)}: its labels do not belong to the {len(images):,} images; download both")
    return resized(images.numpy(), spec), labels


def _find(root: Path, name: str) -> Path:
    return find(
        (f"{name}.gz", name),
        (root, root / "fashion-mnist", SYSTEM_FOLDER),
        otherwise="download the four files from https://github.com/zalandoresearch/fashion-mnist "
        f"into {printable(root)} or install Debian's dataset-fashion-mnist",
    )
