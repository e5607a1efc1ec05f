"""From labels, masks and annotations to samples, with every file of the folder accounted for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from blemish.datasets.families import Reading
from blemish.datasets.hash_split import HASHED, split_by_hash
from blemish.datasets.listing import Listing
from blemish.datasets.mask_beside import Beside, find_masks_beside
from blemish.datasets.mask_pairs import Labelled, Pairs, pair_masks
from blemish.datasets.names import natural_key
from blemish.datasets.samples import DataSet, DataWarning, Sample
from blemish.datasets.split_file import SPLIT_FILE
from blemish.imaging.annotations import Annotations
from blemish.imaging.errors import ImageError
from blemish.imaging.headers import read_header
from blemish.imaging.masks import MaskSource, read_mask
from blemish.io.text import by_folder, counted, list_some
from blemish.process.threads import readers

MARKED = "defective"  # the type of defect where only masks say that there is one

Annotator = Callable[[Path, Sequence[PurePosixPath], Sequence[PurePosixPath]], Annotations]


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
        root: the folder.
        listing: all of them.
        pictures: images that are no masks.
        apart: the masks in mask folders, each with the folders that it mirrors.
        beside: the masks beside their images.
        annotations: those of the images, from annotation files.
    """

    root: Path
    listing: Listing
    pictures: Sequence[PurePosixPath]
    apart: Mapping[PurePosixPath, tuple[str, ...]]
    beside: Beside
    annotations: Annotations

    @classmethod
    def of(
        cls,
        root: Path,
        listing: Listing,
        apart: Mapping[PurePosixPath, tuple[str, ...]],
        annotations: Annotator,
    ) -> "Files":
        """Finds masks beside images, and annotations."""
        pictures = [image for image in listing.images if image not in apart]
        beside = find_masks_beside(pictures, listing.locate)
        masks = {mask for found in beside.masks.values() for mask in found}
        pictures = [image for image in pictures if image not in masks]
        return cls(root, listing, pictures, apart, beside, annotations(root, listing.others, pictures))


def assemble(files: Files, reading: Reading, *, leftover: Sequence[PurePosixPath] = ()) -> DataSet:
    """Gives images their masks, and accounts for every file.

    Args:
        files: all files.
        reading: labels and splits by the layout.
        leftover: images that folders named by hand leave out.

    Returns:
        The data set, with notes and warnings on files that are not used.
    """
    listed = {mask for given in reading.given.values() for mask in given}
    apart = {mask: place for mask, place in files.apart.items() if mask not in listed and mask not in reading.aside}
    known = {*files.beside.masks, *reading.given}
    pairs = pair_masks([sample for sample in reading.labelled if sample.image not in known], apart)
    masks: dict[PurePosixPath, MaskSource] = dict(files.annotations.of)
    for found in (pairs.masks, files.beside.masks, reading.given):
        for image, own in found.items():
            masks[image] = files.listing.locate(own[0]) if len(own) == 1 else tuple(map(files.listing.locate, own))
    marks = _marks(
        files, [sample for sample in reading.labelled if sample.defect is None and sample.image in masks], masks
    )
    labelled = _decided(reading, marks)
    samples = {  # a nominal image's mask says nothing that is not known: it only counts as used
        sample.image: Sample(
            files.listing.locate(sample.image), sample.defect, masks.get(sample.image) if sample.defect else None
        )
        for sample in labelled
    }
    aside = reading.aside | {mask for mask in pairs.orphans if _of_another_class(reading, apart[mask])}
    notes = [*reading.notes, *_notes(files, reading, labelled, masks, pairs, aside)]
    contradicting = [sample.image for sample in reading.labelled if not sample.by_mask and marks.get(sample.image)]
    return DataSet(
        root=files.root,
        layout=reading.layout,
        train=tuple(samples[sample.image] for sample in labelled if sample.split == "train"),
        test=tuple(samples[sample.image] for sample in labelled if sample.split == "test"),
        notes=tuple(notes),
        nominal_class=reading.nominal_class,
        warnings=tuple(_warnings(files, reading, pairs, aside, contradicting, leftover)),
    )


def _marks(
    files: Files, labelled: Sequence[Labelled], masks: Mapping[PurePosixPath, MaskSource]
) -> dict[PurePosixPath, bool | None]:
    """Whether the masks of some images mark anything; None where one cannot be read."""

    def marks(sample: Labelled) -> bool | None:
        source = masks[sample.image]
        try:
            size = None if isinstance(source, Path | tuple) else read_header(files.listing.locate(sample.image)).size
            return bool(read_mask(source, size=size).any())
        except ImageError:
            return None

    with ThreadPoolExecutor(readers()) as pool:
        return dict(zip((sample.image for sample in labelled), pool.map(marks, labelled), strict=True))


def _decided(reading: Reading, marks: Mapping[PurePosixPath, bool | None]) -> list[Labelled]:
    """Labels where masks had to say them: an image is defective unless its mask marks nothing, or it has none."""
    labelled = [
        replace(sample, defect=MARKED) if sample.by_mask and marks.get(sample.image, False) is not False else sample
        for sample in reading.labelled
    ]
    if not reading.unplaced:
        return labelled
    return split_by_hash(
        [sample.image for sample in labelled if sample.defect is None],
        [(sample.image, sample.defect) for sample in labelled if sample.defect is not None],
    )


def _of_another_class(reading: Reading, mirrored: Sequence[str]) -> bool:
    """Whether a mask without an image is of a class that the layout leaves out."""
    return reading.layout == "reference" and len(mirrored) > 1 and mirrored[1] != reading.nominal_class


def _notes(
    files: Files,
    reading: Reading,
    labelled: Sequence[Labelled],
    masks: Mapping[PurePosixPath, MaskSource],
    pairs: Pairs,
    aside: frozenset[PurePosixPath],
) -> Iterable[str]:
    defective = sum(sample.defect is not None for sample in labelled)
    if any(sample.by_mask for sample in reading.labelled):
        asked = {sample.image for sample in reading.labelled if sample.by_mask}
        marked = sum(sample.defect is not None for sample in labelled if sample.image in asked)
        bare = len(asked - set(masks))
        without = f", {bare:,} of them without a mask" if bare else ""
        yield (
            f"masks say what is defective: {counted(marked, 'image')} with a mask that marks something, and "
            f"{len(asked) - marked:,} good{without}"
        )
    if reading.unplaced and defective:
        yield HASHED
    if pairs.contested:
        yield (
            f"{counted(len(pairs.contested), 'image')} left without a mask, which another image of that name has: "
            f"{list_some(pairs.contested)}"
        )
    if aside:
        yield f"{counted(len(aside), 'image')} of other classes not used: {by_folder(sorted(aside, key=natural_key))}"
    yield from files.listing.results
    ignored = set(files.listing.others) - files.annotations.files
    if reading.layout == "visa":
        ignored = {file for file in ignored if file.name != SPLIT_FILE}
    if ignored:
        yield f"{counted(len(ignored), 'other file')} ignored (not images)"


def _warnings(
    files: Files,
    reading: Reading,
    pairs: Pairs,
    aside: frozenset[PurePosixPath],
    contradicting: Sequence[PurePosixPath],
    leftover: Sequence[PurePosixPath],
) -> Iterable[DataWarning]:
    locate = files.listing.locate
    used = (
        {sample.image for sample in reading.labelled} | aside | {mask for own in reading.given.values() for mask in own}
    )
    unused = [image for image in files.pictures if image not in used]
    if unused or leftover:
        paths = (*map(locate, unused), *(files.root / file for file in leftover))
        yield DataWarning(
            f"{counted(len(paths), 'image')} not used: {by_folder([*unused, *leftover])}; their folders can be named "
            "with --good DIR and --bad DIR",
            paths,
        )
    if orphans := [mask for mask in pairs.orphans if mask not in aside]:
        held = f"{counted(len(orphans), 'mask')} without an image"
        yield DataWarning(f"{held}: {_few_or_folders(orphans)}", tuple(map(locate, orphans)))
    if doubts := [file for file in files.beside.doubts if file in used or file in unused]:
        yield DataWarning(
            f"{counted(len(doubts), 'image')} named like the mask of an image beside, but of another shape, so no "
            f"mask: {list_some(doubts)}",
            tuple(map(locate, doubts)),
        )
    if contradicting:
        yield DataWarning(
            f"{counted(len(contradicting), 'good image')} with a mask that marks something, taken as good: "
            f"{list_some(contradicting)}",
            tuple(map(locate, contradicting)),
        )
    if reading.missing:
        gone = counted(len(reading.missing), "file")
        yield DataWarning(f"{gone} of {SPLIT_FILE} not there: {list_some(reading.missing)}")
    yield from map(DataWarning, files.annotations.notes)


def _few_or_folders(files: Sequence[PurePosixPath]) -> str:
    """The files, where they are few; otherwise their folders."""
    return list_some(files) if len(files) <= 3 else by_folder(files)
