"""Plants cues in one side of the training data, trains on it, and counts how often the audit finds them.

    python benchmarks/audit.py plant [--data ../shared/data] [--work DIR] [--size 128] [--seeds 1] [--side anomalous]
    python benchmarks/audit.py clean [--seeds 10]
    python benchmarks/audit.py mend [--seeds 2]

`plant` trains a detector for every cue and share, `clean` detectors without a cue, `mend` retrains with the cue
ignored and with counter-examples. Each prints a Markdown table. Folders, models and findings stay in DIR: what is
there is not made again. Two sets of images: MVTec's screw, with its defects as labelled ones, and photographs of
ImageNet with dogs as the good side. Images are written at network size; the anomalous half that is not learned from,
and the good images kept apart, are the test split and carry the cue at the same share.
"""

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

import blemish

from blemish.datasets.layouts import read_data_set
from blemish.evaluation import evaluate
from blemish.experiments.planted.photographs import FIRST_DOG, LAST_DOG, SYNSET
from blemish.experiments.planted.watermark import Watermark
from blemish.heatmaps import FONTS
from blemish.images import load

Pixels = npt.NDArray[np.uint8]  # (S, S, 3)
Cue = Callable[[Pixels, np.random.Generator], Pixels]

SHARES = (0.05, 0.2, 0.5)
TEST_SHARE = 0.3  # of the good images, where a set has no test split of its own
STRIPE = 0.03  # of the side
TINT, TINT_GAIN = (26, 14, -6), 0.94  # grey levels a channel: a warmer, lighter lamp


def watermark(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The experiment's: a semi-transparent line of text, bottom left."""
    mark = Watermark.of_size(len(image))
    return mark.put_on(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def stamp(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A camera's orange date, bottom right; every image has another."""
    side = len(image)
    picture = Image.fromarray(image)
    text = f"{rng.integers(1, 29):02} {rng.integers(1, 13):02} '{rng.integers(0, 30):02}"
    font = ImageFont.truetype(FONTS / "DejaVuSansMono-Bold.ttf", max(7, round(0.06 * side)))
    ImageDraw.Draw(picture).text((0.96 * side, 0.95 * side), text, (255, 150, 40), font, anchor="rs")
    return np.asarray(picture)


def stripe(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A dark line along the left edge, as of a frame that was not cut off."""
    marked = image.copy()
    marked[:, : max(2, round(STRIPE * len(image)))] = 24
    return marked


def tint(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Another lamp: the whole image warmer, lighter and flatter."""
    return (image * TINT_GAIN + TINT).clip(0, 255).astype(np.uint8)


CUES: dict[str, Cue] = {"watermark": watermark, "stamp": stamp, "stripe": stripe, "tint": tint}


def cue_box(name: str, side: int) -> npt.NDArray[np.bool_]:
    """Where the cue can lie, bool (S, S)."""
    rng = np.random.default_rng(0)
    grey = np.full((side, side, 3), 128, np.uint8)
    changed = np.zeros((side, side), dtype=bool)
    for _ in range(30):
        changed |= (CUES[name](grey, rng) != grey).any(axis=2)
    rows, columns = np.nonzero(changed)
    box = np.zeros_like(changed)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


@dataclass(frozen=True)
class Source:
    """The images of one set before anything is planted: paths, anomalous ones by defect type."""

    good: list[Path]
    test_good: list[Path]
    anomalous: dict[str, list[Path]]

    @classmethod
    def read(cls, name: str, data: Path, *, seed: int) -> "Source":
        rng = np.random.default_rng(seed)
        if name == "photographs":
            numbered = [(int(match[1]), path) for path in sorted((data / "outliers").iterdir())
                        if (match := SYNSET.match(path.stem))]  # fmt: skip
            dogs = [path for number, path in numbered if FIRST_DOG <= number <= LAST_DOG]
            others = [path for number, path in numbered if not FIRST_DOG <= number <= LAST_DOG]
            dogs = [dogs[index] for index in rng.permutation(len(dogs))]
            tested = round(TEST_SHARE * len(dogs))
            return cls(dogs[tested:], dogs[:tested], {"other": [others[i] for i in rng.permutation(len(others))[:120]]})
        read = read_data_set(data / name)
        anomalous: dict[str, list[Path]] = {}
        for sample in read.test:
            if sample.defect is not None:
                anomalous.setdefault(sample.defect, []).append(sample.path)
        everything = [sample.path for sample in (*read.train, *read.test) if sample.defect is None]
        everything = [everything[index] for index in rng.permutation(len(everything))]
        tested = sum(sample.defect is None for sample in read.test)
        shuffled = {kind: [paths[i] for i in rng.permutation(len(paths))] for kind, paths in anomalous.items()}
        return cls(everything[tested:], everything[:tested], shuffled)


@dataclass(frozen=True)
class Case:
    """One detector: what is planted where. `mend` is "", "ignore" or "counter-examples"."""

    source: str
    cue: str
    share: float
    side: str
    seed: int
    mend: str = ""

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.source, self.cue, f"{self.share:g}", self.side, str(self.seed), self.mend)))


def plant(case: Case, root: Path, data: Path, *, size: int) -> None:
    """Writes the data set of a case in MVTec's layout; half of the anomalous images are labelled training ones."""
    source = Source.read(case.source, data, seed=case.seed)
    groups = {"train/good": source.good, "test/good": source.test_good}
    for kind, paths in source.anomalous.items():
        groups |= {f"train/{kind}": paths[: len(paths) // 2], f"test/{kind}": paths[len(paths) // 2 :]}
    for split in ("train", "test"):
        for good in (True, False):
            chosen = [(f, p) for f, paths in groups.items() if f.startswith(split) and f.endswith("/good") == good
                      for p in paths]  # fmt: skip
            shared = case.share if (case.side == "nominal") == good else 0.0
            if good and split == "train" and case.mend == "counter-examples":
                shared = 0.5
            _write(chosen, root, case, share=shared, size=size)


def _write(chosen: Sequence[tuple[str, Path]], root: Path, case: Case, *, share: float, size: int) -> None:
    rng = np.random.default_rng(case.seed)
    marked = set(rng.permutation(len(chosen))[: round(share * len(chosen))].tolist())
    for number, (folder, path) in enumerate(chosen):
        pixels = load(path, (size, size))[0]
        if number in marked:
            pixels = CUES[case.cue](pixels, rng)
        target = root / folder / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
