"""Folders named by hand: --good, --bad and --masks, for whatever no layout fits."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.datasets.families import Reading, defect_below
from blemish.datasets.hash_split import HASHED, split_by_hash
from blemish.datasets.listing import Listing, list_files
from blemish.datasets.names import fold, is_bad, is_filler, is_good, mask_place, natural_key
from blemish.errors import BlemishError
from blemish.imaging.formats import is_image_name
from blemish.imaging.results import without_results
from blemish.io.text import printable


@dataclass(frozen=True)
class Folders:
    """The folders that a user named.

    Attributes:
        good: folders of good images.
        bad: folders of defective images; each is a type of defect, or has a folder for each.
        masks: folders of masks.
    """

    good: tuple[Path, ...] = ()
    bad: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.good or self.bad or self.masks)

    def as_words(self) -> list[str]:
        """The options that name these folders, for a command line."""
        named = (("--good", self.good), ("--bad", self.bad), ("--masks", self.masks))
        return [word for option, folders in named for folder in folders for word in (option, str(folder))]


@dataclass(frozen=True)
class NamedFolders:
    """The files in folders named by hand, under the names of these folders.

    Attributes:
        root: the folder above all of them, or the one that was given.
        folders: where they are, from the working directory.
        listing: all images, masks among them, and other files.
        masks: the masks, each with the folders that it mirrors.
        leftover: images below the given folder that no named folder holds.
    """

    root: Path
    folders: Folders
    listing: Listing
    masks: Mapping[PurePosixPath, tuple[str, ...]]
    leftover: tuple[PurePosixPath, ...]
    _good: frozenset[PurePosixPath]
    _bad: Mapping[PurePosixPath, str]

    def reading(self, images: Sequence[PurePosixPath]) -> Reading:
        """Labels and splits of those of the images that are no masks."""
        nominal = [image for image in images if image in self._good]
        anomalous = [(image, self._bad[image]) for image in images if image in self._bad]
        notes = (HASHED,) if nominal and anomalous else ()
        return Reading("named", split_by_hash(nominal, anomalous), notes=notes)


def read_folders(root: Path | None, folders: Folders) -> NamedFolders:
    """Lists the named folders, relative to `root` where that is given; a folder inside another is taken out of it.

    Raises:
        BlemishError: a folder is not there, holds no image, or has two meanings.
    """
    if not folders.good and not folders.bad:
        raise BlemishError("--masks needs the images: name their folders with --good DIR and --bad DIR")
    given = {
        role: [_find(root, folder) for folder in named]
        for role, named in (("good", folders.good), ("bad", folders.bad), ("masks", folders.masks))
    }
    roles: dict[Path, str] = {}
    for role, found in given.items():
        for folder in found:
            if roles.setdefault(folder.resolve(), role) != role:
                raise BlemishError(
                    f"{printable(folder)}: named by --{roles[folder.resolve()]} and by --{role}; "
                    "a folder has one meaning"
                )
    places = [(folder, role) for role, found in given.items() for folder in dict.fromkeys(found)]
    return _list(root, places)


def _find(root: Path | None, folder: Path) -> Path:
    """A named folder: below `root` where there is one, or else as it stands."""
    inside = folder if root is None else root / folder
    found = inside if inside.exists() or not folder.exists() else folder
    if not found.is_dir():
        fault = "a file, not a folder" if found.exists() else "no such folder"
        raise BlemishError(f"{printable(found)}: {fault}; name a folder of images")
    return found


def _list(root: Path | None, places: Sequence[tuple[Path, str]]) -> NamedFolders:
    resolved = [folder.resolve() for folder, _ in places]
    names = _names(resolved)
    located: dict[PurePosixPath, Path] = {}
    images, others, results = [], [], []
    leftover: tuple[PurePosixPath, ...] = ()
    masks: dict[PurePosixPath, tuple[str, ...]] = {}
    good, bad = set(), {}
    types = {fold(name.name) for name, (_, role) in zip(names, places, strict=True) if role == "bad"}
    for (folder, role), own, name in zip(places, resolved, names, strict=True):
        inner = [folder for folder in resolved if folder != own and own in folder.parents]
        files = [file for file in list_files(folder) if not any(part in (own / file).parents for part in inner)]
        pictures, result = without_results(folder, filter(is_image_name, files))
        results += [result] if result else []
        if not pictures and role != "masks":  # masks may be annotations
            raise BlemishError(f"{printable(folder)}: no image in it; name a folder of images with --{role}")
        for file in files:
            located[name / file] = folder / file
        others += [name / file for file in files if not is_image_name(file)]
        for file in pictures:
            path = name / file
            images.append(path)
            if role == "good":
                good.add(path)
            elif role == "bad":
                bad[path] = _defect(own, file)
            else:
                masks[path] = (*name.parts[:-1], *_mirrored(own, types), *file.parts[:-1])
    top = root if root is not None else _common([folder for folder, _ in places])
    if root is not None:
        mine = {path.resolve() for path in located.values()}
        below, _ = without_results(root, filter(is_image_name, list_files(root)))
        leftover = tuple(sorted((file for file in below if (root / file).resolve() not in mine), key=natural_key))
    listing = Listing(sorted(images, key=natural_key), others, located.__getitem__, tuple(results))
    found = Folders(*(tuple(folder for folder, its in places if its == role) for role in ("good", "bad", "masks")))
    return NamedFolders(top, found, listing, masks, leftover, frozenset(good), bad)


def _defect(folder: Path, file: PurePosixPath) -> str:
    names = [folder.name, *file.parts[:-1]]
    if is_filler(folder.name):  # crack/images is about cracks
        names.insert(0, folder.parent.name)
    return defect_below(names)


def _mirrored(folder: Path, types: set[str]) -> tuple[str, ...]:
    """Of gt/crack and crack_masks, crack; of masks, nothing."""
    if fold(folder.name) in types or is_bad(folder.name) or is_good(folder.name):
        return (folder.name,)
    return mask_place(folder.name) or ()


def _names(folders: Sequence[Path]) -> list[PurePosixPath]:
    """The shortest ends of the folders' paths that tell them apart, but never just images."""
    found = []
    for folder in folders:
        depth = 2 if is_filler(folder.name) else 1
        while depth < len(folder.parts) and any(
            rival != folder and rival.parts[-depth:] == folder.parts[-depth:] for rival in folders
        ):
            depth += 1
        found.append(PurePosixPath(*folder.parts[-depth:]))
    return found


def _common(folders: Sequence[Path]) -> Path:
    """The folder above all, as relative as they are."""
    if any(folder.is_absolute() or ".." in folder.parts for folder in folders):
        folders = [folder.resolve() for folder in folders]
    return Path(os.path.commonpath(folders) or ".") if len(folders) > 1 else folders[0]
