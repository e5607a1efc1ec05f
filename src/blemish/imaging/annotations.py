"""Annotation files, read as masks: labelme, COCO and YOLO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Annotation:
    """What an annotation file marks in one image.

    Attributes:
        file: the annotation file.
        key: the image's name in a file that holds several images (COCO); empty where the file is of one image alone.
    """

    file: Path
    key: str = ""


@dataclass(frozen=True)
class Annotations:
    """The annotations in a folder.

    Attributes:
        of: the annotation of each image that has one, by the image's path below the folder.
        files: the annotation files, by their paths below the folder: these are used and no leftovers.
        notes: sentences on what could not be used.
    """

    of: Mapping[PurePosixPath, Annotation] = field(default_factory=dict)
    files: frozenset[PurePosixPath] = frozenset()
    notes: tuple[str, ...] = ()


def find_annotations(root: Path, other_files: Sequence[PurePosixPath], images: Sequence[PurePosixPath]) -> Annotations:
    """Finds labelme, COCO and YOLO annotations of some images.

    Nothing raises: a file that is meant as an annotation and is damaged says so when its mask is read, or in a note.

    Args:
        root: the folder.
        other_files: the files below it that are no images, relative to it.
        images: the images, relative to it; masks are none.
    """
    return Annotations()
