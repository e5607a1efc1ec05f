"""The methods of the panel by name: each learns from a folder's training images and scores images one at a time."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import blemish
from blemish.conformal.split import Calibration
from blemish.datasets.duplicates import distinct
from blemish.datasets.layouts import DataSet
from blemish.datasets.pixels import read_pixels
from panel.features import SIZE, Features, enlarged
from panel.peers import MemoryBank, Peer, PositionGaussians

Score = Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], float]]
BLEMISH = "blemish"
TRAINED = ("fcdd", "hsc")  # of Blemish; only where they are asked for


@dataclass(frozen=True)
class Fitted:
    """A method that has learned.

    Attributes:
        score: makes of pixels (1, H, W, 3) at network size the map (H, W) and the image's score.
        seconds: what fitting took, from the folder on.
        megabytes: what scoring needs of the method and of its backbone.
        calibration: what its false-alarm rates are promised by, where it promises any.
    """

    score: Score
    seconds: float
    megabytes: float
    calibration: Calibration | None = None


def fit(method: str, data: DataSet, *, seed: int, precision: str = "auto") -> Fitted:
    """The method fitted to the training images of `data`, a folder that has been read; `precision` of Blemish's."""
    if method in (BLEMISH, *TRAINED):
        return fit_blemish(data, seed=seed, method="gaussian" if method == BLEMISH else method, precision=precision)
    return fit_peer(PEERS[method](seed), data)


def fit_blemish(data: DataSet, *, seed: int, method: str, precision: str = "auto") -> Fitted:
    """A method of Blemish with its defaults at 256 x 256 pixels, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        started = time.perf_counter()
        options = {"seed": seed, "method": method, "precision": precision, "device": "cpu"}
        blemish.train(data.root, file, size=(SIZE, SIZE), **options)
        seconds = time.perf_counter() - started
        detector = blemish.Detector.load(file, threads=1)
        megabytes = file.stat().st_size / 1e6

    def score(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
        maps, scores, _ = detector.forward(pixels)
        return maps[0], float(scores[0])

    return Fitted(score, seconds, megabytes, detector.calibration)


def fit_peer(peer: Peer, data: DataSet) -> Fitted:
    """A peer fitted to the good training images, of which identical ones count once; what is labelled it cannot use."""
    started = time.perf_counter()
    good = [sample for sample in data.train if not sample.anomalous]
    read = read_pixels(good, (SIZE, SIZE), progress=lambda done, total: None, notify=lambda sentence: None)
    chosen, _ = distinct(read.images, range(len(read.samples)))
    features = Features()
    with torch.inference_mode():
        peer.fit(features(read.images[chosen]))
    seconds = time.perf_counter() - started

    def score(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
        with torch.inference_mode():
            anomaly_map = enlarged(peer.score(features(pixels)).numpy())[0]
        return anomaly_map, float(anomaly_map.max())

    return Fitted(score, seconds, (peer.stored + features.stored) / 1e6)


PEERS: dict[str, Callable[[int], Peer]] = {
    "padim": lambda seed: PositionGaussians(),
    "patchcore-1": lambda seed: MemoryBank(share=0.01, seed=seed),
    "patchcore-1-whitened": lambda seed: MemoryBank(share=0.01, seed=seed, whitened=True),
    "patchcore-10": lambda seed: MemoryBank(share=0.1, seed=seed),
}
METHODS = (*PEERS, BLEMISH)
