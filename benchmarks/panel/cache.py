"""Frozen features of a data set kept in a folder, so that a research variant is scored in seconds.

A folder a set: `a0.npy` ... `a3.npy` float16 maps (N, C, h, w) of the distinct good training images at strides 4, 8,
16 and 32, `b0.npy` ... those of the test images, `meta.npz` what is known of the test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.datasets.duplicates import distinct
from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.datasets.pixels import read_pixels
from blemish.imaging.images import load
from blemish.imaging.masks import read_mask
from blemish.imaging.resizing import resize_mask
from blemish.networks.timm_cnn import TimmCNN
from panel.features import BATCH, SIZE

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class Cached:
    """The features of a set.

    Attributes:
        folder: where they are.
        masks: bool (M, 256, 256), all False for good test images and for those without a mask.
        known: bool (M,), whether a test image is good or has a mask.
        anomalous: bool (M,).
        kinds: the test images' types of defect, "good" for none.
    """

    folder: Path
    masks: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    anomalous: npt.NDArray[np.bool_]
    kinds: npt.NDArray[np.str_]

    def train(self, stride: int) -> Tensor:
        """Maps (N, C, h, w) of the good training images, float32."""
        return self._read("a", stride)

    def test(self, stride: int) -> Tensor:
        """Maps (M, C, h, w) of the test images, float32."""
        return self._read("b", stride)

    def _read(self, side: str, stride: int) -> Tensor:
        return torch.from_numpy(np.load(self.folder / f"{side}{STRIDES.index(stride)}.npy")).float()


def cached(root: Path, cache: Path) -> Cached:
    """The features of the set in `root`, made where the cache has none of that name."""
    folder = cache / root.name
    if not (folder / "meta.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(read_data_set(root), folder)
    with np.load(folder / "meta.npz") as meta:
        return Cached(folder, meta["masks"], meta["known"], meta["bad"], meta["kinds"])


def _make(data: DataSet, folder: Path) -> None:
    read = read_pixels(data.train, (SIZE, SIZE), progress=lambda done, total: None, notify=lambda sentence: None)
    good, _ = distinct(read.images, [i for i, sample in enumerate(read.samples) if not sample.anomalous])
    _save(read.images[good], folder, "a")
    loaded = [load(sample.path, (SIZE, SIZE)) for sample in data.test]
    _save(np.stack([pixels for pixels, _ in loaded]), folder, "b")
    sizes = [size for _, size in loaded]
    np.savez_compressed(
        folder / "meta.npz",
        masks=np.stack([_mask(sample, size) for sample, size in zip(data.test, sizes, strict=True)]),
        known=np.array([not sample.anomalous or sample.mask is not None for sample in data.test]),
        bad=np.array([sample.anomalous for sample in data.test]),
        kinds=np.array([sample.defect or "good" for sample in data.test]),
    )


def _save(images: npt.NDArray[np.uint8], folder: Path, side: str) -> None:
    maps = _maps(images)
    for level, found in enumerate(maps):
        np.save(folder / f"{side}{level}.npy", found)


def _maps(images: npt.NDArray[np.uint8]) -> Sequence[npt.NDArray[np.float16]]:
    backbone = TimmCNN(strides=STRIDES).prepared((SIZE, SIZE)).eval()
    batches = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            pixels = torch.from_numpy(np.array(images[start : start + BATCH])).permute(0, 3, 1, 2).float()
            batches.append([one.half().numpy() for one in backbone(pixels)])
    return [np.concatenate(level) for level in zip(*batches, strict=True)]


def _mask(sample: Sample, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    if sample.mask is None:
        return np.zeros((SIZE, SIZE), dtype=bool)
    return resize_mask(read_mask(sample.mask, size=size), (SIZE, SIZE), rule="any")
