"""The split into training and test images by a hash of their paths, where no folder says it."""

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from blemish.datasets.mask_pairs import Labelled

HASHED = "one in 5 good and one in 2 defective images, chosen by a hash of their paths, are test images"


def in_test_split(path: PurePosixPath, *, one_in: int) -> bool:
    """Whether this path is among the one in `one_in` that are kept for testing.

    A hash of the path alone decides, so that no image changes sides when others come or go, on any machine.
    """
    # macOS stores é as two characters, Linux as one: the same folder must split alike on both.
    name = unicodedata.normalize("NFC", path.as_posix()).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % one_in == 0


def split_by_hash(nominal: Sequence[PurePosixPath], anomalous: Sequence[tuple[PurePosixPath, str]]) -> list[Labelled]:
    """Good images and defective ones with their types, split by a hash of each path; see `in_test_split`."""
    labelled = []
    for image in nominal:
        # With nothing to find in a test, every nominal image is worth more in training.
        tested = bool(anomalous) and in_test_split(image, one_in=5)
        labelled.append(Labelled(image, "test" if tested else "train"))
    for image, defect in anomalous:
        labelled.append(Labelled(image, "test" if in_test_split(image, one_in=2) else "train", defect))
    return labelled
