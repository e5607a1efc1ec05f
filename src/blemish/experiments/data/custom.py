"""Anybody's folder, in any layout that `blemish.datasets.layouts` knows."""

from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.experiments.data.folder_task import folder_task, with_labelled
from blemish.experiments.data.lookup import class_folders
from blemish.experiments.data.one_vs_rest import class_number
from blemish.experiments.data.tasks import ResizeSpec, Task


@dataclass(frozen=True, eq=False)
class CustomFolder:
    """A folder with one task, with a data set in each of several folders, or with classes that are nominal in turn.

    Attributes:
        classes: names of the tasks.
        folders: the data set of each.
        by_class: the name is also the nominal class of a one-versus-rest folder.
        spec: how images are brought to size; masks keep theirs.
    """

    classes: tuple[str, ...]
    folders: tuple[Path, ...]
    by_class: bool
    spec: ResizeSpec

    def task(self, nominal_class: str) -> Task:
        """Good training images and all test images, with masks if there are any.

        Raises BlemishError where there is no such class, an image cannot be read, or only some of the defects have a
        mask.
        """
        folder = self.folders[class_number(self.classes, nominal_class)]
        data_set = read_data_set(folder, nominal_class=nominal_class if self.by_class else None)
        return with_labelled(folder_task(data_set, self.spec), data_set, self.spec)


def open_custom(root: Path, spec: ResizeSpec) -> CustomFolder:
    """The tasks of a folder.

    It is one task if its folders say what is good; otherwise each folder of `train/` is nominal in turn, or each folder
    is a data set of its own. Raises BlemishError where no layout is known.
    """
    try:
        read_data_set(root)
    except BlemishError:
        if not root.is_dir():
            raise
        inner = class_folders(root)
        if "train" in (folder.name for folder in inner):
            classes = class_folders(root / "train")
            if not classes:
                raise
            return CustomFolder(tuple(folder.name for folder in classes), (root,) * len(classes), True, spec)
        folders = [folder for folder in inner if (folder / "train").is_dir()]
        if not folders:
            raise
        return CustomFolder(tuple(folder.name for folder in folders), tuple(folders), False, spec)
    return CustomFolder((root.resolve().name,), (root,), False, spec)
