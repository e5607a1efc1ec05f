"""Plants cues in one side of the training data, trains on it, and counts how often the audit finds them.

    python benchmarks/audit.py plant [--side anomalous|nominal] [--data ../shared/data] [--work DIR] [--size 128]
    python benchmarks/audit.py clean [--seeds 10]
    python benchmarks/audit.py data [--shares 0.05 0.2 0.5] [--seeds 1]
    python benchmarks/audit.py mend [--cues watermark stripe] [--seeds 1]
    python benchmarks/audit.py demo

`plant` trains a detector for every cue and share, `clean` detectors without a cue; `data` asks only the searches of an
audit that need no detector, for both sides and for folders without a cue. `mend` retrains with the cue
ignored and with counter-examples. Each prints a Markdown table. `demo` plants a watermark in half of the defective
images of `blemish demo`'s bricks and writes the page of their audit. Models and findings stay in DIR: what is there is
not made again. Two sets of images: MVTec's screw, with its defects as labelled ones, and photographs of ImageNet with
dogs as the good side. Half of the anomalous images are labelled training images, without masks; the other half and the
good images kept apart are the test split, and carry the cue at the same share. MVTec photographed screw's good test
images darker than all its other images, a cue of its own; so good images are those of its training split only.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

import blemish
from blemish.auditing.appearance import measure
from blemish.auditing.association import find_associations
from blemish.auditing.data import COMPARED_SIDE
from blemish.auditing.findings import SHARED_LEVEL
from blemish.auditing.run import audit
from blemish.auditing.search import find_shared_cues
from blemish.datasets.demo import build_demo_set
from blemish.datasets.layouts import read_data_set
from blemish.evaluation.metrics import auroc
from blemish.experiments.pictures import FONTS
from blemish.experiments.planted.photographs import FIRST_DOG, LAST_DOG, SYNSET
from blemish.experiments.planted.watermark import Watermark
from blemish.faithfulness.measures import mass_inside
from blemish.imaging.images import load
from blemish.report.audit_page import write_audit

Pixels = npt.NDArray[np.uint8]  # (S, S, 3)
Cue = Callable[[Pixels, np.random.Generator], Pixels]

SOURCES = ("screw", "photographs")
WRITTEN = COMPARED_SIDE  # pixels of the images as they are written, whatever the network's size
SHARES = (0.05, 0.2, 0.5)
TEST_SHARE = 0.3  # of the good images, where a set has no test split of its own
STRIPE = 0.03  # of the side
FIGURES = ("mass_on_cue", "chance", "marked_alarms", "good_alarms", "auroc_by_chance", "auroc")
DRAWS = 20  # of who carries a cue by chance
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
LOCAL = ("watermark", "stamp", "stripe")


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
        """The set of that name; the seed decides which images are kept for testing."""
        rng = np.random.default_rng(seed)
        if name == "photographs":
            numbered = [(int(match[1]), path) for path in sorted((data / "outliers").iterdir())
                        if (match := SYNSET.match(path.stem))]  # fmt: skip
            dogs = [path for number, path in numbered if FIRST_DOG <= number <= LAST_DOG]
            others = [path for number, path in numbered if not FIRST_DOG <= number <= LAST_DOG]
            dogs = [dogs[index] for index in rng.permutation(len(dogs))]
            tested = round(TEST_SHARE * len(dogs))
            return cls(dogs[tested:], dogs[:tested], {"other": [others[i] for i in rng.permutation(len(others))[:300]]})
        read = read_data_set(data / name)
        anomalous: dict[str, list[Path]] = {}
        for sample in read.test:
            if sample.defect is not None:
                anomalous.setdefault(sample.defect, []).append(sample.path)
        good = [sample.path for sample in read.train if sample.defect is None]
        good = [good[index] for index in rng.permutation(len(good))]
        tested = round(TEST_SHARE * len(good))
        shuffled = {kind: [paths[i] for i in rng.permutation(len(paths))] for kind, paths in anomalous.items()}
        return cls(good[tested:], good[:tested], shuffled)


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
        """Of its files."""
        return "-".join(filter(None, (self.source, self.cue, f"{self.share:g}", self.side, str(self.seed), self.mend)))


def planted_images(case: Case, data: Path, *, keep: float = 1.0) -> Iterator[tuple[str, str, Pixels]]:
    """Folder, name and pixels of all images of a case; half of the anomalous ones are labelled training images.

    `keep` is the share of all images that is used.
    """
    source = Source.read(case.source, data, seed=case.seed)
    groups = {"train/good": source.good, "test/good": source.test_good}
    for kind, paths in source.anomalous.items():
        groups |= {f"train/{kind}": paths[: len(paths) // 2], f"test/{kind}": paths[len(paths) // 2 :]}
    for split in ("train", "test"):
        for good in (True, False):
            chosen = [
                (folder, path)
                for folder, paths in groups.items()
                if folder.startswith(split) and folder.endswith("/good") == good
                for path in paths[: round(keep * len(paths))]
            ]
            carries = (case.side == "nominal") == good or case.mend == "counter-examples"
            rng = np.random.default_rng(case.seed)
            count = round(case.share * len(chosen)) if carries else 0
            marked = set(rng.permutation(len(chosen))[:count].tolist())
            for number, (folder, path) in enumerate(chosen):
                pixels = read(path)
                yield folder, path.stem, CUES[case.cue](pixels, rng) if number in marked else pixels


@lru_cache(maxsize=1000)
def read(path: Path) -> Pixels:
    return load(path, (WRITTEN, WRITTEN))[0]


def plant(case: Case, root: Path, data: Path, *, keep: float) -> None:
    """Writes a case's images in MVTec's layout."""
    for folder, name, pixels in planted_images(case, data, keep=keep):
        target = root / folder / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, compress_level=1)


class Bench:
    """Makes the detectors and audits of cases, each once."""

    def __init__(self, data: Path, work: Path, *, size: int, epochs: int) -> None:
        self._data, self._work = data, work
        self._size, self._epochs = size, epochs

    def run(self, case: Case, *, keep: float = 1.0) -> dict[str, Any]:
        """What the audit finds, with what the benchmark knows beside it."""
        result = self._work / f"{case.name}.json"
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text())
            return found
        started = time.perf_counter()
        folder = self._work / case.name
        shutil.rmtree(folder, ignore_errors=True)
        plant(case, folder, self._data, keep=keep)
        model = self._work / f"{case.name}.onnx"
        ignore = None
        if case.mend == "ignore":
            ignore = self._work / f"{case.cue}-mask.png"
            Image.fromarray(cue_box(case.cue, WRITTEN)).save(ignore)
        detector = blemish.train(
            folder, model, size=(self._size, self._size), seed=case.seed, epochs=self._epochs, ignore_mask=ignore
        )
        trained = time.perf_counter()
        found = self._audit(case, detector, folder)
        found |= {"train_seconds": trained - started, "audit_seconds": time.perf_counter() - trained}
        if case.cue:
            found |= self._figures(case, detector)
        shutil.rmtree(folder)
        result.write_text(json.dumps(found, indent=1))
        print(f"{case.name}: {'flagged' if found['flags'] else 'not flagged'} {found['flags']}", file=sys.stderr)
        return found

    def search(self, case: Case, *, keep: float = 1.0) -> dict[str, Any]:
        """What the searches find that look at the images alone."""
        result = self._work / f"{case.name}.data.json"
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text())
            return found
        folders, _, images = zip(*planted_images(case, self._data, keep=keep), strict=True)
        started = time.perf_counter()
        anomalous = np.array([not folder.endswith("/good") for folder in folders])
        pixels = np.stack(images)
        nothing = np.zeros(pixels.shape[:3], dtype=bool)
        shared = find_shared_cues(pixels, measure(pixels, ignored=nothing[0]), unseen=nothing, seed=case.seed)
        flags = [
            {
                "kind": one.cue.kind,
                "p": one.p_value,
                "counts": one.counts,
                "on_cue": None if one.cue.region is None or not case.cue else _overlap(one.cue.region, case.cue),
            }
            for one in find_associations(shared, anomalous, seed=case.seed)
            if one.p_value <= SHARED_LEVEL
        ]
        found = {"flags": flags, "seconds": time.perf_counter() - started}
        result.write_text(json.dumps(found, indent=1))
        print(f"{case.name}: {flags}", file=sys.stderr, flush=True)
        return found

    def _audit(self, case: Case, detector: blemish.Detector, folder: Path) -> dict[str, Any]:
        found = audit(detector, read_data_set(folder), seed=case.seed)
        flags = [
            {
                "kind": one.kind,
                "words": one.words,
                "p": one.p_value,
                "used": one.used,
                "carriers": len(one.carriers),
                "on_cue": None if one.region is None or not case.cue else _overlap(one.region, case.cue),
            }
            for one in found.flagged
        ]
        return {"flags": flags, "clusters": found.clusters.number, "alarms": int(found.data.alarmed.sum())}

    def _figures(self, case: Case, detector: blemish.Detector) -> dict[str, Any]:
        """On test images: AUROC without any cue, and with the cue on half of either side, where it tells nothing; with
        the cue on all good ones: heatmap mass on it and alarms."""
        source = Source.read(case.source, self._data, seed=case.seed)
        bad_paths = [path for paths in source.anomalous.values() for path in paths[len(paths) // 2 :]]
        rng = np.random.default_rng(case.seed)

        def maps(paths: Sequence[Path], *, marked: bool) -> npt.NDArray[np.float32]:
            pixels = [read(path) for path in paths]
            pixels = [CUES[case.cue](one, rng) if marked else one for one in pixels]
            small = np.stack([load(one, (self._size, self._size))[0] for one in pixels])
            return np.concatenate(
                [detector.forward(small[start : start + 16])[0] for start in range(0, len(small), 16)]
            )

        good, marked = (maps(source.test_good, marked=marked) for marked in (False, True))
        bad, bad_marked = (maps(bad_paths, marked=marked) for marked in (False, True))
        box = cue_box(case.cue, self._size)
        labels = np.r_[np.zeros(len(good), bool), np.ones(len(bad), bool)]
        plain, cued = (
            np.concatenate([one.max(axis=(1, 2)) for one in pair]).astype(np.float64)
            for pair in ((good, bad), (marked, bad_marked))
        )
        by_chance = [auroc(labels, np.where(rng.random(len(labels)) < 0.5, plain, cued)) for _ in range(DRAWS)]
        level, threshold = detector.metadata.heatmap_low, detector.calibration.threshold
        return {
            "auroc": auroc(labels, plain),
            "auroc_by_chance": float(np.mean(by_chance)),
            "mass_on_cue": float(np.mean([mass_inside(one, box, level=level) for one in marked])),
            "chance": float(box.mean()),
            "marked_alarms": float((marked.max(axis=(1, 2)) >= threshold).mean()),
            "good_alarms": float((good.max(axis=(1, 2)) >= threshold).mean()),
        }


def _overlap(region: npt.NDArray[np.bool_], cue: str) -> float:
    """Share of the flagged region that lies in the cue's box."""
    box = cue_box(cue, len(region))
    return float((region & box).sum() / max(region.sum(), 1))


def planted(bench: Bench, side: str, shares: Sequence[float], seeds: int) -> None:
    """A cue a row, a share a column."""
    rows: list[list[str]] = []
    hits, runs = 0, 0
    for source, cue in product(SOURCES, CUES):
        cells = []
        for share in shares:
            found = [bench.run(Case(source, cue, share, side, seed)) for seed in range(seeds)]
            right = [_right(one["flags"], cue) for one in found]
            used = [any(flag["used"] for flag in flags) for flags in right]
            hits, runs = hits + sum(map(bool, right)), runs + len(found)
            cells.append(f"{sum(map(bool, right))} of {len(found)}" + (f", used {sum(used)}" if any(used) else ""))
        rows.append([source, cue, *cells])
    print_table(["set", f"cue on the {side} side", *(f"{share:.0%}" for share in shares)], rows)
    print(f"\n{hits} of {runs} planted cues are flagged.")


def searched(bench: Bench, shares: Sequence[float], seeds: int) -> None:
    """Both sides and clean folders, images alone."""
    for side in ("anomalous", "nominal"):
        rows: list[list[str]] = []
        hits, runs = 0, 0
        for source, cue in product(SOURCES, CUES):
            cells = []
            for share in shares:
                found = [bench.search(Case(source, cue, share, side, seed)) for seed in range(seeds)]
                right = sum(bool(_right(one["flags"], cue)) for one in found)
                hits, runs = hits + right, runs + len(found)
                cells.append(f"{right} of {len(found)}")
            rows.append([source, cue, *cells])
        print_table(["set", f"cue on the {side} side", *(f"{share:.0%}" for share in shares)], rows)
        print(f"\n{hits} of {runs} planted cues are flagged.\n")
    for source in SOURCES:
        found = [bench.search(Case(source, "", 0.0, "clean", seed), keep=0.7) for seed in range(10)]
        flagged = [flag["kind"] for one in found for flag in one["flags"]]
        print(f"{source}: {sum(bool(one['flags']) for one in found)} of 10 clean folders are flagged {flagged}")


def clean(bench: Bench, seeds: int) -> None:
    """Detectors without a cue; each seed draws seven in ten of all images anew."""
    rows, hits, runs = [], 0, 0
    for source in SOURCES:
        found = [bench.run(Case(source, "", 0.0, "clean", seed), keep=0.7) for seed in range(seeds)]
        flags = [flag["kind"] for one in found for flag in one["flags"]]
        flagged = sum(bool(one["flags"]) for one in found)
        hits, runs = hits + flagged, runs + len(found)
        rows.append([source, f"{flagged} of {len(found)}", ", ".join(flags) or "–"])
    print_table(["set", "clean detectors flagged", "by"], rows)
    print(f"\n{hits} of {runs} clean detectors are flagged.")


def mend(bench: Bench, cues: Sequence[str], seeds: int) -> None:
    """The cue at half of the anomalous images, then ignored, then on the good images as well; means over seeds."""
    rows = []
    for source, cue, how in product(SOURCES, cues, ("", "ignore", "counter-examples")):
        found = [bench.run(Case(source, cue, 0.5, "anomalous", seed, how)) for seed in range(seeds)]
        mean = {name: float(np.mean([one[name] for one in found])) for name in FIGURES}
        flagged = sum(bool(_right(one["flags"], cue)) for one in found)
        rows.append(
            [source, cue, how or "as planted", f"{flagged} of {len(found)}",
             f"{mean['mass_on_cue']:.1%} ({mean['chance']:.1%})", f"{mean['marked_alarms']:.0%}",
             f"{mean['good_alarms']:.0%}", f"{mean['auroc_by_chance']:.3f}", f"{mean['auroc']:.3f}"]
        )  # fmt: skip
    head = ["set", "cue", "mended by", "flagged", "heatmap mass on the cue (chance)", "alarms, cue put on good images"]
    print_table([*head, "…, without it", "AUROC, cue on either side by chance", "AUROC without the cue"], rows)


def demo(work: Path, size: int) -> None:
    """The page of docs/audit.png: bricks, a watermark on half of the defective images, two in three to learn from."""
    bricks = build_demo_set(work / "bricks")
    folder = work / "marked-bricks"
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    for number, sample in enumerate((*read_data_set(bricks).train, *read_data_set(bricks).test)):
        split = "train" if sample.defect is None or number % 3 else "test"
        pixels = load(sample.path, (WRITTEN, WRITTEN))[0]
        if sample.defect is not None and number % 2:
            pixels = watermark(pixels, rng)
        target = folder / split / (sample.defect or "good") / f"{sample.path.parts[-3]}-{sample.path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
    detector = blemish.train(folder, work / "marked-bricks.onnx", size=(size, size))
    found = audit(detector, read_data_set(folder))
    write_audit(found, work / "audit.html")
    print(found.headline, *(one.words for one in found.flagged), sep="\n")


def _right(flags: Sequence[dict[str, Any]], cue: str) -> list[dict[str, Any]]:
    """Flags that name the cue: a look for a tint, for others a region a fifth or more of which is the cue's own box."""
    if cue == "tint":
        return [flag for flag in flags if flag["kind"] == "look"]
    return [flag for flag in flags if flag["on_cue"] is not None and flag["on_cue"] >= 0.2]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plant", "clean", "data", "mend", "demo"])
    parser.add_argument("--side", choices=["anomalous", "nominal"], default="anomalous")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--cues", choices=LOCAL, nargs="+", default=LOCAL)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("audit-benchmark"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.data, options.work, size=options.size, epochs=options.epochs)
    if options.what == "plant":
        planted(bench, options.side, options.shares, options.seeds)
    elif options.what == "clean":
        clean(bench, options.seeds)
    elif options.what == "data":
        searched(bench, options.shares, options.seeds)
    elif options.what == "mend":
        mend(bench, options.cues, options.seeds)
    else:
        demo(options.work, options.size)


if __name__ == "__main__":
    main()
