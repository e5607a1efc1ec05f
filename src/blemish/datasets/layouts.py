"""Folder layouts: from a folder of images to training and test samples, by names alone; no image is opened.

mvtec
    ``train/good``, ``test/good``, ``test/<defect>``; ``train/<defect>`` holds labelled training anomalies.
    Masks: ``ground_truth/<defect>/<stem>_mask.png`` or ``<stem>.png``. A training anomaly whose name occurs
    in ``test/<defect>`` too keeps its mask in ``ground_truth/train/<defect>/``.
flat
    Images directly in the folder: all nominal, for training.
nominal-anomalous
    ``nominal/`` and ``anomalous/`` or ``anomalous/<defect>/``, split into train and test by `in_test_split`.
    Masks: ``masks/``, below it the image's path with or without its leading folders.
one-vs-rest
    ``train/<class>``, ``test/<class>``: one class is nominal, the test images of all others are anomalous.
    Masks: ``test_maps/``, below it the image's path.
reference (the layout of the paper's own implementation)
    ``train/<class>/nominal``, ``train/<class>/anomalous``, the same in ``test/``.
    Masks: ``train_maps/`` and ``test_maps/``, below them the image's path.

For ``good`` and ``nominal`` any of `NOMINAL` may stand, for ``anomalous`` any of `ANOMALOUS`, for ``masks``
and ``ground_truth`` either, all in upper or lower case. Folders are searched to any depth, links are
followed, and a mask's suffix may differ from its image's. Samples are in natural order: 2.png before 10.png.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from blemish.errors import BlemishError
from blemish.files import printable, read_fault
from blemish.images import is_image_name
from blemish.imaging.masks import MaskSource
from blemish.results import without_results

Split = Literal["train", "test"]
Layout = Literal["mvtec", "flat", "nominal-anomalous", "one-vs-rest", "reference"]

NOMINAL = ("good", "nominal", "normal", "ok")
ANOMALOUS = ("anomalous", "abnormal", "bad", "defect", "defects", "ng")
MASKS = ("ground_truth", "masks")
UNDERSTOOD = (
    "images directly inside it, train/good with test/good and test/<defect>, nominal/ with anomalous/, "
    "or train/<class> with test/<class> and --nominal-class"
)


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
        """Whether the image's folder says that it shows an anomaly."""
        return self.defect is not None


@dataclass(frozen=True)
class DataSet:
    """A folder read: training and test samples, and notes on whatever in it was left aside."""

    root: Path
    layout: Layout
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    nominal_class: str | None = None


@dataclass(frozen=True)
class _Labelled:
    """An image with the label that its path gives it, and the folders in which its mask may lie."""

    image: PurePosixPath
    split: Split
    defect: str | None
    mask_folders: tuple[PurePosixPath, ...]


@dataclass(frozen=True)
class _Reading:
    """What one layout makes of the paths: `masks` maps each mask's path to the path that it mirrors."""

    layout: Layout
    labelled: Sequence[_Labelled]
    masks: dict[PurePosixPath, PurePosixPath] = field(default_factory=dict)
    nominal_class: str | None = None
    notes: tuple[str, ...] = ()


def read_data_set(root: Path | str, *, nominal_class: str | None = None) -> DataSet:
    """The training and test samples of a folder in any layout named above.

    `nominal_class` names the nominal class of a one-versus-rest folder, or the class to use of a folder in
    the reference layout. Raises `BlemishError` where there is no folder, image, known layout or such class.
    """
    root = Path(root)
    images, others = _list_files(root)
    images, results = without_results(root, images)
    if not images:
        held = "no image" + (f", only {counted(others, 'other file')}" if others else "")
        held += f" ({results})" if results else ""
        raise BlemishError(f"{printable(root)}: {held} in it; give a folder with {UNDERSTOOD}")
    reading = _read_layout(root, images, nominal_class)
    samples, notes = _pair_masks(root, reading)
    used = {labelled.image for labelled in reading.labelled} | set(reading.masks)
    unused = [image for image in images if image not in used]
    if unused:
        notes.append(f"{counted(len(unused), 'image')} not used by this layout: {list_some(unused)}")
    if results:
        notes.append(results)
    if others:
        notes.append(f"{counted(others, 'other file')} ignored (no image suffix)")
    return DataSet(
        root=root,
        layout=reading.layout,
        train=tuple(samples[labelled.image] for labelled in reading.labelled if labelled.split == "train"),
        test=tuple(samples[labelled.image] for labelled in reading.labelled if labelled.split == "test"),
        notes=(*reading.notes, *notes),
        nominal_class=reading.nominal_class,
    )


def in_test_split(path: PurePosixPath, *, one_in: int) -> bool:
    """Whether this path is among the one in `one_in` that are kept for testing.

    A hash of the path alone decides, so that no image changes sides when others come or go, on any machine.
    """
    # macOS stores é as two characters, Linux as one: the same folder must split alike on both.
    name = unicodedata.normalize("NFC", path.as_posix()).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % one_in == 0


def natural_key(path: PurePosixPath) -> tuple[tuple[tuple[int | str, ...], ...], tuple[str, ...]]:
    """Sort key that puts 2.png before 10.png, part by part; names equal but for case keep a fixed order."""
    # re.split with a group alternates text and digits, so strings are only ever compared with strings.
    parts = tuple(
        tuple(int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(re.split(r"(\d+)", part)))
        for part in path.parts
    )
    return parts, path.parts


def list_some(names: Iterable[str | PurePath], *, limit: int = 3) -> str:
    """The first `limit` names and how many more there are, for one line of text."""
    texts = [printable(str(name)) for name in names]
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def counted(number: int, noun: str) -> str:
    """The number with its noun: "no images", "1 image", "1,204 images"."""
    return f"{f'{number:,}' if number else 'no'} {noun}{'s' * (number != 1)}"


def _list_files(root: Path) -> tuple[list[PurePosixPath], int]:
    """All images below `root` in natural order, relative to it, and the number of other files."""
    if not root.exists():
        raise BlemishError(f"{printable(root)}: no such folder; give a folder with {UNDERSTOOD}")
    if not root.is_dir():
        raise BlemishError(f"{printable(root)}: a file, not a folder; give a folder with {UNDERSTOOD}")
    files = _walk(root, PurePosixPath(), frozenset())
    images = [path for path in files if is_image_name(path)]
    return sorted(images, key=natural_key), len(files) - len(images)


def _walk(folder: Path, relative: PurePosixPath, above: frozenset[Path]) -> list[PurePosixPath]:
    """Every file below `folder`; hidden folders are skipped, links followed unless they lead back up."""
    resolved = folder.resolve()
    if resolved in above:
        return []
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise BlemishError(f"{printable(folder)}: {read_fault(error)}; give a folder that can be read") from error
    files = []
    for entry in entries:
        if entry.is_dir():
            if not entry.name.startswith("."):
                files += _walk(folder / entry.name, relative / entry.name, above | {resolved})
        elif entry.is_file() or entry.is_symlink():  # a broken link is an image that doctor must report
            files.append(relative / entry.name)
    return files


def _read_layout(root: Path, images: Sequence[PurePosixPath], nominal_class: str | None) -> _Reading:
    """Recognise the layout by the folders' names and label every image by it."""
    train = {image.parts[1] for image, split in _in_class_folders(images) if split == "train"}
    test = {image.parts[1] for image, split in _in_class_folders(images) if split == "test"}
    top = {image.parts[0] for image in images if len(image.parts) > 1}
    if any(_is_one_of(name, NOMINAL) for name in train or test):
        _refuse_nominal_class(root, nominal_class, because="its nominal images are those called good")
        return _read_mvtec(images)
    if classes := {image.parts[1] for image, _ in _in_class_folders(images) if _is_reference(image)}:
        return _read_reference(images, _choose_class(root, classes, nominal_class, choose_single=True))
    if any(_is_one_of(name, NOMINAL) for name in top):
        _refuse_nominal_class(root, nominal_class, because="its nominal images have a folder of their own")
        return _read_nominal_anomalous(images)
    if train or test:
        return _read_one_vs_rest(images, _choose_class(root, train | test, nominal_class))
    flat = [image for image in images if len(image.parts) == 1]
    if flat:
        _refuse_nominal_class(root, nominal_class, because="all its images count as nominal")
        return _Reading("flat", [_Labelled(image, "train", None, ()) for image in flat])
    raise BlemishError(_unknown_layout(root, images, top))


def _unknown_layout(root: Path, images: Sequence[PurePosixPath], top: set[str]) -> str:
    inner = {image.parts[0] for image in images if _split_of(_without_first(image))}
    if inner:
        one = printable(root / min(inner))
        return f"{printable(root)}: several data sets in it; give one of them, such as {one}"
    if any(_split_of(image) == "train" for image in images):
        return f"{printable(root)}: images lie directly in train/; move the good ones into train/good/"
    folders = list_some((f"{name}/" for name in sorted(top)), limit=6)
    return f"{printable(root)}: no known layout, images only in {folders}; give a folder with {UNDERSTOOD}"


def _read_mvtec(images: Sequence[PurePosixPath]) -> _Reading:
    labelled = []
    for image, split in _in_class_folders(images):
        defect = None if _is_one_of(image.parts[1], NOMINAL) else image.parts[1]
        labelled.append(_Labelled(image, split, defect, (image.parent, _without_first(image.parent))))
    return _Reading("mvtec", labelled, _mask_folder(images))


def _read_nominal_anomalous(images: Sequence[PurePosixPath]) -> _Reading:
    nominal = [image for image in images if len(image.parts) > 1 and _is_one_of(image.parts[0], NOMINAL)]
    anomalous = [image for image in images if len(image.parts) > 1 and _is_one_of(image.parts[0], ANOMALOUS)]
    stems = Counter(image.stem for image in anomalous)
    labelled = []
    for image in [*nominal, *anomalous]:
        defect = _defect_below(image, depth=0) if _is_one_of(image.parts[0], ANOMALOUS) else None
        # With nothing to find in a test, every nominal image is worth more in training.
        tested = bool(anomalous) and in_test_split(image, one_in=2 if defect else 5)
        folders = [image.parent, _without_first(image.parent)] if defect else [image.parent]
        if stems[image.stem] <= 1:  # otherwise masks/<stem>.png could belong to several defects
            folders.append(PurePosixPath())
        labelled.append(_Labelled(image, "test" if tested else "train", defect, tuple(folders)))
    note = "one in 5 nominal and one in 2 anomalous images, chosen by a hash of their paths, are test images"
    return _Reading("nominal-anomalous", labelled, _mask_folder(images), notes=(note,) if anomalous else ())


def _read_one_vs_rest(images: Sequence[PurePosixPath], nominal_class: str) -> _Reading:
    labelled = []
    for image, split in _in_class_folders(images):
        defect = None if image.parts[1] == nominal_class else image.parts[1]
        if split == "test" or defect is None:
            labelled.append(_Labelled(image, split, defect, (image.parent,)))
    return _Reading("one-vs-rest", labelled, _mask_maps(images), nominal_class)


def _read_reference(images: Sequence[PurePosixPath], nominal_class: str) -> _Reading:
    labelled = []
    for image, split in _in_class_folders(images):
        if image.parts[1] == nominal_class and len(image.parts) > 3:
            if _is_one_of(image.parts[2], NOMINAL):
                labelled.append(_Labelled(image, split, None, (image.parent,)))
            elif _is_one_of(image.parts[2], ANOMALOUS):
                labelled.append(_Labelled(image, split, _defect_below(image, depth=2), (image.parent,)))
    masks = {mask: place for mask, place in _mask_maps(images).items() if mask.parts[1] == nominal_class}
    return _Reading("reference", labelled, masks, nominal_class)


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
    if nominal_class is not None and not _is_one_of(nominal_class, NOMINAL):
        raise BlemishError(f"{printable(root)}: {because}; leave out --nominal-class {printable(nominal_class)}")


def _pair_masks(root: Path, reading: _Reading) -> tuple[dict[PurePosixPath, Sample], list[str]]:
    """Give every mask to at most one image; masks and images left over are told in the notes."""
    free: dict[str, list[PurePosixPath]] = {}
    for mask, mirrored in reading.masks.items():
        free.setdefault(_fold(mirrored.with_suffix("")), []).append(mask)
    samples: dict[PurePosixPath, Sample] = {}
    contested: list[PurePosixPath] = []
    # Anomalous test images choose first: where names collide the mask is theirs in MVTec's own layout.
    for one in sorted(reading.labelled, key=lambda one: (one.defect is None, one.split == "train")):
        keys = [_fold(f / (one.image.stem + end)) for f in one.mask_folders for end in ("_mask", "")]
        candidates = next((free[key] for key in keys if free.get(key)), [])
        # Of x.png and x.tif the one with the image's own suffix, as in the reference implementation.
        candidates.sort(key=lambda mask: mask.suffix == one.image.suffix)
        taken = root / candidates.pop() if candidates else None
        if one.defect is not None and taken is None and any(key in free for key in keys):
            contested.append(one.image)
        # A nominal image's mask says nothing that its folder does not: it only counts as taken.
        samples[one.image] = Sample(root / one.image, one.defect, taken if one.defect is not None else None)
    notes = []
    if orphans := sorted((mask for masks in free.values() for mask in masks), key=natural_key):
        notes.append(f"{counted(len(orphans), 'mask')} without an image: {list_some(orphans)}")
    if contested:
        notes.append(
            f"{counted(len(contested), 'image')} left without a mask, which another image of that name has: "
            f"{list_some(contested)}"
        )
    return samples, notes


def _mask_folder(images: Sequence[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """The masks in ground_truth/ or masks/, and the paths below it."""
    return {
        image: _without_first(image) for image in images if len(image.parts) > 1 and _is_one_of(image.parts[0], MASKS)
    }


def _mask_maps(images: Sequence[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """The masks in train_maps/ and test_maps/, and the paths in train/ and test/ that they mirror."""
    return {
        image: PurePosixPath(image.parts[0].removesuffix("_maps"), *image.parts[1:])
        for image in images
        if len(image.parts) > 1 and image.parts[0] in ("train_maps", "test_maps")
    }


def _defect_below(image: PurePosixPath, *, depth: int) -> str:
    """The defect's name: the folder below anomalous/ where there is one, otherwise that folder's own name."""
    return image.parts[depth + 1] if len(image.parts) > depth + 2 else image.parts[depth]


def _without_first(path: PurePosixPath) -> PurePosixPath:
    return PurePosixPath(*path.parts[1:])


def _in_class_folders(images: Sequence[PurePosixPath]) -> list[tuple[PurePosixPath, Split]]:
    """The images in the folders of train/ and test/, not those directly in train/ or test/."""
    return [(image, split) for image in images if (split := _split_of(image)) and len(image.parts) > 2]


def _split_of(image: PurePosixPath) -> Split | None:
    splits: dict[str, Split] = {"train": "train", "test": "test"}
    return splits.get(image.parts[0].casefold()) if image.parts else None


def _is_reference(image: PurePosixPath) -> bool:
    return len(image.parts) > 3 and _is_one_of(image.parts[2], NOMINAL)


def _is_one_of(name: str, words: Sequence[str]) -> bool:
    return name.casefold() in words


def _fold(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
