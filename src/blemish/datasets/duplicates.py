"""Identical images, which are used once.

A calibration image represents new images because the model was not fitted to it. With a copy of it in the fit set it
scores too low, and copies among the calibration images are one image that is counted several times.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blemish.datasets.groups import below
from blemish.io.text import counted, list_some


def digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    """SHA-256 of an image (H, W, 3) at network size: files may differ whose pixels are the same."""
    return sha256(np.ascontiguousarray(pixels).tobytes()).digest()


def first_of_each(things: Iterable[tuple[int, Hashable]]) -> tuple[list[int], list[list[int]]]:
    """The first of each group of numbers with equal digests, in order, and the groups of several numbers."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, look in things:
        groups[look].append(number)
    return [group[0] for group in groups.values()], [group for group in groups.values() if len(group) > 1]


def distinct(images: npt.NDArray[np.uint8], chosen: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The first of each group of identical images among those chosen of (N, H, W, 3), and the groups of several."""
    return first_of_each((index, digest(images[index])) for index in chosen)


def in_words(groups: Sequence[Sequence[int]], paths: Sequence[Path], root: Path) -> str:
    """In a sentence, which images are left out as copies of others; `paths` has the file of every number."""
    copies = [number for group in groups for number in group[1:]]
    files = (paths[number] for number in copies)
    names = list_some([below(file, root) for file in files])
    return f"{counted(len(copies), 'good image')} left out as identical to another one, which counts once: {names}"
