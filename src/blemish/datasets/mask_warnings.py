"""Warnings about the masks of a folder, gathered while they are read: empty, inverted or lossy masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.imaging.masks import MaskFacts, MaskSource, mask_files, mask_name
from blemish.io.text import counted, list_some


@dataclass(frozen=True)
class MaskWarning:
    """One finding: a "warning" spoils figures, a "note" informs; `paths` are the files that it is about."""

    severity: Literal["warning", "note"]
    message: str
    paths: tuple[Path, ...]


class MaskCensus:
    """Masks of defective images as they are read, one at a time.

    Args:
        root: the folder, to which names in sentences are relative.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._masks = 0
        self._empty: list[MaskSource] = []
        self._lost: list[MaskSource] = []
        self._large: list[MaskSource] = []
        self._even: list[MaskSource] = []
        self._boxes: list[MaskSource] = []

    def add(self, source: MaskSource, facts: MaskFacts) -> None:
        """Takes note of one mask."""
        self._masks += 1
        for among, happened in (
            (self._empty, facts.share == 0),
            (self._lost, facts.lost),
            (self._large, facts.share > 0.5),
            (self._even, facts.even),
            (self._boxes, facts.boxes > 0),
        ):
            if happened:
                among.append(source)

    def findings(self) -> Iterator[MaskWarning]:
        """All findings, warnings first."""
        number = len(self._empty)
        yield from self._about(
            "warning", self._empty, f"{counted(number, 'empty mask')} of defective images, paint or delete"
        )
        yield from self._about(
            "warning",
            self._lost,
            f"{_do(self._lost, 'loses values', 'lose values')}: blurred or JPEG, of which only what is above half of "
            "full scale counts; save masks as PNG, with 0 for the background",
        )
        if 2 * len(self._large) > self._masks:
            held = f"{len(self._large):,} of {counted(self._masks, 'mask')}"
            yield from self._about(
                "warning",
                self._large,
                f"{held} mark more than half of the image, as inverted masks do; what is defective must be white, the "
                "rest black",
            )
        yield from self._about(
            "note",
            self._even,
            f"{_do(self._even, 'has', 'have')} one value everywhere, so that all of the image counts as defective",
        )
        yield from self._about(
            "note",
            self._boxes,
            f"{_do(self._boxes, 'is a bounding box', 'are bounding boxes')}, filled, so that sound pixels in the "
            "corners count as defective",
        )

    def warnings(self) -> tuple[str, ...]:
        """The sentences of all findings that spoil figures."""
        return tuple(found.message for found in self.findings() if found.severity == "warning")

    def _about(
        self, severity: Literal["warning", "note"], masks: list[MaskSource], message: str
    ) -> Iterator[MaskWarning]:
        if masks:
            files = tuple(dict.fromkeys(mask_files(mask)[0] for mask in masks))
            yield MaskWarning(severity, f"{message}: {list_some(self._name(mask) for mask in masks)}", files)

    def _name(self, mask: MaskSource) -> str:
        root, name = f"{self._root.as_posix().rstrip('/')}/", mask_name(mask)
        return name.removeprefix(root)


def _do(masks: list[MaskSource], one: str, several: str) -> str:
    return f"{counted(len(masks), 'mask')} {one if len(masks) == 1 else several}"
