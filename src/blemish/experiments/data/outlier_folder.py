"""Any folder of images as foreign images for outlier exposure."""

from collections.abc import Collection
from pathlib import Path

from blemish.errors import BlemishError
from blemish.experiments.data.lookup import image_files
from blemish.experiments.data.tasks import FileImages, ResizeSpec, choose
from blemish.io.text import printable


def open_folder_outliers(
    root: Path, spec: ResizeSpec, *, limit: int | None, seed: int, exclude: Collection[str] = ()
) -> FileImages:
    """All images below `root`, or `limit` of them chosen by `seed`, read when they are asked for.

    Left out are those in folders named in `exclude`, and those whose own name begins with such a name and "_", as
    ImageNet's files do. Raises BlemishError where the folder is missing or nothing is left.
    """
    if not root.is_dir():
        raise BlemishError(f"{printable(root)}: no such folder; give a folder of images")
    paths = [path for path in image_files(root) if not _is_excluded(path.relative_to(root), exclude)]
    if not paths:
        but = " but of excluded classes" if exclude else ""
        raise BlemishError(f"{printable(root)}: holds no images{but}; give a folder of other images")
    return FileImages([paths[index] for index in choose(len(paths), limit=limit, seed=seed)], spec)


def _is_excluded(path: Path, exclude: Collection[str]) -> bool:
    return any(part in exclude for part in path.parts[:-1]) or path.name.partition("_")[0] in exclude
