"""From a folder in any layout that Blemish reads to a detection task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from blemish.datasets.layouts import DataSet, Sample
from blemish.errors import BlemishError
from blemish.experiments.data.tasks import FileImages, Images, LabelledImages, ResizeSpec, Task, decode
from blemish.imaging.headers import upright_size
from blemish.imaging.masks import read_mask
from blemish.imaging.reading import Reading
from blemish.imaging.survey import survey_depth
from blemish.io.text import list_some, printable
from blemish.process.threads import readers

IN_MEMORY = 2 << 30  # bytes; more images than that are read from their files whenever they are drawn


@dataclass(frozen=True)
class FileMasks:
    """The masks of images, each read anew whenever it is asked for."""

    samples: Sequence[Sample]

    def read(self, index: int) -> Tensor:
        """The mask of one image, bool (H, W) at the image's own size. Raises BlemishError where it cannot be read."""
        sample = self.samples[index]
        size = upright_size(sample.path)
        if size is None:
            raise BlemishError(f"{printable(sample.path)}: can no longer be read; put the image back")
        if sample.mask is None:
            return torch.zeros(size, dtype=torch.bool)
        return torch.from_numpy(read_mask(sample.mask, size=size))


def folder_task(data_set: DataSet, spec: ResizeSpec) -> Task:
    """The task of a data set: nominal are its good training images, the test images are those of its test split.

    Raises BlemishError where one of the splits is empty, an image cannot be read, or only some of the defects have a
    mask.
    """
    nominal = [sample.path for sample in data_set.train if not sample.anomalous]
    if not nominal or not data_set.test:
        raise BlemishError(
            f"{printable(data_set.root)}: the experiment takes images in train/good and in test/; add them"
        )
    reading = survey_depth(nominal).reading
    return Task(
        nominal=_images(nominal, spec, reading),
        test=_images([sample.path for sample in data_set.test], spec, reading),
        anomalous=torch.tensor([sample.anomalous for sample in data_set.test]),
        kinds=tuple(sample.defect or "good" for sample in data_set.test),
        masks=_masks(data_set),
        layout=data_set.layout,
    )


def with_labelled(task: Task, data_set: DataSet, spec: ResizeSpec) -> Task:
    """The task with the defects of the training split that have a mask, to learn from."""
    samples = [sample for sample in data_set.train if sample.anomalous and sample.mask is not None]
    if not samples:
        return task
    reading = survey_depth([sample.path for sample in data_set.train if not sample.anomalous]).reading
    images = _images([sample.path for sample in samples], spec, reading)
    kinds = tuple(sample.defect or "" for sample in samples)
    return replace(task, labelled=LabelledImages(images, kinds, FileMasks(samples)))


def _images(paths: Sequence[Path], spec: ResizeSpec, reading: Reading) -> Images:
    bytes_needed = len(paths) * spec.channels * (spec.size or 0) ** 2
    if bytes_needed > IN_MEMORY:
        return FileImages(paths, spec, reading)
    return decode(paths, spec, threads=readers(), reading=reading)


def _masks(data_set: DataSet) -> FileMasks | None:
    defects = [sample for sample in data_set.test if sample.anomalous]
    unmasked = [sample.path for sample in defects if sample.mask is None]
    if len(unmasked) == len(defects):
        return None
    if unmasked:
        names = list_some(path.relative_to(data_set.root) for path in unmasked)
        raise BlemishError(f"{printable(data_set.root)}: no mask for {names}; paint them, or remove all masks")
    return FileMasks(data_set.test)
