"""Which image a mask belongs to, by folder and name, for masks in folders of their own."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from blemish.datasets.names import (
    MASK_AFTER,
    NUMBERED,
    SAME,
    canonical,
    fold,
    is_bad,
    is_good,
    natural_key,
    split_word,
    stems_of_image,
    stems_of_mask,
)

Split = Literal["train", "test"]
Masks = tuple[PurePosixPath, ...]

_NUMBERED = re.compile(r"(.+?)[ _-]\d+")  # in a folder of masks no word has to say that 000_1 is one of 000

# How a mask's folder says whose it is, the surer way first.
_MIRRORED, _WITHOUT_FIRST, _SAME_WORDS, _SOME_WORDS, _NO_FOLDER = range(5)


@dataclass(frozen=True)
class Labelled:
    """An image with the label that its path gives it.

    Attributes:
        image: its path.
        split: the split it is of.
        defect: the type of defect; None for a good image, and where a mask has to say.
        by_mask: whether its mask says if it is defective.
    """

    image: PurePosixPath
    split: Split
    defect: str | None = None
    by_mask: bool = False


@dataclass(frozen=True)
class Pairs:
    """Which masks belong to which images.

    Attributes:
        masks: the masks of each image that has some: more than one where their union counts.
        orphans: masks of no image.
        contested: defective images whose only mask went to another image of the same name.
    """

    masks: Mapping[PurePosixPath, Masks]
    orphans: tuple[PurePosixPath, ...] = ()
    contested: tuple[PurePosixPath, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """A mask that may be an image's: `place` and `name` rank how surely, 0 before all others."""

    place: int
    name: int
    mask: PurePosixPath

    @property
    def rank(self) -> tuple[int, int]:
        return self.place, self.name

    @property
    def sure(self) -> bool:
        """Whether folder and name are as the layouts have them, word for word."""
        return self.place in (_MIRRORED, _WITHOUT_FIRST, _NO_FOLDER) and self.name in (MASK_AFTER, SAME)


def pair_masks(labelled: Sequence[Labelled], masks: Mapping[PurePosixPath, tuple[str, ...]]) -> Pairs:
    """Gives every mask to at most one image.

    Args:
        labelled: the images.
        masks: each mask with the folders, below the data set, whose images it mirrors.
    """
    return _Pairing(labelled, masks).run()


class _Pairing:
    def __init__(self, labelled: Sequence[Labelled], masks: Mapping[PurePosixPath, tuple[str, ...]]) -> None:
        # Anomalous test images choose first: where names collide the mask is theirs in MVTec's own layout.
        self._labelled = sorted(labelled, key=lambda sample: (sample.defect is None, sample.split == "train"))
        self._images: dict[str, list[Labelled]] = defaultdict(list)
        for sample in labelled:
            for stem in stems_of_image(sample.image.stem):
                self._images[stem].append(sample)
        self._masks: dict[str, list[tuple[int, tuple[str, ...], PurePosixPath]]] = defaultdict(list)
        for mask, folder in masks.items():
            for name, stem in stems_of_mask(mask.stem):
                self._masks[stem].append((name, folder, mask))
            if several := _NUMBERED.fullmatch(fold(mask.stem)):
                self._masks[several[1]].append((NUMBERED, folder, mask))
            if folder:  # MVTec LOCO keeps the masks of an image in a folder with the image's name
                self._masks[fold(folder[-1])].append((NUMBERED, folder[:-1], mask))
        self._free = set(masks)
        self._taken: dict[PurePosixPath, Masks] = {}

    def run(self) -> Pairs:
        candidates = {
            sample.image: sorted(self._candidates(sample), key=lambda candidate: candidate.rank)
            for sample in self._labelled
        }
        for sure in (True, False):  # what is sure is given away before anything else
            for sample in self._labelled:
                if sample.image not in self._taken:
                    self._take(
                        sample, [candidate for candidate in candidates[sample.image] if candidate.sure or not sure]
                    )
        contested = [
            sample.image
            for sample in self._labelled
            if sample.defect is not None
            and sample.image not in self._taken
            and any(candidate.sure for candidate in candidates[sample.image])
        ]
        orphans = sorted(self._free, key=natural_key)
        return Pairs(self._taken, tuple(orphans), tuple(contested))

    def _take(self, sample: Labelled, candidates: Sequence[_Candidate]) -> None:
        free = [candidate for candidate in candidates if candidate.mask in self._free]
        if not free:
            return
        # Of x.png and x.tif the one with the image's own suffix, as in the paper's implementation.
        best = [candidate.mask for candidate in free if candidate.rank == free[0].rank]
        best.sort(key=lambda mask: mask.suffix == sample.image.suffix)
        chosen = [] if free[0].name == NUMBERED else best[-1:]
        if free[0].name != SAME:
            chosen += [
                candidate.mask for candidate in free if (candidate.place, candidate.name) == (free[0].place, NUMBERED)
            ]
        self._taken[sample.image] = tuple(dict.fromkeys(chosen))
        self._free -= set(chosen)

    def _candidates(self, sample: Labelled) -> Iterator[_Candidate]:
        own, core = stems_of_image(sample.image.stem)
        for stem in (own, core):
            for name, folder, mask in self._masks.get(stem, ()):
                place = self._place(sample, folder, stem)
                if place is not None:
                    yield _Candidate(place, name, mask)

    def _place(self, sample: Labelled, folder: tuple[str, ...], stem: str) -> int | None:
        """How surely a mask that mirrors `folder` is of this image; None where it is not."""
        place = _agreement(sample.image.parts[:-1], folder)
        if place is None or place < _SOME_WORDS:
            return place
        # Not by its whole folder: then it must not fit another image of the same name as well.
        rivals = [rival for rival in self._images[stem] if _fits(rival.image.parts[:-1], folder)]
        defective = sum(rival.defect is not None for rival in rivals)
        if defective > 1 or (sample.defect is None and len(rivals) - defective > 1):
            return None
        return place


def _agreement(own: tuple[str, ...], mirrored: tuple[str, ...]) -> int | None:
    mine, its = fold("/".join(own)), fold("/".join(mirrored))
    words, wanted = canonical(own), canonical(mirrored)
    if its == mine:
        return _MIRRORED
    if not its:
        return _NO_FOLDER if words else _SAME_WORDS
    if its == fold("/".join(own[1:])) and (split_word(own[0]) or is_bad(own[0]) or is_good(own[0])):
        return _WITHOUT_FIRST
    if wanted in (words, words[1:]):
        return _SAME_WORDS
    return _SOME_WORDS if _is_part(wanted, words) else None


def _fits(own: tuple[str, ...], mirrored: tuple[str, ...]) -> bool:
    return _is_part(canonical(mirrored), canonical(own))


def _is_part(part: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """Whether the words of a part stand among others, in the same order."""
    rest = iter(words)
    return all(word in rest for word in part)
