"""Which layout a folder has, by the names of its folders, and what that says of every image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from blemish.datasets.folder_tree import Paths, Tree
from blemish.datasets.hash_split import HASHED, split_by_hash
from blemish.datasets.mask_pairs import Labelled, Masks
from blemish.datasets.names import (
    is_bad,
    is_classic_good,
    is_filler,
    is_good,
    is_loosely_good,
    natural_key,
    split_and_side,
    split_word,
)
from blemish.errors import BlemishError
from blemish.io.text import list_some, printable

Layout = Literal["mvtec", "flat", "nominal-anomalous", "one-vs-rest", "reference", "masks", "visa", "named"]
UNDERSTOOD = (
    "images directly inside it, train/good with test/good and test/<defect>, good/ with a folder for each defect, or "
    "train/<class> with test/<class> and --nominal-class, or name folders with --good DIR, --bad DIR and --masks DIR"
)


@dataclass(frozen=True)
class Reading:
    """What a layout makes of the images.

    Attributes:
        layout: its name.
        labelled: every image that it uses.
        nominal_class: the class that was chosen, in layouts with classes.
        notes: what a user should know of how images were read.
        aside: images that the layout leaves out by its nature: other classes.
        given: masks that a list of the data set names, by their images.
        missing: files that such a list names and that are not there.
        unplaced: whether a hash has to decide on splits once masks have said what is defective.
    """

    layout: Layout
    labelled: Sequence[Labelled]
    nominal_class: str | None = None
    notes: tuple[str, ...] = ()
    aside: frozenset[PurePosixPath] = frozenset()
    given: Mapping[PurePosixPath, Masks] = field(default_factory=dict)
    missing: Paths = ()
    unplaced: bool = False


def read_layout(tree: Tree, nominal_class: str | None) -> Reading:
    """Recognises the layout and labels every image by it. Raises BlemishError where there is none."""
    placed = tree.in_splits()
    train = {parts[0] for _, split, parts in placed if split == "train" and parts}
    test = {parts[0] for _, split, parts in placed if split == "test" and parts}
    classes = train or test
    if any(map(is_classic_good, classes)) or (nominal_class not in classes and any(map(is_good, classes))):
        _refuse_nominal_class(tree.root, nominal_class, because="its nominal images are those called good")
        return _read_mvtec(tree)
    if references := {parts[0] for _, _, parts in placed if len(parts) > 1 and is_classic_good(parts[1])}:
        return _read_reference(tree, _choose_class(tree.root, references, nominal_class, choose_single=True))
    top = {parts[0] for parts in tree.parts.values() if parts}
    if any(map(is_classic_good, top)) or (nominal_class not in classes and any(map(is_good, top))):
        _refuse_nominal_class(tree.root, nominal_class, because="its nominal images have a folder of their own")
        return _read_nominal_anomalous(tree, frozenset(name for name in top if is_good(name)))
    if nominal_class is None:
        if classes and (chosen := _by_its_words(classes)):
            return _read_mvtec(tree, good=chosen)
        if not placed and (chosen := _by_its_words(top)):
            return _read_nominal_anomalous(tree, frozenset([chosen]), noted=True)
        if tree.masked and not _data_sets(tree):
            return _read_by_masks(tree)
    if train or test:
        return _read_one_vs_rest(tree, _choose_class(tree.root, train | test, nominal_class))
    flat = [image for image, parts in tree.parts.items() if not parts]
    if flat:
        _refuse_nominal_class(tree.root, nominal_class, because="all its images count as nominal")
        return Reading("flat", [Labelled(image, "train") for image in flat])
    raise BlemishError(_unknown_layout(tree, top))


def defect_below(folders: Sequence[str]) -> str:
    """The type of defect: of bad/ the folder below it where there is one, otherwise the folder's own name."""
    telling = [folder for folder in folders if not is_filler(folder)]
    return telling[1] if is_bad(telling[0]) and len(telling) > 1 else telling[0]


def _by_its_words(names: set[str]) -> str | None:
    """The one folder with a word for good among others in its name, such as ok_front or MT_Free."""
    found = [name for name in names if is_loosely_good(name)]
    return found[0] if len(found) == 1 else None


def _read_mvtec(tree: Tree, *, good: str | None = None) -> Reading:
    placed = tree.in_splits()
    # With no folder inside train/ there is nothing else that its images can be.
    plain = not any(parts for _, split, parts in placed if split == "train")
    labelled = []
    for image, split, parts in placed:
        if parts:
            nominal = is_good(parts[0]) if good is None else parts[0] == good
            labelled.append(Labelled(image, split, None if nominal else parts[0]))
        elif image in tree.masked:
            labelled.append(Labelled(image, split, by_mask=True))
        elif split == "train" and plain:
            labelled.append(Labelled(image, split))
    notes = () if good is None else (_taken_by_its_words(good),)
    return Reading("mvtec", labelled, notes=(*notes, *_validation_note(tree)))


def _read_nominal_anomalous(tree: Tree, good: frozenset[str], *, noted: bool = False) -> Reading:
    nominal, tested, anomalous = [], [], []
    for image, parts in tree.parts.items():
        if not parts or (split_word(parts[0]) and parts[0] not in good):
            continue
        side = split_and_side(parts[0])
        if parts[0] in good:
            nominal.append(image)
        elif side and is_good(side[1]):  # anomalib's normal_test beside normal
            tested.append(image)
        else:
            anomalous.append((image, defect_below(parts)))
    labelled = split_by_hash(nominal, anomalous)
    if tested:
        # Good test images were chosen: all defective ones test with them, as in anomalib.
        labelled = [replace(sample, split="test" if sample.defect else "train") for sample in labelled]
        labelled += [Labelled(image, "test") for image in tested]
    notes = [_taken_by_its_words(name) for name in good if noted]
    return Reading("nominal-anomalous", labelled, notes=(*notes, *([HASHED] if anomalous and not tested else [])))


def _read_by_masks(tree: Tree) -> Reading:
    """No folder says what is good: masks do."""
    placed = {image: split for image, split, _ in tree.in_splits()}
    labelled = [
        Labelled(image, placed.get(image, "train"), by_mask=True)
        for image in tree.parts
        if not placed or image in placed
    ]
    return Reading("masks", labelled, unplaced=not placed)


def _read_one_vs_rest(tree: Tree, nominal_class: str) -> Reading:
    labelled, aside = [], set()
    for image, split, parts in tree.in_splits():
        if parts and (split == "test" or parts[0] == nominal_class):
            labelled.append(Labelled(image, split, None if parts[0] == nominal_class else parts[0]))
        elif parts:
            aside.add(image)
    return Reading("one-vs-rest", labelled, nominal_class, aside=frozenset(aside))


def _read_reference(tree: Tree, nominal_class: str) -> Reading:
    labelled, aside = [], set()
    for image, split, parts in tree.in_splits():
        if parts and parts[0] != nominal_class:
            aside.add(image)
        elif len(parts) > 1:
            labelled.append(Labelled(image, split, None if is_good(parts[1]) else defect_below(parts[1:])))
    return Reading("reference", labelled, nominal_class, aside=frozenset(aside))


def _validation_note(tree: Tree) -> tuple[str, ...]:
    names = sorted({parts[0] for parts in tree.parts.values() if parts and split_word(parts[0]) == "validation"})
    if not names:
        return ()
    splits = {split for image, split, _ in tree.in_splits() if tree.parts[image][0] in names}
    meaning = "training images" if splits == {"train"} else "the test split, as there is no other"
    return (f"images in {printable(names[0])}/ are {meaning}",)


def _taken_by_its_words(name: str) -> str:
    return f"images in {printable(name)}/ are taken as the good ones, by that name; --good DIR names others"


def _data_sets(tree: Tree) -> set[str]:
    """Folders that are data sets of their own."""
    return {
        parts[0]
        for parts in tree.parts.values()
        if len(parts) > 1 and (split_word(parts[1]) or is_good(parts[1])) and not split_word(parts[0])
    }


def _unknown_layout(tree: Tree, top: set[str]) -> str:
    root, images = tree.root, tree.images
    if inner := _data_sets(tree):
        first = printable(root / min(inner))
        if len(inner) == 1:
            return f"{printable(root)}: no known layout, but there is one in {printable(min(inner))}/; give {first}"
        return f"{printable(root)}: several data sets in it; give one of them, such as {first}"
    if train := [image for image, parts in tree.parts.items() if parts and split_word(parts[0]) == "train"]:
        folder = printable(train[0].parts[0])
        return (
            f"{printable(root)}: images lie directly in {folder}/, and no folder or mask says which of them are good; "
            f"move the good ones into {folder}/good/"
        )
    folders = list_some((f"{name}/" for name in sorted(top or {image.parts[0] for image in images})), limit=6)
    return f"{printable(root)}: no known layout, images only in {folders}; give a folder with {UNDERSTOOD}"


def _choose_class(root: Path, classes: set[str], nominal_class: str | None, *, choose_single: bool = False) -> str:
    listed = list_some(sorted(classes, key=lambda name: natural_key(PurePosixPath(name))), limit=20)
    if nominal_class is None:
        if len(classes) == 1 and choose_single:
            return next(iter(classes))
        raise BlemishError(
            f"{printable(root)}: none of its classes is called good; name the nominal one with "
            f"--nominal-class NAME, one of {listed}"
        )
    if nominal_class not in classes:
        raise BlemishError(
            f"{printable(root)}: no class {printable(nominal_class)}; --nominal-class must be one of {listed}"
        )
    return nominal_class


def _refuse_nominal_class(root: Path, nominal_class: str | None, *, because: str) -> None:
    if nominal_class is not None and not is_classic_good(nominal_class):
        raise BlemishError(f"{printable(root)}: {because}; leave out --nominal-class {printable(nominal_class)}")
