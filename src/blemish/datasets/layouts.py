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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from blemish.datasets.assembly import Files, assemble
from blemish.datasets.by_hand import Folders, NamedFolders, read_folders
from blemish.datasets.families import UNDERSTOOD, Layout, read_layout
from blemish.datasets.folder_tree import Tree, mask_folders
from blemish.datasets.hash_split import in_test_split
from blemish.datasets.listing import Listing, list_files
from blemish.datasets.mask_beside import holds_masks
from blemish.datasets.mask_pairs import Labelled, Split, pair_masks
from blemish.datasets.names import is_classic_good, may_wrap, natural_key
from blemish.datasets.samples import DataSet, DataWarning, Sample
from blemish.datasets.split_file import read_split_file
from blemish.errors import BlemishError
from blemish.imaging.annotations import Annotations, find_annotations
from blemish.imaging.formats import is_image_name
from blemish.imaging.results import without_results
from blemish.io.arguments import name, several_paths
from blemish.io.text import counted, printable

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


def read_data_set(
    root: Path | str | None,
    *,
    nominal_class: str | None = None,
    good: Named = (),
    bad: Named = (),
    masks: Named = (),
) -> DataSet:
    """Finds the training and test samples of a folder in any known layout, or of folders named by hand.

    Layouts are those at the top of this module and in the guide. Only files that may be masks are opened.

    Args:
        root: the folder. With folders named by hand it may be None; otherwise these are looked for below it first.
        nominal_class: the nominal class of a one-versus-rest folder, or the class to use of a folder in the reference
            layout, or the object of VisA.
        good: folders of good images, or one.
        bad: folders of defective images; each is a type of defect, or has a folder for each.
        masks: folders of masks.

    Returns:
        The samples of both splits, each with its type of defect and its mask, and warnings on files that are not used.

    Raises:
        BlemishError: there is no such folder, no image in it, no known layout or no such class.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("good/1.png", "good/2.png", "crack/3.png", "masks/crack/3.png"):
        ...         path = Path(folder, name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("L", (64, 64)).save(path)
        ...     data = read_data_set(folder)
        >>> data.layout
        'nominal-anomalous'
        >>> sorted({sample.defect or "good" for sample in (*data.train, *data.test)})
        ['crack', 'good']
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
    files = Files.of(root, listing, apart, find_annotations)
    if reading is None:
        # Whether an image has a mask matters where no folder says what it is.
        unknown = pair_masks([Labelled(image, "train", by_mask=True) for image in files.pictures], apart)
        masked = {*files.beside.masks, *unknown.masks, *files.annotations.of}
        reading = read_layout(Tree(root, files.pictures, frozenset(masked)), nominal_class)
    return assemble(files, reading)


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

    files = Files.of(named.root, named.listing, named.masks, annotations)
    found = assemble(files, named.reading(files.pictures), leftover=named.leftover)
    return replace(found, folders=named.folders)


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
