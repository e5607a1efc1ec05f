"""The output files of an image, overlay and anomaly map: their paths and their encoding."""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.imaging.frames import frame_number
from blemish.imaging.results import HEATMAPS, MAPS, SIGNATURE
from blemish.io.files import MAX_NAME_BYTES
from blemish.io.storage import is_url

LONGEST_FILE_NAME, LONGEST_PATH = 255, 3000  # bytes; below OUT, which has a length of its own

MapFormat = Literal["tiff", "npy"]


@dataclass(frozen=True)
class PictureNames:
    """Unique relative paths for the output files of many images: an image's path below the common parent.

    The suffix is appended unless the name has it: line1/a.png stays, line1/a.jpg becomes line1/a.jpg.png. A name too
    long for a disk is cut and ends in "~", 16 digits of the SHA-256 of the whole path, and the suffix.

    Attributes:
        parent: a folder that holds all images, at some depth.
        listed: whether a path, as `identity` returns it, belongs to an image of the run.
    """

    parent: str
    listed: Callable[[str], bool]

    def name(self, path: str, suffix: str) -> PurePosixPath:
        """The output file of the image with this `identity`; it ends in `suffix`."""
        name = Path(path).relative_to(self.parent).as_posix()
        # a.jpg.png keeps its name unless a.jpg is listed, whose output has that name.
        keeps = name.endswith(suffix) and not self.listed(path.removesuffix(suffix))
        return _that_fits(PurePosixPath(name if keeps else name + suffix), suffix)


def _that_fits(path: PurePosixPath, suffix: str) -> PurePosixPath:
    whole, name = os.fsencode(path), os.fsencode(path.name)
    if len(name) <= LONGEST_FILE_NAME and len(whole) <= LONGEST_PATH:
        return path
    digest = f"~{hashlib.sha256(whole).hexdigest()[:16]}{suffix}"
    if len(whole) > LONGEST_PATH:
        return PurePosixPath(digest)
    # Cut between characters, so that none is left in half.
    cut = name[:MAX_NAME_BYTES].decode("utf-8", "ignore").encode() if _is_utf8(name) else name[:MAX_NAME_BYTES]
    return path.with_name(os.fsdecode(cut) + digest)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class OutputPaths:
    """The output files of one image; None where that file is not written."""

    overlay: Path | None
    anomaly_map: Path | None

    def remove(self) -> None:
        """Removes the files that exist."""
        for path in (self.overlay, self.anomaly_map):
            if path is not None:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class OutputSpec:
    """What a run reads of each image and writes for it.

    Attributes:
        out: the folder of the results.
        overlays: whether an overlay of every image is drawn.
        maps: the format of the anomaly maps; None where none are written.
        frames: whether every frame of a file is an image of its own; otherwise only the first frame is read.
    """

    out: Path
    overlays: bool
    maps: MapFormat | None
    frames: bool = False

    def frame(self, name: str) -> int | None:
        """The number of the frame that a name ends with; None where it is the name of a file."""
        return frame_number(name) if self.frames else None

    @property
    def folders(self) -> list[Path]:
        """The folders of the output files."""
        return [self.out / HEATMAPS] * self.overlays + [self.out / MAPS] * bool(self.maps)

    def paths(self, path: str, names: PictureNames) -> OutputPaths:
        """The output files of the image with this `identity`."""
        return OutputPaths(
            overlay=self.out / HEATMAPS / names.name(path, ".png") if self.overlays else None,
            anomaly_map=self.out / MAPS / names.name(path, f".{self.maps}") if self.maps else None,
        )


def identity(image: str) -> str:
    """The absolute path of an image, however it was named; s3://bucket/a.jpg counts as /s3/bucket/a.jpg."""
    return os.path.normpath("/" + image.replace("://", "/", 1)) if is_url(image) else os.path.abspath(image)


def encode_map(anomaly_map: npt.NDArray[np.float32], path: Path) -> bytes:
    """An anomaly map (H, W) as a file of the kind that the suffix of `path` says."""
    buffer = io.BytesIO()  # memory first: Pillow reports a full disk as an encoder error without saying so
    if path.suffix == ".npy":
        np.save(buffer, anomaly_map, allow_pickle=False)
    else:
        Image.fromarray(anomaly_map).save(buffer, format="TIFF", software=SIGNATURE)
    return buffer.getvalue()
