"""EMNIST (Cohen et al. 2017), the letters: grey, 28 x 28; the paper's second choice of outliers for Fashion-MNIST."""

from pathlib import Path

from blemish.experiments.data.idx import read_images
from blemish.experiments.data.lookup import find
from blemish.experiments.data.tasks import ArrayImages, ResizeSpec, choose, resized
from blemish.io.text import printable

_NAME = "emnist-letters-train-images-idx3-ubyte"


def open_emnist_outliers(root: Path, spec: ResizeSpec, *, limit: int | None, seed: int) -> ArrayImages:
    """The training letters, upright, or `limit` of them chosen by `seed`.

    They are read from `root`, `root`/emnist or the folder gzip of the publisher's archive, plain or .gz. Raises
    BlemishError where they are not there or damaged.
    """
    path = find(
        (f"{_NAME}.gz", _NAME),
        (root, root / "emnist", root / "gzip"),
        otherwise="download gzip.zip from https://www.nist.gov/itl/products-and-services/emnist-dataset "
        f"and unzip it in {printable(root)}",
    )
    images = read_images(path).mT.numpy()  # published lying on their side
    return resized(images[choose(len(images), limit=limit, seed=seed)], spec)
