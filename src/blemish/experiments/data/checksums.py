"""The sums of the published files: an experiment on other data would not be the paper's."""

import hashlib
from pathlib import Path

from blemish.errors import BlemishError
from blemish.io.text import printable

# MD5 of each unpacked file. Fashion-MNIST's publisher gives those of the .gz files, whose content this is.
PUBLISHED = {
    "fashion-mnist/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "fashion-mnist/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "fashion-mnist/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "fashion-mnist/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
}


def check(name: str, content: bytes, *, path: Path) -> None:
    """Raises BlemishError where the content is not that of the published file; a file without a sum passes."""
    published = PUBLISHED.get(name)
    if published and hashlib.md5(content, usedforsecurity=False).hexdigest() != published:
        raise BlemishError(
            f"{printable(path)}: not the published {name.partition('/')[2]} (its MD5 differs); download it again"
        )
