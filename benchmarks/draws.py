"""Which images of a data set are learned from and which are tested on: draws that a seed decides, as links in a folder.

Everything starts from a data set in MVTec's layout whose training images are all good, see `read_source`. What is
drawn for the training is not tested on.
"""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.errors import BlemishError
from blemish.imaging.masks import mask_name


def read_source(root: Path) -> DataSet:
    """A data set to draw from. Raises BlemishError unless it is in MVTec's layout, without labelled training images."""
    data = read_data_set(root)
    if data.layout != "mvtec" or any(sample.anomalous for sample in data.train):
        raise BlemishError(f"{root}: draws are made from train/good and test/<defect>; leave only good/ in train/")
    return data


def defect_types(data: DataSet) -> list[str]:
    return sorted({sample.defect for sample in data.test if sample.defect is not None})


def draw(data: DataSet, samples: Iterable[Sample], number: int, *, seed: int, purpose: str) -> set[Sample]:
    """The `number` samples whose lots come first.

    A lot is a hash of seed, purpose and path, so that it stays when other images come or go: draws of one seed take
    the same images as far as they can, and more of them include the fewer.
    """

    def lot(sample: Sample) -> bytes:
        return sha256(f"{seed} {purpose} {sample.path.relative_to(data.root).as_posix()}".encode()).digest()

    return set(sorted(samples, key=lot)[:number])


def keep_good(data: DataSet, number: int, *, seed: int) -> DataSet:
    """Only `number` random training images stay."""
    if number > len(data.train):
        raise BlemishError(f"{data.root}: {len(data.train)} good training images; ask for no more than that")
    kept = draw(data, data.train, number, seed=seed, purpose="good")
    return replace(data, train=tuple(sample for sample in data.train if sample in kept))


def contaminate(data: DataSet, percent: float, *, seed: int) -> DataSet:
    """Defective test images of all types become `percent` of the training images, as if they were good."""
    defective = [sample for sample in data.test if sample.anomalous]
    number = round(len(data.train) * percent / (100 - percent))
    if not 0 < number < len(defective):
        raise BlemishError(
            f"{data.root}: {percent:g} % contamination of {len(data.train)} good images takes {number} of "
            f"{len(defective)} defective ones; choose a percentage that takes one at least and leaves one to test"
        )
    drawn = draw(data, defective, number, seed=seed, purpose="contamination")
    moved = tuple(Sample(sample.path) for sample in data.test if sample in drawn)
    return replace(data, train=data.train + moved, test=_without(data.test, drawn))


def draw_labels(data: DataSet, number: int, *, seed: int, masks: bool, unseen: str | None = None) -> DataSet:
    """`number` test images of each defect type but `unseen` become labelled training images, with or without masks."""
    drawn: set[Sample] = set()
    for defect in defect_types(data):
        every = [sample for sample in data.test if sample.defect == defect]
        fit = [sample for sample in every if sample.mask is not None or not masks]
        if defect == unseen or not number:
            continue
        if number > len(fit) or number >= len(every):
            held = f"{len(every)} test images, {len(fit)} with masks" if masks else f"{len(every)} test images"
            raise BlemishError(f"{data.root}: {defect} has {held}; label fewer than {number}, to leave one to test")
        drawn |= draw(data, fit, number, seed=seed, purpose="label")
    moved = tuple(replace(sample, mask=sample.mask if masks else None) for sample in data.test if sample in drawn)
    return replace(data, train=data.train + moved, test=_without(data.test, drawn))


def test_on(data: DataSet, defect: str | None) -> DataSet:
    """Only good test images and those of one defect type stay; all where `defect` is None."""
    if defect is None:
        return data
    if not any(sample.defect == defect for sample in data.test):
        raise BlemishError(f"no test image of {defect} is left; draw fewer")
    return replace(data, test=tuple(sample for sample in data.test if sample.defect in (defect, None)))


def link(data: DataSet, folder: Path) -> DataSet:
    """The data set as a folder of symbolic links in MVTec's layout, read back."""
    splits = [("train", sample) for sample in data.train] + [("test", sample) for sample in data.test]
    # Numbers keep names apart and the good images in their order, on which the training's own split depends.
    for number, (split, sample) in enumerate(splits):
        kind = sample.defect or "good"
        name = f"{number:06d}_{sample.path.stem}"
        _link(folder / split / kind / (name + sample.path.suffix), sample.path)
        if sample.mask is not None:
            if not isinstance(sample.mask, Path):
                raise BlemishError(f"{mask_name(sample.mask)}: a draw takes one mask file for each image")
            _link(folder / "ground_truth" / kind / f"{name}_mask{sample.mask.suffix}", sample.mask)
    return read_data_set(folder)


def _link(place: Path, file: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(file.resolve())


def _without(samples: Iterable[Sample], left_out: set[Sample]) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample not in left_out)
