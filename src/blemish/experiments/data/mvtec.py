"""MVTec AD (Bergmann et al. 2019), and any other folders in its layout: good parts, defects, masks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.errors import BlemishError
from blemish.experiments.data.lookup import class_folders
from blemish.experiments.data.one_vs_rest import class_number
from blemish.experiments.data.tasks import ResizeSpec, Task, decode
from blemish.imaging.headers import upright_size
from blemish.imaging.masks import read_mask
from blemish.imaging.survey import survey_depth
from blemish.io.text import list_some, printable
from blemish.process.threads import readers


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
        data_set = read_data_set(self.folders[class_number(self.classes, nominal_class)])
        nominal = [sample.path for sample in data_set.train if not sample.anomalous]
        if not nominal or not data_set.test:
            raise BlemishError(
                f"{printable(data_set.root)}: the experiment takes images in train/good and in test/; add them"
            )
        reading = survey_depth(nominal).reading
        return Task(
            nominal=decode(nominal, self.spec, threads=readers(), reading=reading),
            test=decode([sample.path for sample in data_set.test], self.spec, threads=readers(), reading=reading),
            anomalous=torch.tensor([sample.anomalous for sample in data_set.test]),
            kinds=tuple(sample.defect or "good" for sample in data_set.test),
            masks=_masks(data_set),
        )


@dataclass(frozen=True)
class FileMasks:
    """The masks of test images, each read anew whenever it is asked for."""

    samples: tuple[Sample, ...]

    def read(self, index: int) -> Tensor:
        """The mask of one image, bool (H, W) at the image's own size. Raises BlemishError where it cannot be read."""
        sample = self.samples[index]
        size = upright_size(sample.path)
        if size is None:
            raise BlemishError(f"{printable(sample.path)}: can no longer be read; put the image back")
        if sample.mask is None:
            return torch.zeros(size, dtype=torch.bool)
        return torch.from_numpy(read_mask(sample.mask, size=size))


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


def _masks(data_set: DataSet) -> FileMasks | None:
    defects = [sample for sample in data_set.test if sample.anomalous]
    unmasked = [sample.path for sample in defects if sample.mask is None]
    if len(unmasked) == len(defects):
        return None
    if unmasked:
        names = list_some(path.relative_to(data_set.root) for path in unmasked)
        raise BlemishError(f"{printable(data_set.root)}: no mask for {names}; paint them, or remove all masks")
    return FileMasks(data_set.test)
