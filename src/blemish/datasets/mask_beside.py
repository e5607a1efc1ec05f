"""Masks that lie beside their images, in one folder: Part0_label.bmp beside Part0.jpg, x.png beside x.jpg.

A name alone does not say it: part_label.png may be a photograph of a label, and x.png a copy of x.jpg. So candidates
are opened: a mask has its image's size and few distinct values. No other file is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from blemish.datasets.names import SAME, names_a_mask, stems_of_image, stems_of_mask
from blemish.imaging.errors import ImageError
from blemish.imaging.headers import Header, read_header
from blemish.imaging.images import read_upright
from blemish.imaging.resizing import same_shape
from blemish.process.threads import readers

MAX_MASK_VALUES = 32  # distinct values: more than masks of classes have, fewer than photographs
_SAMPLE = 4096  # pixels that show that a 16-bit picture has more
_TOLERANCE = 0.02  # share of the pixels of a JPEG mask that are neither nearly black nor nearly white
_DARK, _BRIGHT = 24, 231
_SAME_LEVEL = 16  # grey levels by which a copy of a picture may differ from it
_PHOTOGRAPHS = "JPEG"  # the one format in which nobody keeps a mask that no word of its name calls one

Locate = Callable[[PurePosixPath], Path]


@dataclass(frozen=True)
class Beside:
    """Masks found beside their images.

    Attributes:
        masks: the masks of each image that has some.
        doubts: files that are named like the mask of an image beside them, and whose shape is another.
    """

    masks: Mapping[PurePosixPath, tuple[PurePosixPath, ...]] = field(default_factory=dict)
    doubts: tuple[PurePosixPath, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """A file that may be the mask of another; `named` where its name has a word for it."""

    mask: PurePosixPath
    image: PurePosixPath
    named: bool


@dataclass(frozen=True)
class _Look:
    """What a file's pixels say.

    Attributes:
        values: the number of distinct values; None where it is above `MAX_MASK_VALUES`.
        two_tone: whether nearly all is nearly black or nearly white, as in a mask saved as JPEG.
    """

    values: int | None
    two_tone: bool

    @property
    def few(self) -> bool:
        return self.values is not None

    @property
    def mask_like(self) -> bool:
        return self.few or self.two_tone


def find_masks_beside(images: Sequence[PurePosixPath], locate: Locate) -> Beside:
    """The masks among these images, each beside the image that it is of; a file that cannot be read is none."""
    candidates = list(_candidates(images))
    if not candidates:
        return Beside()
    judge = _Judge(locate)
    with ThreadPoolExecutor(readers()) as pool:
        verdicts = list(pool.map(judge.verdict, candidates))
    masks: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    taken: set[PurePosixPath] = set()
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        # Of a chain x, x_mask, x_mask_mask, the second is x's.
        if verdict == "mask" and not taken & {candidate.mask, candidate.image} and candidate.mask not in masks:
            masks[candidate.image].append(candidate.mask)
            taken.add(candidate.mask)
    judged = zip(candidates, verdicts, strict=True)
    doubts = {candidate.mask for candidate, verdict in judged if verdict == "shape"} - taken
    return Beside({image: tuple(found) for image, found in masks.items()}, tuple(sorted(doubts)))


def holds_masks(files: Sequence[Path]) -> bool:
    """Whether a folder with the name of a mask folder holds masks: not where three of its files are photographs.

    A defect of labels may well have a folder called label. Files that cannot be read say nothing.
    """
    chosen = [files[0], files[len(files) // 2], files[-1]]
    known = [look for file in dict.fromkeys(chosen) if (look := _look(file)) is not None]
    return not known or any(look.mask_like for look in known)


def _candidates(images: Sequence[PurePosixPath]) -> Iterator[_Candidate]:
    folders: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        folders[image.parent].append(image)
    for files in folders.values():
        stems: dict[str, list[PurePosixPath]] = defaultdict(list)
        cores: dict[str, list[PurePosixPath]] = defaultdict(list)
        for file in files:
            stem, core = stems_of_image(file.stem)
            stems[stem].append(file)
            cores[core].append(file)
        for file in files:
            if names_a_mask(file.stem):
                for _, stem in sorted(way for way in stems_of_mask(file.stem) if way[0] != SAME):
                    same = stems.get(stem) or cores.get(stem) or []
                    yield from (_Candidate(file, image, named=True) for image in same if image != file)
        for same in stems.values():
            if len(same) > 1:
                yield from (_Candidate(mask, image, named=False) for image, mask in permutations(same, 2))


class _Judge:
    """Looks into candidates, into each file once."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._headers: dict[PurePosixPath, Header | None] = {}
        self._looks: dict[PurePosixPath, _Look | None] = {}

    def verdict(self, one: _Candidate) -> Literal["mask", "image", "shape"]:
        """Whether a candidate is a mask, an image, or would be a mask if its shape were its image's."""
        its, own = self._header(one.mask), self._header(one.image)
        if one.named:
            if its is None or not self._mask_like(one.mask):
                return "image"
            return "mask" if own is None or _same_size(its, own) or same_shape(its.size, own.size) else "shape"
        if its is None or own is None or its.format == _PHOTOGRAPHS or not _same_size(its, own):
            return "image"
        look = self._look(one.mask)
        if look is None or not look.few or not self._has_more_values(one.image, own, than=look):
            return "image"
        return "image" if self._is_copy(one, look) else "mask"

    def _mask_like(self, file: PurePosixPath) -> bool:
        look = self._look(file)
        return look is not None and look.mask_like

    def _has_more_values(self, image: PurePosixPath, header: Header, *, than: _Look) -> bool:
        look = None if header.format == _PHOTOGRAPHS else self._look(image)
        return look is None or look.values is None or (than.values is not None and look.values > than.values)

    def _is_copy(self, one: _Candidate, look: _Look) -> bool:
        """Whether a picture of few values shows what the image shows, as a line drawing saved twice does."""
        if look.values == 1:
            return False
        try:
            its, own = (np.asarray(_pixels(self._locate(file)), dtype=float) for file in (one.mask, one.image))
        except ImageError:  # whoever reads it will say so
            return False
        if its.shape != own.shape:
            return False
        return all(abs(own[its == value].mean() - value) <= _SAME_LEVEL for value in np.unique(its))

    def _header(self, file: PurePosixPath) -> Header | None:
        if file not in self._headers:
            try:
                self._headers[file] = read_header(self._locate(file))
            except ImageError:
                self._headers[file] = None
        return self._headers[file]

    def _look(self, file: PurePosixPath) -> _Look | None:
        if file not in self._looks:
            self._looks[file] = _look(self._locate(file))
        return self._looks[file]


def _same_size(one: Header, two: Header) -> bool:
    # A mask may have been painted on the picture as it is shown or as it is stored.
    return one.size in (two.size, two.stored_size)


def _look(file: Path) -> _Look | None:
    """None where the file cannot be read."""
    try:
        image = read_upright(file)
        if image.mode.startswith("I") or image.mode == "F":
            pixels = np.asarray(image).ravel()
            many = len(np.unique(pixels[:: max(1, pixels.size // _SAMPLE)])) > MAX_MASK_VALUES
            values = None if many else len(np.unique(pixels))
            return _Look(values if values is not None and values <= MAX_MASK_VALUES else None, two_tone=False)
        colours = image.getcolors(MAX_MASK_VALUES)
        if colours is not None:
            return _Look(len(colours), two_tone=False)
        levels = np.asarray(image.convert("L").histogram())
        between = levels[_DARK + 1 : _BRIGHT].sum() / levels.sum()
        return _Look(None, two_tone=bool(between <= _TOLERANCE))
    except (ImageError, ValueError):
        return None


def _pixels(file: Path) -> Image.Image:
    """Grey levels, 16-bit ones as they are."""
    image = read_upright(file)
    return image if image.mode.startswith("I") else image.convert("L")
