"""Problems of a data set: each function finds one kind."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from blemish.datasets.diagnosis import Problem, Severity
from blemish.datasets.duplicates import first_of_each
from blemish.datasets.few_images import MIN_ADVISED, advice
from blemish.datasets.groups import below, suggest
from blemish.datasets.inspected_image import FLAT_RANGE, InspectedImage
from blemish.datasets.layouts import DataSet, Split
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.near_duplicates import find
from blemish.datasets.network_size import Shape, other_shape
from blemish.imaging.masks import mask_files
from blemish.imaging.survey import DepthSurvey
from blemish.io.text import counted, list_some

MIN_NOMINAL = 2  # good training images: one to learn from and one to calibrate with
_MAX_SINGLE = 5  # files with a fault that are named one by one; more are summed up


def amounts(data: DataSet, images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """Too few images to train or to evaluate."""
    nominal, copies = _distinct(images)
    if nominal < MIN_NOMINAL:
        held = counted(nominal, "distinct good training image" if copies else "good training image")
        yield Problem("error", f"{held}: training needs at least {MIN_NOMINAL}, better {MIN_ADVISED} or more")
    elif nominal < MIN_ADVISED:
        few = f"few training images: {nominal} good ones, {MIN_ADVISED} or more are better"
        promised = advice(nominal)
        yield Problem("note", f"{few}; {promised}" if promised else few)
    if not data.test:
        yield Problem("note", "no test images: there is nothing to evaluate on")
    elif not any(sample.anomalous for sample in data.test):
        yield Problem("note", "no defective test images: an evaluation can only count false alarms")
    elif all(sample.anomalous for sample in data.test):
        yield Problem("note", "no good test images: an evaluation cannot count false alarms")


def unusable_files(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """Images and masks that cannot be read, and masks of another shape than their image."""
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        # Training reads all its images; a test image that cannot be read is only missing from the test.
        severity: Severity = "error" if split == "train" else "warning"
        here = [image for image in images if image.split == split]
        faults = [(image.sample.path, image.fault) for image in here if image.fault]
        faults += [
            (mask_files(image.sample.mask)[0], image.mask_fault)
            for image in here
            if image.sample.mask and image.mask_fault
        ]
        for path, fault in faults[:_MAX_SINGLE]:
            yield Problem(severity, fault, (path,))
        if rest := tuple(path for path, _ in faults[_MAX_SINGLE:]):
            yield Problem(severity, f"{counted(len(rest), 'more file')} in {split} cannot be used", rest)


def odd_masks(images: Sequence[InspectedImage], root: Path) -> Iterator[Problem]:
    """Empty and inverted masks and such."""
    census = MaskCensus(root)
    for image in images:
        if image.sample.mask is not None and image.mask is not None:
            census.add(image.sample.mask, image.mask)
    yield from (Problem(found.severity, found.message, found.paths) for found in census.findings())


def identical_images(images: Sequence[InspectedImage], root: Path) -> Iterator[Problem]:
    """Copies of files, and files of other bytes that show the same pixels."""
    by_digest, by_look = defaultdict(list), defaultdict(list)
    for image in images:
        if image.digest:
            by_digest[image.digest].append(image)
        if image.look:
            by_look[image.look].append(image)
    distinct, copies = _distinct(images)
    once = f"; training counts them once: {distinct:,} of {distinct + copies:,} good images are distinct"
    yield from _copies(list(by_digest.values()), "byte-identical", root, once)
    resaved = [group for group in by_look.values() if len({image.digest for image in group}) > 1]
    yield from _copies(resaved, "pixel-identical", root, once)


def _copies(groups: Sequence[Sequence[InspectedImage]], alike: str, root: Path, once: str) -> Iterator[Problem]:
    groups = [group for group in groups if len(group) > 1]
    leaked = _members(group for group in groups if {image.split for image in group} == {"train", "test"})
    if leaked:
        yield Problem(
            "warning",
            f"{counted(len(leaked), 'image')} {alike} across train and test, where a test proves "
            f"nothing; keep one of each: {_names(leaked, root)}",
            leaked,
        )
    if torn := _members(group for group in groups if len({image.sample.anomalous for image in group}) == 2):
        yield Problem(
            "warning",
            f"{counted(len(torn), 'image')} {alike} yet both good and defective: {_names(torn, root)}",
            torn,
        )
    training = [[image for image in group if image.split == "train"] for group in groups]
    repeated = [group for group in training if len(group) > 1]
    if copies := _members(repeated):
        held = f"{len(copies):,} training images are {alike}"
        if len(repeated) > 1:
            held += f" in {len(repeated):,} groups"
        good = any(sum(image.nominal_training for image in group) > 1 for group in repeated)
        yield Problem("note", f"{held}: {_names(copies, root)}{once if good else ''}", copies)


def near_duplicates(images: Sequence[InspectedImage], root: Path) -> Iterator[Problem]:
    """Good training images that seem to come in groups: many are nearly the same as another one."""
    known = [image for image in images if image.small is not None and image.nominal_training]
    distinct, _ = first_of_each((number, image.look) for number, image in enumerate(known))
    paths = [known[number].sample.path for number in distinct]
    found = find([small for number in distinct if (small := known[number].small) is not None])
    if not found.suspicious:
        return
    pattern = suggest(paths, root, found.pairs)
    option = f"--groups {shlex.quote(pattern)}" if pattern else "--groups FILE.csv, a table of columns path and group"
    first, second = found.pairs[0]
    yield Problem(
        "warning",
        f"{len(found.pairs):,} of {counted(found.asked, 'good training image')} looked at "
        f"{'is' if len(found.pairs) == 1 else 'are'} nearly the same as another one, such as "
        f"{_names([paths[first], paths[second]], root)}: where they show one part, more new images are called "
        f"anomalous than promised, unless training keeps them together by {option}",
        tuple(dict.fromkeys(paths[number] for pair in found.pairs for number in pair)),
    )


def odd_shapes(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """Good training images of several shapes, and others of another shape than these."""
    good = [image for image in images if image.nominal_training]
    shape = shape_of(good)
    height, width = shape.network_size()
    if remark := shape.remark((height, width)):
        odd = tuple(image.sample.path for image in good if _distorted(image, height / width))
        yield Problem("note", remark, odd)
    others = [image for image in images if image.size and (image.split == "test" or image.sample.anomalous)]
    # Where good images have several shapes, the note above has said what becomes of any.
    if (
        good
        and shape.is_one
        and (odd := tuple(image.sample.path for image in others if _distorted(image, shape.ratio)))
    ):
        held = counted(len(odd), "defective or test image")
        yield Problem("note", f"{held} of another shape than the good training images: training sees none like it", odd)


def _distinct(images: Sequence[InspectedImage]) -> tuple[int, int]:
    """The number of distinct good training images, and of those that are copies; what cannot be read is distinct."""
    good = [image for image in images if image.nominal_training]
    distinct, _ = first_of_each((number, image.look or number) for number, image in enumerate(good))
    return len(distinct), len(good) - len(distinct)


def _distorted(image: InspectedImage, ratio: float) -> bool:
    return image.size is not None and other_shape((image.size[1], image.size[0]), ratio) is not None


def blank_images(images: Sequence[InspectedImage], root: Path) -> Iterator[Problem]:
    """Images of hardly more than one grey level."""
    flat = tuple(image.sample.path for image in images if image.flat)
    if flat:
        yield Problem(
            "warning",
            f"{counted(len(flat), 'image')} nearly blank, with fewer than {FLAT_RANGE} of 256 grey levels: "
            f"{_names(flat, root)}",
            flat,
        )


def lossy_images(images: Sequence[InspectedImage]) -> Iterator[Problem]:
    """What is lost in reading images by the depth of the training images."""
    lossy = [image for image in images if image.remarks]
    for image in lossy[:_MAX_SINGLE]:
        yield Problem("warning", "; ".join(image.remarks), (image.sample.path,))
    if rest := tuple(image.sample.path for image in lossy[_MAX_SINGLE:]):
        yield Problem("warning", f"{counted(len(rest), 'more image')} cannot be read in full", rest)


def several_frames(images: Sequence[InspectedImage], root: Path) -> Iterator[Problem]:
    """Files with several images, such as the pages of a TIFF."""
    several = tuple(image.sample.path for image in images if image.frames > 1)
    if several:
        held = f"{counted(len(several), 'image')} with several frames, of which only the first is used"
        yield Problem("warning", f"{held}; save the others as files of their own: {_names(several, root)}", several)


def bit_depths(depth: DepthSurvey) -> Iterator[Problem]:
    """The bits of 16-bit images, as training will find them."""
    yield from (Problem("warning", sentence, paths) for sentence, paths in depth.warnings())
    if depth.statement is not None and not depth.narrow:  # else a warning says so
        yield Problem("note", depth.statement, tuple(depth.largest))


def images_without_mask(data: DataSet) -> Iterator[Problem]:
    """Defective images without a mask."""
    if data.layout == "one-vs-rest":  # another class is anomalous as a whole: nobody draws masks of that
        return
    for split, samples in (("training", data.train), ("test", data.test)):
        anomalous = [sample for sample in samples if sample.anomalous]
        bare = tuple(sample.path for sample in anomalous if sample.mask is None)
        if bare:
            bare_images = f"{len(bare):,} of {len(anomalous):,} defective {split} images have no mask"
            yield Problem("note", f"{bare_images}: {_names(bare, data.root)}", bare)


def _members(groups: Iterable[Sequence[InspectedImage]]) -> tuple[Path, ...]:
    return tuple(image.sample.path for group in groups for image in group)


def _names(paths: Sequence[Path], root: Path) -> str:
    return list_some([below(path, root) for path in paths])


def shape_of(images: Sequence[InspectedImage]) -> Shape:
    """The shapes of those images that can be read."""
    return Shape.of([(image.size[1], image.size[0]) for image in images if image.size])
