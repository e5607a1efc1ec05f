"""A test split made by program, for folders without defective test images: good images, and copies with defects.

It is written as a folder in MVTec's layout, so that it can be looked at, and every method sees the same files. Its good
images are the folder's good test images. Where there are none, they are the images that calibrate the detectors of a
seed: every method of one seed calibrates with the same images, and none is fitted to them.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.conversion.calibration_images import find_calibration_images
from blemish.datasets.layouts import DataSet, Sample
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_image
from blemish.imaging.masks import read_mask
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask
from blemish.io.files import atomic_write, fingerprint, make_folder
from blemish.io.text import printable
from blemish.model.detector import Detector
from blemish.model.metadata import FINGERPRINT_DIGITS
from blemish.process.progress import Progress, no_progress
from blemish.synthetic import Synthetic
from blemish.synthetic.augment import Invariances
from blemish.synthetic.confetti import confetti
from blemish.synthetic.defect_transplant import transplant
from blemish.synthetic.perlin import Perlin
from blemish.training.config import AugmentationConfig

FOLDER, SOURCES = "synthetic", "sources.json"
CONFETTI, PERLIN, TRANSPLANT = "confetti", "perlin", "transplanted"
MOST = 100  # good images that copies are made of
LEAST = 10  # where images are large
PIXELS = 100_000_000  # of all good images together, a bound on time and disk: 100 images of a megapixel
TRIES = 5  # at a defect that leaves the image as it was

Rgb = NDArray[np.uint8]  # (H, W, 3)
MakeDefect = Callable[[Rgb, np.random.Generator], Synthetic | None]


@dataclass(frozen=True)
class SyntheticTests:
    """The synthetic test splits of a comparison.

    Attributes:
        data: the data set without defective test images.
        folder: of the comparison.
        seed: of the random choices; that of the first training.
    """

    data: DataSet
    folder: Path
    seed: int

    @property
    def from_calibration(self) -> bool:
        """Whether the good images are those that calibrate, because there are no good test images."""
        return not self.data.test

    def root(self, seed: int) -> Path:
        """Where the test split of a training's seed lies."""
        return self.folder / FOLDER / f"seed-{seed}" if self.from_calibration else self.folder / FOLDER

    def of(self, detector: Detector, seed: int, *, progress: Progress = no_progress) -> DataSet:
        """The test split of a training's seed; it is made unless it is there.

        Raises:
            BlemishError: no image is left to make it of, the detector was fitted to one of its good images, or the
                disk refuses.
        """
        root = self.root(seed)
        if not (root / SOURCES).is_file():
            self._make(root, self._sources(detector), detector.reading, progress)
        fitted = set(detector.metadata.roles.get("fit", ()))
        used = json.loads((root / SOURCES).read_text("utf-8"))
        if fitted & set(used.values()):
            raise BlemishError("it was fitted to images that the synthetic defects are made of")
        return read_folder(root)

    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects."""
        return tuple(self._makers(Reading()))

    def _sources(self, detector: Detector) -> list[Path]:
        """Good images that no method is fitted to, in random order, each content once."""
        if self.from_calibration:
            candidates = find_calibration_images(detector.metadata, self.data)
            learned = set(detector.metadata.roles["fit"])
        else:
            candidates = [sample.path for sample in self.data.test]
            learned = set(detector.metadata.used_images)
        digests = {_digest(path): path for path in candidates}
        kept = [path for digest, path in digests.items() if digest not in learned]
        if not kept:
            raise BlemishError("there is no good image to make synthetic defects of that the methods do not learn from")
        order = np.random.default_rng(self.seed).permutation(len(kept))
        return [kept[index] for index in order]

    def _make(self, root: Path, sources: Sequence[Path], reading: Reading, progress: Progress) -> None:
        """Writes the folder; it has its list of sources when it is complete."""
        shutil.rmtree(root, ignore_errors=True)
        makers = self._makers(reading)
        wanted, used = min(MOST, len(sources)), dict[str, str]()
        for number, source in enumerate(sources):
            try:
                pixels = np.asarray(read_image(source, reading))
            except ImageError:
                continue  # doctor says what is wrong with it
            wanted = min(wanted, max(LEAST, PIXELS // (pixels.shape[0] * pixels.shape[1])))
            name = self._name(source, used)
            _save(root / "test" / "good" / name, pixels)
            for place, (kind, make) in enumerate(makers.items()):
                made = _made(make, pixels, np.random.default_rng((self.seed, number, place)))
                if made is not None:
                    _save(root / "test" / kind / name, made.image)
                    _save(root / "ground_truth" / kind / name, made.mask)
            used[name] = _digest(source)
            progress("synthetic defects", len(used), wanted)
            if len(used) >= wanted:
                break
        if not used:
            raise BlemishError("none of the good images that synthetic defects could be made of can be read")
        with atomic_write(root / SOURCES, mode="w") as file:
            json.dump({printable(name): digest for name, digest in used.items()}, file, indent=1)

    def _name(self, source: Path, used: dict[str, str]) -> str:
        """The path of a copy: that of its source below the data folder, so that its ignore mask is found."""
        below = Path(os.path.relpath(source, self.data.root))
        if ".." in below.parts or below.is_absolute():
            below = Path(source.name)
        name = below.with_suffix(".png").as_posix()
        number = 2
        while name in used:
            name = below.with_name(f"{below.stem}-{number}.png").as_posix()
            number += 1
        return name

    def _makers(self, reading: Reading) -> dict[str, MakeDefect]:
        makers: dict[str, MakeDefect] = {CONFETTI: confetti, PERLIN: Perlin()}
        labelled = [sample for sample in self.data.train if sample.anomalous and sample.mask is not None]
        if labelled:
            makers[TRANSPLANT] = _Transplants(labelled, reading)
        return makers


@dataclass(frozen=True)
class _Transplants:
    """Sets the defect of a random labelled image into a good one."""

    labelled: Sequence[Sample]
    reading: Reading

    def __call__(self, image: Rgb, rng: np.random.Generator) -> Synthetic | None:
        """None where the defect does not fit."""
        sample = self.labelled[int(rng.integers(len(self.labelled)))]
        size = (image.shape[0], image.shape[1])
        assert sample.mask is not None
        with_defect = read_image(sample.path, self.reading)
        mask = read_mask(sample.mask, size=(with_defect.height, with_defect.width))
        if mask.shape != size:
            with_defect = with_defect.resize(size[::-1], Image.Resampling.BILINEAR)
            mask = resize_mask(mask, size, rule="any")
        constants = AugmentationConfig()
        pose = Invariances(max_zoom=constants.max_zoom, max_shift=constants.max_shift).draw(rng, size)
        return transplant(
            np.asarray(with_defect),
            mask,
            image,
            rng,
            pose=pose,
            margin=constants.transplant_margin,
            ring=constants.transplant_ring,
            feather=constants.transplant_feather,
            places=constants.transplant_places,
        )


def read_folder(root: Path) -> DataSet:
    """The test split that such a folder holds."""
    return DataSet(root, "mvtec", train=(), test=tuple(_samples(root)))


def _samples(root: Path) -> Iterator[Sample]:
    kinds = sorted((root / "test").iterdir(), key=lambda folder: (folder.name != "good", folder.name))
    for folder in kinds:
        for path in sorted(folder.rglob("*.png")):
            if folder.name == "good":
                yield Sample(path)
            else:
                mask = root / "ground_truth" / folder.name / path.relative_to(folder)
                yield Sample(path, folder.name, mask)


def _made(make: MakeDefect, image: Rgb, rng: np.random.Generator) -> Synthetic | None:
    """A copy that differs; grey where the image is grey, so that no colour betrays it. None where none comes about."""
    for _ in range(TRIES):
        made = make(image, rng)
        if made is None:
            continue
        changed = made.image
        if (image == image[..., :1]).all():
            changed = np.repeat(changed.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
        if (changed != image)[made.mask].any():
            return Synthetic(changed, made.mask)
    return None


def _save(path: Path, pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    make_folder(path.parent)
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)


def _digest(path: Path) -> str:
    return fingerprint(path)[:FINGERPRINT_DIGITS]
