"""What a training reads: the images of a data set at network size, and which of them count."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from blemish.datasets.duplicates import distinct, in_words
from blemish.datasets.groups import Grouping
from blemish.datasets.layouts import DataSet
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.network_size import MULTIPLE, Shape, Size
from blemish.datasets.pixels import Pixels, read_pixels
from blemish.errors import BlemishError
from blemish.imaging.headers import upright_sizes
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.imaging.survey import survey_depth
from blemish.io.text import counted
from blemish.networks.input_mask import InputMask
from blemish.process.progress import Progress
from blemish.training.config import TrainConfig
from blemish.training.steps.alignment import FittedAlignment

Notify = Callable[[str], None]  # a sentence


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The images of a data set's training split, as a training uses them.

    Attributes:
        data_set: where they come from.
        shape: of the nominal images.
        size: network size (height, width).
        pixels: all that could be read.
        nominal: indices of distinct nominal images.
        copies: how many nominal images are left out as identical to another one.
        labelled: indices of labelled defects.
        ignored: how many labelled defects are left out, since all of each is ignored.
        grouping: which nominal images belong together, if any do.
        ignore: the mask or masks of what does not count, if any.
    """

    data_set: DataSet
    shape: Shape
    size: Size
    pixels: Pixels
    nominal: Sequence[int]
    copies: int
    labelled: Sequence[int]
    ignored: int
    grouping: Grouping | None = None
    ignore: IgnoreMask | None = None

    @property
    def files(self) -> list[Path]:
        """The files of the nominal images."""
        return [self.pixels.samples[index].path for index in self.nominal]

    @property
    def groups(self) -> list[Hashable] | None:
        """The group of each nominal image; None where there is no grouping."""
        return self.grouping.of(self.files, self.data_set.root) if self.grouping else None

    @property
    def bits(self) -> int | None:
        """Depth of the values in 16-bit images; None where there is none."""
        return self.pixels.reading.bits if self.pixels.reading.seen else None

    @cached_property  # every mask is read
    def masks(self) -> int:
        """How many of the labelled defects have a mask that marks something."""
        found = (self.pixels.mask(index) for index in self.labelled)
        return sum(mask is not None and bool(mask.any()) for mask in found)


@dataclass(frozen=True)
class TrainingData:
    """What one network learns from.

    Attributes:
        pixels: all training images.
        fit: indices of the good images to learn from.
        validation: those of them that nothing is learned from by gradient: they scale the defect branch, or show how
            far a training is.
        labelled: indices of labelled defects.
        outliers: a folder for outlier exposure.
        synthetic: the synthetic anomaly to learn from, a name in `blemish.plugins.SYNTHETIC`.
        input_mask: what it is to be blind to.
        alignment: how parts are turned upright; None takes them as they are.
        aspect: how high a pixel is over how wide.
    """

    pixels: Pixels
    fit: Sequence[int]
    validation: Sequence[int]
    labelled: Sequence[int]
    outliers: Path | None
    synthetic: str
    input_mask: InputMask | None
    alignment: FittedAlignment | None = None
    aspect: float = 1.0


def read_grouping(data_set: DataSet, config: TrainConfig) -> Grouping | None:
    """Which nominal images belong together. Raises BlemishError, before any image is read, where it cannot be known."""
    if config.groups is None:
        return None
    every = [sample.path for sample in (*data_set.train, *data_set.test)]
    return Grouping.read(config.groups, good=_nominal_files(data_set), every=every, root=data_set.root)


def read_ignore_mask(config: TrainConfig) -> IgnoreMask | None:
    """What does not count. Raises BlemishError where it cannot be read, or does not go together with another option."""
    if config.ignore_mask is None:
        return None
    ignore = IgnoreMask(config.ignore_mask)
    if config.cross_conformal and not ignore.everywhere:
        raise BlemishError(
            "a folder of masks and cross-conformal calibration do not go together: give one mask for all"
        )
    return ignore


def read_training_images(
    data_set: DataSet,
    config: TrainConfig,
    *,
    grouping: Grouping | None,
    ignore: IgnoreMask | None,
    multiple: int = MULTIPLE,
    progress: Progress,
    notify: Notify,
) -> TrainingImages:
    """Reads the training split at network size.

    Args:
        data_set: the folder.
        config: how to train.
        grouping: which nominal images belong together.
        ignore: what does not count.
        multiple: of which both sides of the network size are multiples.
        progress: called with the stage, the steps done and all there are.
        notify: called with a sentence for everything that is decided, odd or left out.

    Raises:
        BlemishError: a mask cannot be read, or the disk cannot hold the images.
    """
    shape, size = _size(data_set, config, multiple, notify)
    depth = survey_depth(
        [sample.path for sample in data_set.train], given=config.bits, progress=partial(progress, "bit depth")
    )
    depth.check_bit_depth()
    for sentence in depth.sentences:
        notify(sentence)
    census = MaskCensus(data_set.root)
    pixels = read_pixels(
        data_set.train,
        size,
        reading=depth.reading,
        ignore=ignore,
        census=census,
        progress=partial(progress, "reading"),
        notify=notify,
    )
    for sentence in census.warnings():
        notify(sentence)
    nominal, copies = distinct(pixels.images, [i for i, sample in enumerate(pixels.samples) if not sample.anomalous])
    if copies:
        notify(in_words(copies, [sample.path for sample in pixels.samples], data_set.root))
    labelled = [index for index, sample in enumerate(pixels.samples) if sample.anomalous]
    fully_ignored = [index for index in labelled if pixels.fully_ignored(index)]
    return TrainingImages(
        data_set=data_set,
        shape=shape,
        size=size,
        pixels=pixels,
        nominal=nominal,
        copies=sum(len(group) - 1 for group in copies),
        labelled=[index for index in labelled if index not in fully_ignored],
        ignored=len(fully_ignored),
        grouping=grouping,
        ignore=ignore,
    )


def _size(data_set: DataSet, config: TrainConfig, multiple: int, notify: Notify) -> tuple[Shape, Size]:
    """The shape of the nominal images by their headers, and the network size."""
    shape = Shape.of([known for known in upright_sizes(_nominal_files(data_set)) if known is not None])
    if config.size == "auto":
        size = shape.network_size(multiple)
        images = counted(len(shape.ratios), "good image")
        notify(f"network size {size[0]} x {size[1]} px (height x width), by the shape of {images}")
    else:
        size = config.size
    if remark := shape.remark(size):
        notify(remark)
    return shape, size


def _nominal_files(data_set: DataSet) -> list[Path]:
    return [sample.path for sample in data_set.train if not sample.anomalous]
