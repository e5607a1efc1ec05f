"""MVTec AD (Bergmann et al. 2019), and any other folders in its layout: good parts, defects, masks."""

from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.layouts import read_data_set
from blemish.errors import BlemishError
from blemish.experiments.data.folder_task import folder_task
from blemish.experiments.data.lookup import class_folders
from blemish.experiments.data.one_vs_rest import class_number
from blemish.experiments.data.tasks import ResizeSpec, Task
from blemish.io.text import printable


@dataclass(frozen=True, eq=False)
class MvtecAd:
    """A folder of class folders.

    Attributes:
        classes: their names.
        folders: their places, in the same order.
        spec: how images are brought to size; masks keep theirs.
    """

    classes: tuple[str, ...]
    folders: tuple[Path, ...]
    spec: ResizeSpec

    def task(self, nominal_class: str) -> Task:
        """Nominal is train/good of the class; anomalous are the defects of its test folder.

        All images are read into memory; only this class's are. Raises BlemishError where there is no such class, an
        image cannot be read, or only some of the defects have a mask.
        """
        return folder_task(read_data_set(self.folders[class_number(self.classes, nominal_class)]), self.spec)


def open_mvtec(root: Path, spec: ResizeSpec) -> MvtecAd:
    """The classes from `root`/<class>/train/good, or the one class that `root` itself is the folder of.

    Raises BlemishError where there is neither.
    """
    if _is_class(root):
        return MvtecAd((root.resolve().name,), (root,), spec)
    folders = tuple(folder for folder in class_folders(root) if _is_class(folder)) if root.is_dir() else ()
    if not folders:
        raise BlemishError(
            f"there is no <class>/train/good in {printable(root)}; download MVTec AD from "
            f"https://www.mvtec.com/company/research/datasets/mvtec-ad and unpack it into {printable(root)}"
        )
    return MvtecAd(tuple(folder.name for folder in folders), folders, spec)


def _is_class(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir()
