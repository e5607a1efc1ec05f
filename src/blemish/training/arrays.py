"""Training on images in memory, or anywhere: no folder has to be laid out."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from PIL import Image

from blemish.datasets.layouts import DataSet, Sample
from blemish.errors import BlemishError
from blemish.imaging.images import read_picture
from blemish.imaging.sources import each_image
from blemish.imaging.types import ImageSource
from blemish.io.arguments import one_path, shown
from blemish.model.detector import Detector
from blemish.process.progress import Progress
from blemish.training.config import TrainConfig, TrainOptions
from blemish.training.data import Notify
from blemish.training.run import configured, train_on

GOOD = ("good", "nominal", "normal", "")  # labels by name that are no defect

MaskSource = str | os.PathLike[str] | npt.NDArray[Any]


def fit(
    images: ImageSource | Iterable[ImageSource],
    output: str | Path | None = None,
    *,
    labels: Iterable[bool | str | None] | None = None,
    masks: Iterable[MaskSource | None] | None = None,
    config: TrainConfig | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    **options: Unpack[TrainOptions],
) -> Detector:
    """Trains a detector on images that need not lie in a folder, the same way as `blemish.train`.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
        >>> detector = fit(images, size=64)
        >>> detector.predict(images[:2]).scores.shape
        (2,)
        >>> fit(paths, "screws.onnx", labels=[path.parent.name for path in paths])  # doctest: +SKIP

    Args:
        images: paths, PIL images or arrays, uint8 or uint16, (H, W) or (H, W, C), of any sizes, in one list; or one
            array (N, H, W) or (N, H, W, C).
        output: the .onnx file to write; None keeps the detector in memory alone.
        labels: of each image, whether it is anomalous, or the name of its defect ("good" or None for none). None stands
            for nominal images alone.
        masks: of each image None, a path, or an array (H, W) that is not 0 where the image is anomalous.
        config: how to train; None takes the defaults.
        progress, notify: see `blemish.train`.
        options: fields of `TrainConfig`, which replace those of `config`.

    Returns:
        The detector.

    Raises:
        BlemishError: something that is no image, labels or masks of another number, or what `blemish.train` raises.
    """
    config = configured(config, options)
    if output is None and config.devices * config.nodes > 1:
        raise BlemishError("processes that train together have to write one file: name an output")
    given = list(each_image(images))
    defects = _defects(labels, len(given))
    each_mask = _each(masks, len(given), "masks")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"  # the model file knows the data by this name
        root.mkdir()
        samples = [
            Sample(_as_file(image, root / f"{number:06}"), defect, _mask_file(mask, root / f"{number:06}_mask.png"))
            for number, (image, defect, mask) in enumerate(zip(given, defects, each_mask, strict=True))
        ]
        if marked := [sample for sample in samples if sample.mask is not None and not sample.anomalous]:
            number = samples.index(marked[0])
            raise BlemishError(f"image {number} has a mask and is labelled as good: label it as anomalous")
        data_set = DataSet(root, "flat", tuple(samples), ())
        target = Path(folder) / "detector.onnx" if output is None else one_path(output, "the output")
        return train_on(lambda: data_set, target, config, progress=progress, notify=notify)


def _defects(labels: Iterable[bool | str | None] | None, number: int) -> list[str | None]:
    """The defect of each image; None where it is nominal."""
    defects: list[str | None] = []
    for label in _each(labels, number, "labels"):
        if isinstance(label, str):
            defects.append(None if label in GOOD else label)
        elif label is None or isinstance(label, bool | np.bool_):
            defects.append("anomalous" if label else None)
        else:
            raise BlemishError(f"a label must be True, False or the name of a defect, not {shown(label)}")
    return defects


def _each(values: Iterable[Any] | None, number: int, what: str) -> list[Any]:
    """As many values as there are images, None where none are given."""
    if values is None:
        return [None] * number
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise BlemishError(f"{what} must be a list with one for each image, not {shown(values)}")
    listed = list(values)
    if len(listed) != number:
        raise BlemishError(f"there are {len(listed)} {what} for {number} images: give one for each image")
    return listed


def _as_file(image: ImageSource, stem: Path) -> Path:
    """The path of an image, which is written without loss where it has none. Raises ImageError for what is none."""
    if isinstance(image, str | bytes | os.PathLike):
        return Path(os.fsdecode(image))
    if isinstance(image, Image.Image) and image.mode.startswith("I;16"):
        image = np.asarray(image).astype(np.uint16)
    if isinstance(image, np.ndarray) and image.dtype == np.uint16:
        return _wide_file(image, stem)
    path = stem.with_suffix(".png")
    read_picture(image, name=f"image {int(stem.name)}").image.save(path, compress_level=1)
    return path


def _wide_file(values: npt.NDArray[Any], stem: Path) -> Path:
    """Values of 16 bits, (H, W), (H, W, 1) or (H, W, 3), as a file that keeps them all."""
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        path = stem.with_suffix(".png")
        Image.fromarray(values).save(path, compress_level=1)
        return path
    if values.ndim != 3 or values.shape[-1] != 3:
        raise BlemishError(
            f"image {int(stem.name)} is a uint16 array {values.shape}: pass 16-bit images as (H, W) or (H, W, 3)"
        )
    path = stem.with_suffix(".ppm")  # Pillow writes no other file with 16 bits a colour
    header = f"P6 {values.shape[1]} {values.shape[0]} 65535\n".encode()
    path.write_bytes(header + values.astype(">u2").tobytes())
    return path


def _mask_file(mask: MaskSource | None, path: Path) -> Path | None:
    """The path of a mask, which is written where it has none; None where nothing is marked."""
    if mask is None:
        return None
    if isinstance(mask, str | bytes | os.PathLike):
        return Path(os.fsdecode(mask))
    if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise BlemishError(f"a mask must be a path or an array (H, W), not {shown(mask)}")
    if not mask.any():
        return None
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path)
    return path
