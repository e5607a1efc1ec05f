"""Scoring any number of image files into a folder: a table, heatmaps, regions; memory holds a few images."""

import csv
import glob
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.datasets.layouts import counted, list_some, natural_key
from blemish.detector import Detector, FailedImage, ScoredImage
from blemish.errors import BlemishError
from blemish.files import atomic_write, make_folder, printable, read_fault
from blemish.images import ImageError, is_image_name

COLUMNS = ("path", "score", "p_value", "verdict")
UNREADABLE = "unreadable"

RawFormat = Literal["tiff", "npy"]
Result = ScoredImage | FailedImage


@dataclass(frozen=True)
class Prediction:
    """What `predict` did: images by verdict, and those that could not be read."""

    anomalous: int
    unsure: int
    ok: int
    failed: int
    seconds: float

    @property
    def images(self) -> int:
        """Images scored; the failed ones are not among them."""
        return self.anomalous + self.unsure + self.ok


def predict(
    detector: Detector,
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    heatmaps: bool = True,
    raw: RawFormat | None = None,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Prediction:
    """Scores image files and writes scores.csv, regions.json, heatmaps/ and maps/ into the folder `out`.

    Pictures keep the images' folders below their common parent. An image that cannot be read gets a row with
    the verdict "unreadable", and the others go on.

    Args:
        detector: the model.
        paths: image files, folders (searched to any depth) and patterns such as `line?/*.png`.
        out: made where there is none.
        heatmaps: draw an overlay of every image.
        raw: also write the anomaly maps, float32 (H, W) at each image's own size, in this format.
        progress: called with the images done and all there are.
        notify: called with one sentence for every image that cannot be read.

    Raises:
        BlemishError: no image is found, none can be read, or a result cannot be written.
    """
    started = time.perf_counter()
    out = Path(out)
    # A second run over the folder that holds `out` must not take the first run's pictures for images.
    images = find_images(paths, besides=(out / "heatmaps", out / "maps"))
    make_folder(out)
    pictures = _Pictures(detector, images, out, heatmaps=heatmaps, raw=raw)
    verdicts: Counter[str] = Counter()
    with _scores_file(out) as add_score, _regions_file(out, detector) as add_regions:
        for image, scored in zip(images, detector.stream(images), strict=True):
            result = pictures.write(image, scored)
            add_score(result)
            add_regions(result)
            verdicts[UNREADABLE if isinstance(result, FailedImage) else result.verdict] += 1
            if notify is not None and isinstance(result, FailedImage):
                notify(result.reason)
            if progress is not None:
                progress(verdicts.total(), len(images))
    if verdicts[UNREADABLE] == len(images):
        raise BlemishError(f"nothing was scored: {counted(len(images), 'file')} given, and no image that can be read")
    return Prediction(
        anomalous=verdicts["anomalous"],
        unsure=verdicts["unsure"],
        ok=verdicts["ok"],
        failed=verdicts[UNREADABLE],
        seconds=time.perf_counter() - started,
    )


def find_images(paths: Iterable[str | os.PathLike[str]], *, besides: Sequence[Path] = ()) -> list[str]:
    """The files that paths, folders and patterns stand for, each once, in natural order within a folder.

    A file given by name is taken whatever its suffix, and without looking whether it is there: reading it
    will tell. Folders in `besides` are not searched. Raises BlemishError where there is none.
    """
    names = [os.fspath(path) for path in paths]
    skipped = {os.path.realpath(folder) for folder in besides}
    unique: dict[str, str] = {}
    for name in names:
        for file in _expand(name, skipped):
            unique.setdefault(os.path.abspath(file), file)
    if not unique:
        raise BlemishError(f"no image in {list_some(names) or 'nothing'}; give image files or folders that hold some")
    return list(unique.values())


def picture_names(images: Sequence[str], suffix: str) -> list[PurePosixPath]:
    """A relative path ending in `suffix` for every image, no two alike: its path below the common parent.

    The suffix is appended unless the name has it: line1/a.png stays, line1/a.jpg becomes line1/a.jpg.png.
    """
    absolute = [os.path.abspath(image) for image in images]
    parent = os.path.commonpath([os.path.dirname(image) for image in absolute])
    relative = [Path(image).relative_to(parent).as_posix() for image in absolute]
    appended = {name + suffix for name in relative}
    # a.jpg.png keeps its name unless a.jpg is there, whose picture is called so.
    return [
        PurePosixPath(name if name.endswith(suffix) and name not in appended else name + suffix) for name in relative
    ]


def _natural(path: str) -> Any:
    return natural_key(PurePosixPath(path))


def _expand(path: str, skipped: set[str]) -> Iterator[str]:
    if os.path.isdir(path):
        yield from _walk(path, skipped)
    elif os.path.lexists(path) or not glob.has_magic(path):
        yield path
    else:  # a pattern that the shell has left as it is, as Windows does
        matches = sorted(glob.glob(path, recursive=True), key=_natural)
        for match in matches:
            if os.path.isdir(match):
                yield from _walk(match, skipped)
            elif is_image_name(match):
                yield match


def _walk(top: str, skipped: set[str]) -> Iterator[str]:
    """Every image below a folder; hidden folders are skipped, links followed, no folder is entered twice."""
    entered: set[str] = set()
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=_refuse_folder):
        entered.add(os.path.realpath(folder))
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=_natural)
        subfolders[:] = [
            name for name in subfolders if os.path.realpath(os.path.join(folder, name)) not in skipped | entered
        ]
        for name in sorted(filter(is_image_name, names), key=_natural):
            yield os.path.join(folder, name)


def _refuse_folder(error: OSError) -> None:
    raise BlemishError(f"{printable(error.filename)}: {read_fault(error)}; give a folder that can be read") from error


@contextmanager
def _scores_file(out: Path) -> Iterator[Callable[[Result], None]]:
    """scores.csv, a row an image as they come."""
    with atomic_write(out / "scores.csv", mode="w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)

        def add(result: Result) -> None:
            name = printable(result.source)
            if isinstance(result, FailedImage):
                table.writerow((name, "", "", UNREADABLE))
            else:
                table.writerow((name, result.score, result.p_value, result.verdict))

        yield add


@contextmanager
def _regions_file(out: Path, detector: Detector) -> Iterator[Callable[[Result], None]]:
    """regions.json, one object with a list of regions for every scored image, written entry by entry."""
    with atomic_write(out / "regions.json", mode="w") as file:
        separator = "{\n"

        def add(result: Result) -> None:
            nonlocal separator
            if isinstance(result, ScoredImage):
                regions = [region.as_json() for region in detector.regions(result)]
                name = json.dumps(printable(result.source), ensure_ascii=False)
                file.write(f"{separator}{name}: {json.dumps(regions)}")
                separator = ",\n"

        yield add
        file.write("{}\n" if separator == "{\n" else "\n}\n")


class _Pictures:
    """Writes the overlay and the raw map of one image after another."""

    def __init__(
        self, detector: Detector, images: Sequence[str], out: Path, *, heatmaps: bool, raw: RawFormat | None
    ) -> None:
        self.detector = detector
        self.raw = raw
        self.overlays = _places(out / "heatmaps", images, ".png") if heatmaps else {}
        self.maps = _places(out / "maps", images, f".{raw}") if raw else {}

    def write(self, image: str, result: Result) -> Result:
        """The result as given, or a FailedImage where the image has gone since it was scored."""
        if isinstance(result, FailedImage):
            return result
        if place := self.overlays.get(image):
            try:
                picture = self.detector.explain(image, result)
            except ImageError as error:
                return FailedImage(result.source, str(error))
            _write(place, _encode(picture, "PNG"))
        if place := self.maps.get(image):
            anomaly_map = result.full_map()  # (H, W)
            _write(
                place,
                _npy(anomaly_map) if self.raw == "npy" else _encode(Image.fromarray(anomaly_map), "TIFF"),
            )
        return result


def _places(folder: Path, images: Sequence[str], suffix: str) -> dict[str, Path]:
    return {image: folder / name for image, name in zip(images, picture_names(images, suffix), strict=True)}


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    with atomic_write(path) as file:
        file.write(content)


def _encode(picture: Image.Image, file_format: str) -> bytes:
    # Into memory first: Pillow reports a full disk as an encoder error without saying so.
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format)
    return buffer.getvalue()


def _npy(anomaly_map: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, anomaly_map, allow_pickle=False)
    return buffer.getvalue()
