"""The tree of folders with images: which names carry a meaning, which are splits, which hold masks."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blemish.datasets.mask_pairs import Split
from blemish.datasets.names import is_filler, is_good, is_other_view, mask_place, split_and_side, split_word

Paths = Sequence[PurePosixPath]
_PLAIN_MASKS = ("ground_truth", "masks")


@dataclass(frozen=True)
class Tree:
    """The images of a folder, masks apart.

    Attributes:
        root: the folder.
        images: all that are no masks, in natural order.
        masked: those of them that have a mask, wherever it lies.
        parts: the folders of each image that say something; without images of other sensors, beside those in rgb/.
    """

    root: Path
    images: Paths
    masked: frozenset[PurePosixPath]
    parts: Mapping[PurePosixPath, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        plain_good = any(is_good(image.parts[0]) for image in self.images if len(image.parts) > 1)
        views = _other_views(self.images)
        parts = {image: _telling(image, expand=not plain_good) for image in self.images if image not in views}
        object.__setattr__(self, "parts", parts)

    def in_splits(self) -> list[tuple[PurePosixPath, Split, tuple[str, ...]]]:
        """The images below train/, test/ and validation/, with their split and the folders below that.

        Validation images are for training, as in MVTec AD 2 and MVTec LOCO, where there are good ones only or a test
        split is there as well; otherwise they are the test split.
        """
        words = {image: split_word(parts[0]) for image, parts in self.parts.items() if parts}
        validates = [image for image, word in words.items() if word == "validation"]
        tests = any(word == "test" for word in words.values())
        defective = any(
            not is_good(self.parts[image][1]) if len(self.parts[image]) > 1 else image in self.masked
            for image in validates
        )
        stands_for: Split = "test" if defective and not tests else "train"
        splits: dict[str, Split] = {"train": "train", "test": "test", "validation": stands_for}
        return [(image, splits[word], self.parts[image][1:]) for image, word in words.items() if word]


MaskFolder = tuple[str, ...]  # the folders of the images whose masks are in it


def mask_folders(
    images: Paths, *, classes: bool, holds_masks: Callable[[Paths], bool]
) -> dict[PurePosixPath, MaskFolder]:
    """The masks in folders that are called like mask folders, with the folders that they mirror.

    Args:
        images: all images.
        classes: whether folders in train/ and test/ are classes, whatever their names.
        holds_masks: asked of some images whether these are masks, for names that a type of defect may have as well.
    """
    named: dict[PurePosixPath, list[PurePosixPath]] = {}
    inside: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        folders = [
            PurePosixPath(*image.parts[: depth + 1])
            for depth, folder in enumerate(image.parts[:-1])
            if mask_place(folder) is not None and not (classes and depth == 1 and split_word(image.parts[0]))
        ]
        if folders:
            named[image] = folders
            inside[folders[-1]].append(image)
    plain = {folder for folder in inside if len(folder.parts) == 1 and folder.name.casefold() in _PLAIN_MASKS}
    refuted = {folder for folder, held in inside.items() if folder not in plain and not holds_masks(held)}
    found = {}
    for image, folders in named.items():
        if folder := next((folder for folder in folders if folder not in refuted), None):
            inner = image.parts[len(folder.parts) : -1]
            found[image] = (*folder.parts[:-1], *(mask_place(folder.name) or ()), *inner)
    return found


def _telling(image: PurePosixPath, *, expand: bool) -> tuple[str, ...]:
    """The folders of an image without those called images and the like; train_good/ counts as train/good/."""
    parts = [part for part in image.parts[:-1] if not is_filler(part)]
    if expand and parts and (both := split_and_side(parts[0])):
        parts[:1] = both
    return tuple(parts)


def _other_views(images: Paths) -> frozenset[PurePosixPath]:
    """Images of depth and the like, in folders beside one called rgb, as in MVTec 3D-AD."""
    colour = {folder.parent for image in images for folder in image.parents if folder.name.casefold() == "rgb"}
    return frozenset(
        image
        for image in (images if colour else ())
        if any(folder.parent in colour and is_other_view(folder.name) for folder in image.parents[:-1])
    )
