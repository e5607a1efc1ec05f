"""Frames: one of several images in a file, such as a page of a TIFF, and what it is called."""

import re
from dataclasses import dataclass

from blemish.imaging.limits import MAX_FRAMES

_NUMBERED = re.compile(r"(.*)#([1-9][0-9]*)", re.DOTALL)


@dataclass(frozen=True)
class Frame:
    """One frame of an image file, which reads as an image does.

    Attributes:
        path: the file's path or URL.
        number: which of its frames, counted from 1.
    """

    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}#{self.number}"


def frame_number(name: str) -> int | None:
    """The number at the end of a name made by `frame_name`; None where it is a path."""
    found = _NUMBERED.fullmatch(name)
    return None if found is None else int(found[2])


def frame_name(frame: Frame, frames: int) -> str:
    """The name of one of so many frames of a file: path#1, path#2, …; the path alone where it is the only one.

    A path that looks like such a name gets a number anyway, so that no two frames have one name.
    """
    return frame.path if frames == 1 and _NUMBERED.fullmatch(frame.path) is None else str(frame)


def frames_remark(name: str, frames: int) -> str:
    """That an image is not all that its file holds, in one sentence."""
    count = f"{frames:,} frames" if frames < MAX_FRAMES else f"{MAX_FRAMES:,} frames or more"
    return f"{name}: only the first of {count} is read; blemish predict --frames all scores each"
