"""Class folders: train/<class> and test/<class> with small images, such as CIFAR-10 saved as image files."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.experiments.data.lookup import class_folders, find, image_files
from blemish.experiments.data.one_vs_rest import OneVsRest
from blemish.experiments.data.tasks import ArrayImages, ResizeSpec, choose, decode
from blemish.imaging.survey import survey_depth
from blemish.io.text import printable

_LAYOUT = "lay images out as train/<class>/<image> and test/<class>/<image>"


def open_class_folders(root: Path, spec: ResizeSpec) -> OneVsRest:
    """All images of both splits, in memory. Raises BlemishError where a split is missing or sizes differ."""
    train, test = _files(root, "train"), _files(root, "test")
    classes = tuple(dict.fromkeys([*train, *test]))
    reading = survey_depth(_flat(train)).reading
    return OneVsRest(
        classes,
        decode(_flat(train), spec, reading=reading),
        _labels(train, classes),
        decode(_flat(test), spec, reading=reading),
        _labels(test, classes),
    )


def open_class_folder_outliers(root: Path, spec: ResizeSpec, *, limit: int | None, seed: int) -> ArrayImages:
    """The images of train/ from all classes, or `limit` of them chosen by `seed`, in memory."""
    paths = _flat(_files(root, "train"))
    return decode([paths[index] for index in choose(len(paths), limit=limit, seed=seed)], spec)


def _files(root: Path, split: str) -> dict[str, list[Path]]:
    """The image files of each class."""
    folder = find((split,), (root,), otherwise=_LAYOUT)
    files = {inner.name: image_files(inner) for inner in class_folders(folder)}
    if not any(files.values()):
        raise BlemishError(f"{printable(folder)}: no images in class folders; {_LAYOUT}")
    return {name: paths for name, paths in files.items() if paths}


def _flat(files: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in files.values() for path in paths]


def _labels(files: dict[str, list[Path]], classes: Sequence[str]) -> Tensor:
    return torch.tensor([classes.index(name) for name, paths in files.items() for _ in paths])
