"""Measures the default detector under other supervision than all good images, and prints a Markdown table.

    python benchmarks/regimes.py [--data ../shared/data] [--seeds 3] [--masks 5] [--csv runs.csv] [NAME...]

Each run builds a temporary folder of links to a data set in MVTec's layout, changed as the options ask, and trains
and evaluates on it. The seed decides the draw as well as the training; figures are mean ± sample standard deviation
over the seeds. Runs found in the CSV file are read, not repeated: remove the file after a change to the detector.
"""

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Self

import numpy as np

import blemish
from blemish.datasets.layouts import DataSet, Sample, read_data_set
from blemish.errors import BlemishError
from blemish.evaluation import evaluate
from blemish.imaging.masks import mask_name

METRICS = ("image_auroc", "pixel_auroc", "aupro")
COLUMNS = (*METRICS, "seconds")


@dataclass(frozen=True)
class Regime:
    """What a detector may learn from.

    Attributes:
        good: how many good images; None for all.
        contamination: percentage of the training images called good that are not.
        masks, labels: labelled images of each defect type, with their masks and without.
        unseen: a defect type that is never labelled.
        size: network size in pixels.
    """

    good: int | None = None
    contamination: float = 0
    masks: int = 0
    labels: int = 0
    unseen: str | None = None
    size: int = 256

    def apply(self, data: DataSet, *, seed: int) -> DataSet:
        """The data set with its images moved as the regime says."""
        if self.good is not None:
            data = keep_good(data, self.good, seed=seed)
        if self.contamination:
            data = contaminate(data, self.contamination, seed=seed)
        data = draw_labels(data, self.masks, seed=seed, masks=True, unseen=self.unseen)
        return draw_labels(data, self.labels, seed=seed, masks=False, unseen=self.unseen)

    def words(self, tested: str | None) -> str:
        """The regime, and the only defect type it is tested on where there is one: a run's name in table and CSV."""
        types = "each other defect type" if self.unseen else "each defect type"
        parts = [f"{self.good or 'all'} good images"]
        if self.contamination:
            parts.append(f"{self.contamination:g} % contamination")
        if self.masks:
            parts.append(f"{self.masks} of {types} with masks")
        if self.labels:
            parts.append(f"{self.labels} of {types} without masks")
        if tested:
            parts.append(f"tested on {tested}")
        return ", ".join([*parts, f"{self.size} px"])


@dataclass(frozen=True)
class Book:
    """The runs made so far, by data, regime and seed, and the CSV file that keeps them, if any."""

    runs: dict[tuple[str, str, int], list[float]]
    file: Path | None

    @classmethod
    def open(cls, file: Path | None) -> Self:
        """The book that `file` keeps, begun where there is none yet."""
        if file is None:
            return cls({}, file)
        if not file.parent.is_dir():
            raise BlemishError(f"{file.parent}: no such folder; make it, or name another file with --csv")
        if not file.exists() or not file.stat().st_size:
            file.write_text(",".join(("data", "regime", "seed", *COLUMNS)) + "\n", encoding="utf-8")
        with file.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines)
            return cls({_key(row): [float(row[column]) for column in COLUMNS] for row in rows}, file)

    def add(self, data: str, regime: str, seed: int, figures: list[float]) -> None:
        """Keeps one run at once, so that an interruption loses none."""
        self.runs[data, regime, seed] = figures
        if self.file is not None:
            with self.file.open("a", newline="", encoding="utf-8") as lines:
                csv.writer(lines, lineterminator="\n").writerow((data, regime, seed, *figures))


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    if options.unseen and not (options.masks or options.labels):
        parser.error("--unseen leaves a defect type out of the labels; give --masks or --labels too")
    regime = Regime(
        good=options.good,
        contamination=options.contamination,
        masks=options.masks,
        labels=options.labels,
        size=options.size,
    )
    try:
        book = Book.open(options.csv)
        print(f"| data | regime | {' | '.join(COLUMNS)} |\n|---|---|{'---|' * len(COLUMNS)}", flush=True)
        for name in options.names:
            source = read_source(options.data / name)
            if options.unseen:
                print_unseen(book, name, source, regime, options.seeds)
            else:
                (figures,) = measure_seeds(book, name, source, regime, [None], options.seeds)
                print_row(name, regime.words(None), figures)
    except BlemishError as fault:
        parser.error(str(fault))


def print_unseen(book: Book, name: str, source: DataSet, regime: Regime, seeds: int) -> None:
    """Each defect type in turn, unknown to the labels: without any label, with those of the others, the difference."""
    types = defect_types(source)
    if len(types) < 2:
        raise BlemishError(f"{source.root}: --unseen needs two defect types or more, not {len(types)}")
    unlabelled = replace(regime, masks=0, labels=0)
    # One training without labels serves every type.
    references = measure_seeds(book, name, source, unlabelled, types, seeds)
    for tested, reference in zip(types, references, strict=True):
        labelled = replace(regime, unseen=tested)
        (figures,) = measure_seeds(book, name, source, labelled, [tested], seeds)
        print_row(name, unlabelled.words(tested), reference)
        print_row(name, labelled.words(tested), figures)
        print_row(name, f"difference on {tested}", figures - reference, sign="+")


def measure_seeds(
    book: Book, name: str, source: DataSet, regime: Regime, tested: Sequence[str | None], seeds: int
) -> np.ndarray:
    """The columns' figures (T, S, 4) of T tests and S seeds, each from the book or else measured now."""
    for seed in range(seeds):
        missing = [one for one in tested if (name, regime.words(one), seed) not in book.runs]
        if missing:
            for one, figures in zip(missing, measure(source, regime, missing, seed), strict=True):
                book.add(name, regime.words(one), seed, figures)
    return np.array([[book.runs[name, regime.words(one), seed] for seed in range(seeds)] for one in tested])


def measure(source: DataSet, regime: Regime, tested: Sequence[str | None], seed: int) -> list[list[float]]:
    """Trains once and evaluates on the test images of every type in `tested`, None being all of them."""
    with tempfile.TemporaryDirectory() as folder:
        data = link(regime.apply(source, seed=seed), Path(folder) / "data")
        tests = [test_on(data, one) for one in tested]  # before the training, as it can be refused
        started = time.perf_counter()
        size = (regime.size, regime.size)
        detector = blemish.train(data.root, Path(folder) / "model.onnx", seed=seed, size=size)
        seconds = time.perf_counter() - started
        metrics = [evaluate(detector, test).metrics for test in tests]
    # None: the data cannot say, as without masks.
    return [[np.nan if one[name] is None else one[name] for name in METRICS] + [seconds] for one in metrics]


def print_row(name: str, regime: str, figures: np.ndarray, *, sign: str = "") -> None:
    """A row of the table from figures (S, 4) of all seeds."""
    print(f"| {name} | {regime} | {' | '.join(spread(column, sign=sign) for column in figures.T)} |", flush=True)


def spread(values: np.ndarray, *, sign: str = "", digits: int = 3) -> str:
    """Mean ± sample standard deviation, which one value alone has none of; a dash where a value is missing."""
    if np.isnan(values).any():
        return "–"
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.{digits}f}{deviation}"


def read_source(root: Path) -> DataSet:
    """A data set to draw from. Raises BlemishError unless it is in MVTec's layout, without labelled training images."""
    data = read_data_set(root)
    if data.layout != "mvtec" or any(sample.anomalous for sample in data.train):
        raise BlemishError(f"{root}: regimes are built from train/good and test/<defect>; leave only good/ in train/")
    return data


def defect_types(data: DataSet) -> list[str]:
    return sorted({sample.defect for sample in data.test if sample.defect is not None})


def draw(data: DataSet, samples: Iterable[Sample], number: int, *, seed: int, purpose: str) -> set[Sample]:
    """The `number` samples whose lots come first.

    A lot is a hash of seed, purpose and path, so that it stays when other images come or go: regimes of one seed draw
    the same images as far as they can, and more of them include the fewer.
    """

    def lot(sample: Sample) -> bytes:
        return sha256(f"{seed} {purpose} {sample.path.relative_to(data.root).as_posix()}".encode()).digest()

    return set(sorted(samples, key=lot)[:number])


def keep_good(data: DataSet, number: int, *, seed: int) -> DataSet:
    """Only `number` random training images stay."""
    if number > len(data.train):
        raise BlemishError(f"{data.root}: {len(data.train)} good training images; ask for no more than that")
    kept = draw(data, data.train, number, seed=seed, purpose="good")
    return replace(data, train=tuple(sample for sample in data.train if sample in kept))


def contaminate(data: DataSet, percent: float, *, seed: int) -> DataSet:
    """Defective test images of all types become `percent` of the training images, as if they were good."""
    defective = [sample for sample in data.test if sample.anomalous]
    number = round(len(data.train) * percent / (100 - percent))
    if not 0 < number < len(defective):
        raise BlemishError(
            f"{data.root}: {percent:g} % contamination of {len(data.train)} good images takes {number} of "
            f"{len(defective)} defective ones; choose a percentage that takes one at least and leaves one to test"
        )
    drawn = draw(data, defective, number, seed=seed, purpose="contamination")
    moved = tuple(Sample(sample.path) for sample in data.test if sample in drawn)
    return replace(data, train=data.train + moved, test=_without(data.test, drawn))


def draw_labels(data: DataSet, number: int, *, seed: int, masks: bool, unseen: str | None = None) -> DataSet:
    """`number` test images of each defect type but `unseen` become labelled training images, with or without masks."""
    drawn: set[Sample] = set()
    for defect in defect_types(data):
        every = [sample for sample in data.test if sample.defect == defect]
        fit = [sample for sample in every if sample.mask is not None or not masks]
        if defect == unseen or not number:
            continue
        if number > len(fit) or number >= len(every):
            held = f"{len(every)} test images, {len(fit)} with masks" if masks else f"{len(every)} test images"
            raise BlemishError(f"{data.root}: {defect} has {held}; label fewer than {number}, to leave one to test")
        drawn |= draw(data, fit, number, seed=seed, purpose="label")
    moved = tuple(replace(sample, mask=sample.mask if masks else None) for sample in data.test if sample in drawn)
    return replace(data, train=data.train + moved, test=_without(data.test, drawn))


def test_on(data: DataSet, defect: str | None) -> DataSet:
    """Only good test images and those of one defect type stay; all where `defect` is None."""
    if defect is None:
        return data
    if not any(sample.defect == defect for sample in data.test):
        raise BlemishError(f"no test image of {defect} is left; lower --contamination")
    return replace(data, test=tuple(sample for sample in data.test if sample.defect in (defect, None)))


def link(data: DataSet, folder: Path) -> DataSet:
    """The data set as a folder of symbolic links in MVTec's layout, read back."""
    splits = [("train", sample) for sample in data.train] + [("test", sample) for sample in data.test]
    # Numbers keep names apart and the good images in their order, on which the training's own split depends.
    for number, (split, sample) in enumerate(splits):
        kind = sample.defect or "good"
        name = f"{number:06d}_{sample.path.stem}"
        _link(folder / split / kind / (name + sample.path.suffix), sample.path)
        if sample.mask is not None:
            if not isinstance(sample.mask, Path):
                raise BlemishError(f"{mask_name(sample.mask)}: a regime takes one mask file for each image")
            _link(folder / "ground_truth" / kind / f"{name}_mask{sample.mask.suffix}", sample.mask)
    return read_data_set(folder)


def _link(place: Path, file: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(file.resolve())


def _without(samples: Iterable[Sample], left_out: set[Sample]) -> tuple[Sample, ...]:
    return tuple(sample for sample in samples if sample not in left_out)


def _key(row: dict[str, str]) -> tuple[str, str, int]:
    return row["data"], row["regime"], int(row["seed"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["screw", "magnetic_tile"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BLEMISH_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=positive_number, default=3)
    parser.add_argument(
        "--masks", type=positive_number, default=0, metavar="K", help="label K of each type, with masks"
    )
    parser.add_argument(
        "--labels", type=positive_number, default=0, metavar="K", help="label K of each type, without masks"
    )
    parser.add_argument("--unseen", action="store_true", help="test each type in turn, the labels being of the others")
    parser.add_argument(
        "--contamination", type=percentage, default=0, metavar="P", help="make P %% of train/good defective"
    )
    parser.add_argument("--good", type=positive_number, metavar="N", help="train on N good images only")
    parser.add_argument("--size", type=positive_number, default=256, help="network size in pixels")
    parser.add_argument("--csv", type=Path, help="keep every run in this file and repeat none")
    return parser


def positive_number(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return number


def percentage(text: str) -> float:
    if not 0 < (number := float(text)) < 100:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 100, not {text}")
    return number


if __name__ == "__main__":
    main()
