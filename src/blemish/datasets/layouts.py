"""Folder layouts: from a folder of images to training and test samples, by the names of folders and files.

mvtec
    ``train/good``, ``test/good``, ``test/<defect>``; ``train/<defect>`` holds labelled training anomalies.
    Masks: ``ground_truth/<defect>/<stem>_mask.png`` or ``<stem>.png``. A training anomaly whose name occurs
    in ``test/<defect>`` too keeps its mask in ``ground_truth/train/<defect>/``. MVTec AD 2 (``test_public/``,
    with its masks inside) and MVTec LOCO (``ground_truth/<defect>/<stem>/<n>.png``: the union of all) are read alike.
    ``validation/`` holds further training images, or the test split where there are defects in it and no other test.
flat
    Images directly in the folder: all nominal, for training.
nominal-anomalous
    ``nominal/`` and beside it ``anomalous/``, ``anomalous/<defect>/`` or ``<defect>/``, split into train and test
    by `in_test_split`. Masks: ``masks/``, below it the image's path with or without its leading folders.
one-vs-rest
    ``train/<class>``, ``test/<class>``: one class is nominal, the test images of all others are anomalous.
    Masks: ``test_maps/``, below it the image's path.
reference (the layout of the paper's own implementation)
    ``train/<class>/nominal``, ``train/<class>/anomalous``, the same in ``test/``.
    Masks: ``train_maps/`` and ``test_maps/``, below them the image's path.
masks
    Images of which no folder says what is good, with masks, such as KolektorSDD and DAGM: an image is anomalous where
    its mask marks something. ``train/`` and ``test/`` are kept apart, otherwise `in_test_split` decides.
visa
    ``Data/Images/Normal`` and ``Data/Images/Anomaly`` with ``split_csv/1cls.csv``, in the folder or beside it.
named
    Folders that were named by hand.

`names` has the words that stand for ``good``, ``anomalous`` and ``masks``. Beside a good folder every other one that
holds no masks is a type of defect. A mask may also lie beside its image, in any layout: see `mask_beside`. Annotation
files mark what masks mark. A folder that holds nothing but the folder of the images is passed over, unless its name
is one of these words. Beside a folder called rgb, those called xyz, depth and the like are not used.
Folders called ``images`` and the like say nothing. Folders are searched to any depth, links are followed, and a mask's
suffix may differ from its image's. Samples are in natural order: 2.png before 10.png.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from blemish.datasets.by_hand import Folders, NamedFolders, read_folders
from blemish.datasets.families import (
    HASHED,
    UNDERSTOOD,
    Layout,
    Reading,
    Tree,
    in_test_split,
    mask_folders,
    read_layout,
    split_by_hash,
)
from blemish.datasets.listing import Listing, list_files
from blemish.datasets.mask_beside import Beside, find_masks_beside, holds_masks
from blemish.datasets.mask_pairs import Labelled, Pairs, Split, pair_masks
from blemish.datasets.names import is_classic_good, may_wrap, natural_key
from blemish.datasets.split_file import SPLIT_FILE, read_split_file
from blemish.errors import BlemishError
from blemish.imaging.annotations import Annotations, find_annotations
from blemish.imaging.errors import ImageError
from blemish.imaging.formats import is_image_name
from blemish.imaging.headers import read_header
from blemish.imaging.masks import MaskSource, read_mask
from blemish.imaging.results import without_results
from blemish.io.arguments import name, several_paths
from blemish.io.text import by_folder, counted, list_some, printable
from blemish.process.threads import readers

__all__ = [
    "DataSet",
    "DataWarning",
    "Folders",
    "Layout",
    "Sample",
    "Split",
    "in_test_split",
    "natural_key",
    "read_data_set",
]

Named = str | Path | Iterable[str | Path]  # a folder or several
MARKED = "defective"  # the type of defect where only masks say that there is one


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


def read_data_set(
    root: Path | str | None,
    *,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
) -> DataSet:
    """The training and test samples of a folder in any layout named above, or of folders named by hand.

    No image is opened but those that may be masks beside their images or in folders with ambiguous names, and masks
    of images that should be good.

    Args:
        root: the folder. With folders named by hand it may be None; otherwise these are looked for below it first.
        nominal_class: the nominal class of a one-versus-rest folder, or the class to use of a folder in the reference
            layout, or the object of VisA.
        good: folders of good images, or one.
        bad: folders of defective images; each is a type of defect, or has a folder for each.
        masks: folders of masks.

    Raises:
        BlemishError: there is no folder, image, known layout or such class.
    """
    folders = Folders(*map(several_paths, (good, bad, masks), ("good", "bad", "masks")))
    root = None if root is None else Path(root)
    if nominal_class is not None:
        name(nominal_class, "the nominal class")
    if folders:
        if nominal_class is not None:
            raise BlemishError("--nominal-class goes with a layout, and --good, --bad and --masks name folders instead")
        return _named(read_folders(root, folders))
    if root is None:
        raise BlemishError(f"no folder given; give a folder with {UNDERSTOOD}")
    listing = _list(root)
    classes = nominal_class is not None and not is_classic_good(nominal_class)

    def all_masks(images: Sequence[PurePosixPath]) -> bool:
        return holds_masks([root / image for image in images])

    apart = mask_folders(listing.images, classes=classes, holds_masks=all_masks)
    reading = read_split_file(root, listing.images, nominal_class)
    if reading is None and (inner := _wrapped(root, listing)):
        return _unwrapped(read_data_set(root / inner, nominal_class=nominal_class), inner, listing)
    files = _Files.of(root, listing, apart, find_annotations)
    if reading is None:
        # Whether an image has a mask matters where no folder says what it is.
        unknown = pair_masks([Labelled(image, "train", by_mask=True) for image in files.pictures], apart)
        masked = {*files.beside.masks, *unknown.masks, *files.annotations.of}
        reading = read_layout(Tree(root, files.pictures, frozenset(masked)), nominal_class)
    return _assemble(files, reading)


def _wrapped(root: Path, listing: Listing) -> str | None:
    """The folder that all images lie below and whose name says nothing, as an unpacked archive has."""
    top = listing.images[0].parts[0]
    if any(image.parts[0] != top or len(image.parts) < 3 for image in listing.images):
        return None
    if not may_wrap(top, {image.parts[1] for image in listing.images}):
        return None
    outside = [file for file in listing.others if file.parts[0] != top]
    return None if find_annotations(root, outside, listing.images).files else top


def _unwrapped(found: DataSet, inner: str, outer: Listing) -> DataSet:
    """The data set in that folder, with what is to be said of the files around it."""
    notes = [f"all images are in {printable(inner)}/, which is read in place of the folder around it"]
    outside = [file for file in outer.others if file.parts[0] != inner]
    if outside:
        notes.append(f"{counted(len(outside), 'other file')} beside {printable(inner)}/ ignored (not images)")
    notes += [note for note in outer.results if note not in found.notes]
    unread = find_annotations(outer.locate(PurePosixPath()), outside, ()).notes
    return replace(found, notes=(*notes, *found.notes), warnings=(*found.warnings, *map(DataWarning, unread)))


def _named(named: NamedFolders) -> DataSet:
    """The data set of folders that were named by hand."""
    locate = named.listing.locate
    above = Path(os.path.commonpath([os.path.abspath(locate(file).parent) for file in named.listing.images]))

    def annotations(_: Path, others: Sequence[PurePosixPath], images: Sequence[PurePosixPath]) -> Annotations:
        """Those of the files' own paths, under their names here."""
        own = {PurePosixPath(os.path.relpath(locate(file), above)): file for file in (*others, *images)}
        places = {name: path for path, name in own.items()}
        found = find_annotations(above, [places[file] for file in others], [places[image] for image in images])
        return replace(
            found,
            of={own[image]: annotation for image, annotation in found.of.items()},
            files=frozenset(own[file] for file in found.files),
        )

    files = _Files.of(named.root, named.listing, named.masks, annotations)
    found = _assemble(files, named.reading(files.pictures), leftover=named.leftover)
    return replace(found, folders=named.folders)


_Annotator = Callable[[Path, Sequence[PurePosixPath], Sequence[PurePosixPath]], Annotations]


@dataclass(frozen=True)
class _Files:
    """The files of a data set, masks apart: `apart` has those in mask folders, and the folders that they mirror."""

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
        annotations: _Annotator,
    ) -> "_Files":
        """Finds masks beside images, and annotations."""
        pictures = [image for image in listing.images if image not in apart]
        beside = find_masks_beside(pictures, listing.locate)
        masks = {mask for found in beside.masks.values() for mask in found}
        pictures = [image for image in pictures if image not in masks]
        return cls(root, listing, pictures, apart, beside, annotations(root, listing.others, pictures))


def _list(root: Path) -> Listing:
    """All images below `root` in natural order, relative to it, and all other files."""
    if not root.exists():
        raise BlemishError(f"{printable(root)}: no such folder; give a folder with {UNDERSTOOD}")
    if not root.is_dir():
        raise BlemishError(f"{printable(root)}: a file, not a folder; give a folder with {UNDERSTOOD}")
    files = list_files(root)
    images = sorted((path for path in files if is_image_name(path)), key=natural_key)
    others = [path for path in files if not is_image_name(path)]
    images, results = without_results(root, images)
    if not images:
        held = "no image" + (f", only {counted(len(others), 'other file')}" if others else "")
        held += f" ({results})" if results else ""
        raise BlemishError(f"{printable(root)}: {held} in it; give a folder with {UNDERSTOOD}")
    return Listing(images, others, root.joinpath, (results,) if results else ())


def _assemble(files: _Files, reading: Reading, *, leftover: Sequence[PurePosixPath] = ()) -> DataSet:
    """Gives images their masks, and accounts for every file."""
    listed = {mask for given in reading.given.values() for mask in given}
    apart = {mask: place for mask, place in files.apart.items() if mask not in listed and mask not in reading.aside}
    known = {*files.beside.masks, *reading.given}
    pairs = pair_masks([one for one in reading.labelled if one.image not in known], apart)
    masks: dict[PurePosixPath, MaskSource] = dict(files.annotations.of)
    for found in (pairs.masks, files.beside.masks, reading.given):
        for image, own in found.items():
            masks[image] = files.listing.locate(own[0]) if len(own) == 1 else tuple(map(files.listing.locate, own))
    marks = _marks(files, [one for one in reading.labelled if one.defect is None and one.image in masks], masks)
    labelled = _decided(reading, marks)
    samples = {  # a nominal image's mask says nothing that is not known: it only counts as used
        one.image: Sample(files.listing.locate(one.image), one.defect, masks.get(one.image) if one.defect else None)
        for one in labelled
    }
    aside = reading.aside | {mask for mask in pairs.orphans if _of_another_class(reading, apart[mask])}
    notes = [*reading.notes, *_notes(files, reading, labelled, masks, pairs, aside)]
    contradicting = [one.image for one in reading.labelled if not one.by_mask and marks.get(one.image)]
    return DataSet(
        root=files.root,
        layout=reading.layout,
        train=tuple(samples[one.image] for one in labelled if one.split == "train"),
        test=tuple(samples[one.image] for one in labelled if one.split == "test"),
        notes=tuple(notes),
        nominal_class=reading.nominal_class,
        warnings=tuple(_warnings(files, reading, pairs, aside, contradicting, leftover)),
    )


def _marks(
    files: _Files, labelled: Sequence[Labelled], masks: Mapping[PurePosixPath, MaskSource]
) -> dict[PurePosixPath, bool | None]:
    """Whether the masks of some images mark anything; None where one cannot be read."""

    def marks(one: Labelled) -> bool | None:
        source = masks[one.image]
        try:
            size = None if isinstance(source, Path | tuple) else read_header(files.listing.locate(one.image)).size
            return bool(read_mask(source, size=size).any())
        except ImageError:
            return None

    with ThreadPoolExecutor(readers()) as pool:
        return dict(zip((one.image for one in labelled), pool.map(marks, labelled), strict=True))


def _decided(reading: Reading, marks: Mapping[PurePosixPath, bool | None]) -> list[Labelled]:
    """Labels where masks had to say them: an image is defective unless its mask marks nothing, or it has none."""
    labelled = [
        replace(one, defect=MARKED) if one.by_mask and marks.get(one.image, False) is not False else one
        for one in reading.labelled
    ]
    if not reading.unplaced:
        return labelled
    return split_by_hash(
        [one.image for one in labelled if one.defect is None],
        [(one.image, one.defect) for one in labelled if one.defect is not None],
    )


def _of_another_class(reading: Reading, mirrored: Sequence[str]) -> bool:
    """Whether a mask without an image is of a class that the layout leaves out."""
    return reading.layout == "reference" and len(mirrored) > 1 and mirrored[1] != reading.nominal_class


def _notes(
    files: _Files,
    reading: Reading,
    labelled: Sequence[Labelled],
    masks: Mapping[PurePosixPath, MaskSource],
    pairs: Pairs,
    aside: frozenset[PurePosixPath],
) -> Iterable[str]:
    defective = sum(one.defect is not None for one in labelled)
    if any(one.by_mask for one in reading.labelled):
        asked = {one.image for one in reading.labelled if one.by_mask}
        marked = sum(one.defect is not None for one in labelled if one.image in asked)
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
    files: _Files,
    reading: Reading,
    pairs: Pairs,
    aside: frozenset[PurePosixPath],
    contradicting: Sequence[PurePosixPath],
    leftover: Sequence[PurePosixPath],
) -> Iterable[DataWarning]:
    locate = files.listing.locate
    used = {one.image for one in reading.labelled} | aside | {mask for own in reading.given.values() for mask in own}
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
        yield DataWarning(f"{held}: {_told(orphans)}", tuple(map(locate, orphans)))
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


def _told(files: Sequence[PurePosixPath]) -> str:
    """The files, where they are few; otherwise their folders."""
    return list_some(files) if len(files) <= 3 else by_folder(files)
