"""Finding annotation files: which image each labelme, COCO or YOLO annotation in a folder is of."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blemish.imaging.annotation_formats.coco import read_coco
from blemish.imaging.annotation_formats.common import Annotation
from blemish.imaging.annotation_formats.drawing import kind_of, read_json
from blemish.imaging.annotation_formats.yolo import is_yolo
from blemish.imaging.errors import ImageError
from blemish.io.text import counted, list_some, printable

__all__ = ["Annotation", "Annotations", "find_annotations"]

# Folders of annotations, whose names do not occur in the paths of the images; images/ has its counterpart in labels/.
_FOLDERS = frozenset(
    {"label", "labels", "annotation", "annotations", "labelme", "coco", "yolo", "json", "jsons", "txt", "mask", "masks"}
    | {"ground_truth", "ground-truth", "groundtruth", "gt"}
)
# What the first bytes of annotations in other forms hold: CVAT and Pascal VOC; run lengths; VIA, Label Studio, others.
_SIGNS = {
    ".xml": re.compile(rb"<annotation"),
    ".csv": re.compile(rb"\A[^\n]*(?:encoded_?pixels|\brle\b|mask_rle|rle_mask|region_shape_attributes)"),
    ".json": re.compile(rb'"(?:_via_\w+|regions|shape_attributes|annotations|polygons?|shapes)"\s*:'),
}
_HEAD = 4096
_IMAGES = frozenset({"image", "images", "img", "imgs"})


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

    labelme's and YOLO's files lie beside their images or in a folder of annotations (labels/, annotations/, ...) that
    mirrors the images' folders; labelme's `imagePath` and COCO's `file_name` may name the image from anywhere. Of two
    annotations of an image the first counts, labelme before COCO before YOLO. Nothing raises: a file that is meant as
    the annotation of an image and is damaged says so when its mask is read, any other in a note.

    Args:
        root: the folder.
        other_files: the files below it that are no images, relative to it.
        images: the images, relative to it; masks are none.
    """
    search = _Search(root, images)
    for file in other_files:
        if file.suffix.lower() == ".json":
            search.take_json(file)
        elif file.suffix.lower() in _SIGNS:
            search.take_unread(file)
    for file in other_files:
        if file.suffix.lower() == ".txt":
            search.take_text(file)
    return search.found()


class _Search:
    """The annotations found so far."""

    def __init__(self, root: Path, images: Sequence[PurePosixPath]) -> None:
        self._root = root
        self._by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        self._by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        for image in images:
            self._by_name[_fold(image.name)].append(image)
            self._by_stem[_fold(image.stem)].append(image)
        self._labelme: dict[PurePosixPath, Annotation] = {}
        self._coco: dict[PurePosixPath, Annotation] = {}
        self._yolo: dict[PurePosixPath, Annotation] = {}
        self._files: set[PurePosixPath] = set()
        self._notes: list[str] = []
        self._unread: list[PurePosixPath] = []

    def found(self) -> Annotations:
        """All of them."""
        notes = list(self._notes)
        if self._unread:
            held = counted(len(self._unread), "file")
            notes.append(
                f"{held} with annotations in a form that is not read: {list_some(self._unread)}; save them as masks, "
                "or in the form of labelme, COCO or YOLO"
            )
        return Annotations(self._yolo | self._coco | self._labelme, frozenset(self._files), tuple(notes))

    def take_json(self, file: PurePosixPath) -> None:
        """A file of labelme, of COCO, or of neither."""
        try:
            content = read_json(self._root / file)
        except ImageError as error:
            if image := self._image_of(file):
                self._keep(self._labelme, image, file)  # says what is wrong when it is read
            elif any(_fold(part) in _FOLDERS for part in file.parent.parts) or "coco" in _fold(file.name):
                self._notes.append(str(error))
            return
        kind = kind_of(content)
        if kind == "labelme" and isinstance(content, dict):
            image = self._named(file, str(content.get("imagePath") or "")) or self._image_of(file)
            if image is not None:
                self._keep(self._labelme, image, file)
            else:
                self._files.add(file)
                self._notes.append(f"{printable(file)}: an annotation without an image")
        elif kind == "COCO":
            self._take_coco(file)
        else:
            self.take_unread(file)

    def take_unread(self, file: PurePosixPath) -> None:
        """A file that may hold annotations of a form that is not read."""
        try:
            with (self._root / file).open("rb") as stream:
                head = stream.read(_HEAD).lower()
        except OSError:
            return
        if _SIGNS[file.suffix.lower()].search(head):
            self._unread.append(file)

    def _take_coco(self, file: PurePosixPath) -> None:
        self._files.add(file)
        try:
            names = read_coco(self._root / file).sizes
        except ImageError as error:
            self._notes.append(str(error))
            return
        missing = []
        for name in names:
            image = self._named(file, name)
            if image is None:
                missing.append(name)
            else:
                self._keep(self._coco, image, file, key=name)
        if missing:
            self._notes.append(
                f"{printable(file)}: {len(missing):,} of {len(names):,} images in it are not in the folder or not "
                f"told apart by name, such as {printable(missing[0])}"
            )

    def take_text(self, file: PurePosixPath) -> None:
        """A file of YOLO, or any other text."""
        image = self._image_of(file)
        if image is not None and is_yolo(self._root / file):
            self._keep(self._yolo, image, file)

    def _keep(
        self, among: dict[PurePosixPath, Annotation], image: PurePosixPath, file: PurePosixPath, *, key: str = ""
    ) -> None:
        self._files.add(file)
        among.setdefault(image, Annotation(self._root / file, key))

    def _image_of(self, file: PurePosixPath) -> PurePosixPath | None:
        """The image beside a file, or else the one at the same place outside of the annotations' folders."""
        named = self._by_stem.get(_fold(file.stem), [])
        beside = [image for image in named if image.parent == file.parent]
        if beside:
            return beside[0]
        if not any(_fold(part) in _FOLDERS for part in file.parent.parts):
            return None
        return _nearest(file.parent, named)

    def _named(self, file: PurePosixPath, name: str) -> PurePosixPath | None:
        """The image that an annotation file names: from its own folder, from the root, or by the end of its path."""
        path = PurePosixPath(name.replace("\\", "/"))
        named = self._by_name.get(_fold(path.name), [])
        for folder in (file.parent, PurePosixPath()):
            place = _resolved(folder / path)
            if exact := [image for image in named if _folded(image) == place]:
                return exact[0]
        lengths = [_common_end(path.parent, image.parent) for image in named]
        best = [image for image, length in zip(named, lengths, strict=True) if length == max(lengths)]
        if len(best) > 1:  # instances_train2017.json is about train2017/
            named = [image for image in best if image.parent.name and _fold(image.parent.name) in _fold(file.stem)]
            best = named or best
        return best[0] if len(best) == 1 else _nearest(file.parent, best)


def _nearest(folder: PurePosixPath, images: Sequence[PurePosixPath]) -> PurePosixPath | None:
    """The image whose folders agree most with those of an annotation, from the end; None where two are as near.

    A test image before a training image, since in MVTec's layout the mask of a name is that of the test image.
    """
    place = PurePosixPath(*(part for part in folder.parts if _fold(part) not in _FOLDERS))
    ranks = []
    for image in images:
        own = PurePosixPath(*(part for part in image.parent.parts if _fold(part) not in _IMAGES))
        ranks.append((_common_end(place, own), image.parts[0].casefold() == "test"))
    best = [image for image, rank in zip(images, ranks, strict=True) if rank == max(ranks)]
    return best[0] if len(best) == 1 else None


def _common_end(first: PurePosixPath, second: PurePosixPath) -> int:
    """How many folders both paths end in alike."""
    number = 0
    for left, right in zip(reversed(_folded(first)), reversed(_folded(second)), strict=False):
        if left != right:
            break
        number += 1
    return number


def _resolved(path: PurePosixPath) -> tuple[str, ...]:
    parts: list[str] = []
    for part in _folded(path):
        if part == ".." and parts:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return tuple(parts)


def _folded(path: PurePosixPath) -> tuple[str, ...]:
    return tuple(map(_fold, path.parts))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
