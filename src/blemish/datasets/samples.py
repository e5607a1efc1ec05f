"""Samples: what is known of an image before it is opened; and a data set of them."""

from dataclasses import dataclass, field
from pathlib import Path

from blemish.datasets.by_hand import Folders
from blemish.datasets.families import Layout
from blemish.imaging.masks import MaskSource


@dataclass(frozen=True)
class Sample:
    """One image: nominal where `defect` is None, otherwise anomalous, with a mask where there is one.

    A mask is a file, several files, or an annotation: `blemish.imaging.masks` reads it and names it.
    """

    path: Path
    defect: str | None = None
    mask: MaskSource | None = None

    @property
    def anomalous(self) -> bool:
        """Whether the image's folder, list or mask says that it shows an anomaly."""
        return self.defect is not None


@dataclass(frozen=True)
class DataWarning:
    """Something in a folder that was most likely meant otherwise, in one sentence, and the files it is about."""

    message: str
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A folder read.

    Attributes:
        root: the folder.
        layout: how it was read.
        train, test: the samples.
        notes: sentences on how it was read, for doctor.
        nominal_class: the class that was chosen, in layouts with classes.
        warnings: what was left out or contradicts itself, for every verb to say.
        folders: the folders that were named by hand.
    """

    root: Path
    layout: Layout
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    nominal_class: str | None = None
    warnings: tuple[DataWarning, ...] = ()
    folders: Folders = field(default_factory=Folders)
