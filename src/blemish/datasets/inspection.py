"""Doctor: opens every image of a data set and says what it holds, what is wrong and how it would be used."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blemish.datasets.duplicates import digest as look_of
from blemish.datasets.duplicates import first_of_each
from blemish.datasets.few_images import FEW, advice
from blemish.datasets.groups import suggest
from blemish.datasets.layouts import DataSet, Folders, Layout, Sample, Split
from blemish.datasets.mask_warnings import MaskCensus
from blemish.datasets.near_duplicates import MAX_IMAGES, find, thumbnail
from blemish.datasets.network_size import DISTORTED, Shape
from blemish.datasets.sampling import evenly
from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.images import read_picture
from blemish.imaging.masks import MaskFacts, mask_files, read_mask_with_notes
from blemish.imaging.reading import Reading
from blemish.imaging.survey import DepthSurvey, survey_depth
from blemish.io.files import fingerprint
from blemish.io.text import counted, list_some, one_line, printable
from blemish.process.progress import Progress, no_progress
from blemish.process.threads import readers

Severity = Literal["error", "warning", "note"]

MIN_NOMINAL = 2  # one to learn from and one to calibrate on
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_FLAT_RANGE = 16  # grey levels
_TOLD_ONE_BY_ONE = 5
_TITLES: dict[Layout, str] = {
    "mvtec": "MVTec layout",
    "flat": "flat layout",
    "nominal-anomalous": "nominal/anomalous layout",
    "one-vs-rest": "one-versus-rest layout",
    "reference": "reference layout",
    "masks": "images whose masks say what is defective",
    "visa": "VisA layout",
    "named": "folders named by hand",
}


@dataclass(frozen=True)
class Problem:
    """A fault of the data: an "error" prevents training, a "warning" spoils a result, a "note" informs."""

    severity: Severity
    message: str
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds of files that can be read.

    Attributes:
        nominal: good images.
        defects: defective images by type.
        masks: their masks by type.
        description: colours and sizes in words.
        unreadable: images that cannot be read, which count nowhere else.
    """

    nominal: int
    defects: dict[str, int]
    masks: dict[str, int]
    description: str
    unreadable: int = 0

    @property
    def anomalous(self) -> int:
        """Images of all defects."""
        return sum(self.defects.values())

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the sums."""
        return {
            "images": self.nominal + self.anomalous,
            "nominal": self.nominal,
            "anomalous": self.anomalous,
            "defects": self.defects,
            "masks": self.masks,
            "description": self.description,
        }


@dataclass(frozen=True)
class Diagnosis:
    """What `examine` found; `supervision` says in one line what training would learn from.

    `network_size` (height, width) is the one that training takes by itself.
    """

    root: Path
    layout: Layout
    nominal_class: str | None
    train: SplitSummary
    test: SplitSummary
    problems: tuple[Problem, ...]
    supervision: str
    folders: Folders = field(default_factory=Folders)
    network_size: tuple[int, int] = (256, 256)

    @property
    def masks(self) -> dict[str, int]:
        """Masks of anomalous images, by split."""
        return {"train": sum(self.train.masks.values()), "test": sum(self.test.masks.values())}

    @property
    def ready(self) -> bool:
        """Whether nothing prevents training."""
        return not self._errors

    @property
    def command(self) -> str:
        """The command line that trains on this folder."""
        name = self.root.resolve().name or "detector"
        words = ["blemish", "train", *(self.folders.as_words() or [_as_folder(self.root)])]
        if self.nominal_class is not None:
            words += ["--nominal-class", self.nominal_class]
            name += f"-{self.nominal_class}"
        return shlex.join([*words, "-o", f"{name}.onnx"])

    def as_json(self) -> dict[str, Any]:
        """The whole diagnosis as JSON values."""
        return {
            "root": printable(self.root),
            "layout": self.layout,
            "nominal_class": self.nominal_class,
            "train": self.train.as_json(),
            "test": self.test.as_json(),
            "masks": self.masks,
            "unreadable": {"train": self.train.unreadable, "test": self.test.unreadable},
            "network_size": list(self.network_size),
            "problems": [
                {"severity": one.severity, "message": one.message, "paths": [printable(path) for path in one.paths]}
                for one in self.problems
            ],
            "ready": self.ready,
            "supervision": self.supervision,
            "command": self.command if self.ready else None,
        }

    def as_text(self) -> str:
        """The whole diagnosis as a few lines to read."""
        title = f"{_as_folder(self.root)}  {_TITLES[self.layout]}"
        if self.nominal_class is not None:
            title += f", nominal class {self.nominal_class}"
        labelled = counted(self.train.anomalous, "labelled defect")
        defective = f"{self.test.anomalous:,} defective" if self.test.defects else "no defective"
        # A test split like the training split needs no description of its own; an odd one does.
        alike = self.test.description == self.train.description
        test = replace(self.test, description="") if alike else self.test
        width = max(len(f"{split.nominal:,}") for split in (self.train, test))
        at_size = (
            "" if self.network_size == (256, 256) else ", at {} x {} px (height x width)".format(*self.network_size)
        )
        verdict = ("not ready:", f"mend the {counted(self._errors, 'error')} first")
        rows = [
            ("train", _in_words(self.train, labelled, width=width)),
            ("test", _in_words(test, defective, width=width)),
            *((problem.severity, problem.message) for problem in self.problems),
            ("use", self.supervision + at_size),
            ("ready", self.command) if self.ready else verdict,
        ]
        return "\n".join(map(one_line, [title, *(f"  {label:<7} {text}" for label, text in rows)]))

    @property
    def _errors(self) -> int:
        return sum(len(problem.paths) or 1 for problem in self.problems if problem.severity == "error")


@dataclass(frozen=True)
class _Finding:
    """What one opened image showed; `size` is (width, height), and None where it cannot be read.

    `digest` is that of the file, `look` that of the pixels; `small` is there of those compared for near duplicates.
    """

    sample: Sample
    split: Split
    fault: str | None = None
    size: tuple[int, int] | None = None
    grey: bool = False
    flat: bool = False
    digest: str | None = None
    look: bytes | None = None
    mask_fault: str | None = None
    remarks: tuple[str, ...] = ()
    frames: int = 1
    mask: MaskFacts | None = None
    small: npt.NDArray[np.uint8] | None = None

    @property
    def marked(self) -> bool:
        """Whether there is a mask which can be read and marks something."""
        return self.mask is not None and self.mask.share > 0


def examine(data: DataSet, *, progress: Progress = no_progress) -> Diagnosis:
    """Opens every image and mask; `progress` is called with "opening images", the images done and all.

    Faults of the data raise nothing: they are the diagnosis.
    """
    samples = [*data.train, *data.test]
    splits: list[Split] = ["train" for _ in data.train]
    splits += ["test" for _ in data.test]
    depth = survey_depth(sample.path for sample in data.train)
    compared = set(evenly([sample.path for sample in data.train if not sample.anomalous], MAX_IMAGES))
    findings = []
    with ThreadPoolExecutor(readers()) as pool:
        for finding in pool.map(partial(_open, reading=depth.reading, compared=compared), samples, splits):
            findings.append(finding)
            progress("opening images", len(findings), len(samples))
    problems = [
        *_amounts(data, findings),
        *_unusable(findings),
        *_odd_masks(findings, data.root),
        *_identical(findings, data.root),
        *_grouped(findings, data.root),
        *_flat(findings, data.root),
        *_remarks(findings),
        *_several_frames(findings, data.root),
        *_depth(depth),
        *_shapes(findings),
        *_without_mask(data),
        *(Problem("warning", one.message, one.paths) for one in data.warnings),
        *(Problem("note", note) for note in data.notes),
    ]
    return Diagnosis(
        root=data.root,
        layout=data.layout,
        nominal_class=data.nominal_class,
        train=_summary(finding for finding in findings if finding.split == "train"),
        test=_summary(finding for finding in findings if finding.split == "test"),
        problems=tuple(sorted(problems, key=lambda problem: _SEVERITIES.index(problem.severity))),
        supervision=_supervision(_summary(finding for finding in findings if finding.split == "train")),
        folders=data.folders,
        network_size=_shape([finding for finding in findings if _teaches(finding)]).network_size(),
    )


def _open(sample: Sample, split: Split, *, reading: Reading, compared: Collection[Path]) -> _Finding:
    try:
        picture = read_picture(sample.path, reading)
        digest = fingerprint(sample.path)
    except BlemishError as error:
        return _Finding(sample, split, fault=str(error))
    image = picture.image.convert("RGB")
    pixels = np.asarray(image)  # (H, W, 3)
    grey = bool((pixels == pixels[:, :, :1]).all())
    flat = int(np.ptp(pixels, axis=(0, 1)).max()) < _FLAT_RANGE
    found = _Finding(
        sample,
        split,
        size=image.size,
        grey=grey,
        flat=flat,
        digest=digest,
        look=look_of(pixels),
        remarks=picture.losses,
        frames=picture.frames,
        small=thumbnail(image) if split == "train" and sample.path in compared else None,
    )
    if sample.mask is None:
        return found
    try:
        mask = read_mask_with_notes(sample.mask, size=pixels.shape[:2])
    except ImageError as error:
        return replace(found, mask_fault=str(error))
    return replace(found, mask=mask.facts)


def _amounts(data: DataSet, findings: Sequence[_Finding]) -> Iterator[Problem]:
    nominal, copies = _distinct(findings)
    if nominal < MIN_NOMINAL:
        held = counted(nominal, "distinct good training image" if copies else "good training image")
        yield Problem("error", f"{held}: training needs at least {MIN_NOMINAL}, better {FEW} or more")
    elif nominal < FEW:
        few = f"few training images: {nominal} good ones, {FEW} or more are better"
        promised = advice(nominal)
        yield Problem("note", f"{few}; {promised}" if promised else few)
    if not data.test:
        yield Problem("note", "no test images: there is nothing to evaluate on")
    elif not any(sample.anomalous for sample in data.test):
        yield Problem("note", "no defective test images: an evaluation can only count false alarms")
    elif all(sample.anomalous for sample in data.test):
        yield Problem("note", "no good test images: an evaluation cannot count false alarms")


def _unusable(findings: Sequence[_Finding]) -> Iterator[Problem]:
    """Images and masks that cannot be read, and masks of another shape than their image."""
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        # Training reads all its images; a test image that cannot be read is only missing from the test.
        severity: Severity = "error" if split == "train" else "warning"
        here = [finding for finding in findings if finding.split == split]
        faults = [(one.sample.path, one.fault) for one in here if one.fault]
        faults += [
            (mask_files(one.sample.mask)[0], one.mask_fault) for one in here if one.sample.mask and one.mask_fault
        ]
        for path, fault in faults[:_TOLD_ONE_BY_ONE]:
            yield Problem(severity, fault, (path,))
        if rest := tuple(path for path, _ in faults[_TOLD_ONE_BY_ONE:]):
            yield Problem(severity, f"{counted(len(rest), 'more file')} in {split} cannot be used", rest)


def _odd_masks(findings: Sequence[_Finding], root: Path) -> Iterator[Problem]:
    """Empty and inverted masks and such."""
    census = MaskCensus(root)
    for one in findings:
        if one.sample.mask is not None and one.mask is not None:
            census.add(one.sample.mask, one.mask)
    yield from (Problem(found.severity, found.message, found.paths) for found in census.findings())


def _identical(findings: Sequence[_Finding], root: Path) -> Iterator[Problem]:
    """Copies of files, and files of other bytes that show the same pixels."""
    by_digest, by_look = defaultdict(list), defaultdict(list)
    for one in findings:
        if one.digest:
            by_digest[one.digest].append(one)
        if one.look:
            by_look[one.look].append(one)
    distinct, copies = _distinct(findings)
    once = f"; training counts them once: {distinct:,} of {distinct + copies:,} good images are distinct"
    yield from _copies(list(by_digest.values()), "byte-identical", root, once)
    resaved = [group for group in by_look.values() if len({one.digest for one in group}) > 1]
    yield from _copies(resaved, "pixel-identical", root, once)


def _copies(groups: Sequence[Sequence[_Finding]], alike: str, root: Path, once: str) -> Iterator[Problem]:
    groups = [group for group in groups if len(group) > 1]
    leaked = _members(group for group in groups if {one.split for one in group} == {"train", "test"})
    if leaked:
        yield Problem(
            "warning",
            f"{counted(len(leaked), 'image')} {alike} across train and test, where a test proves "
            f"nothing; keep one of each: {_names(leaked, root)}",
            leaked,
        )
    if torn := _members(group for group in groups if len({one.sample.anomalous for one in group}) == 2):
        yield Problem(
            "warning",
            f"{counted(len(torn), 'image')} {alike} yet both good and defective: {_names(torn, root)}",
            torn,
        )
    training = [[one for one in group if one.split == "train"] for group in groups]
    repeated = [group for group in training if len(group) > 1]
    if copies := _members(repeated):
        held = f"{len(copies):,} training images are {alike}"
        if len(repeated) > 1:
            held += f" in {len(repeated):,} groups"
        good = any(sum(_teaches(one) for one in group) > 1 for group in repeated)
        yield Problem("note", f"{held}: {_names(copies, root)}{once if good else ''}", copies)


def _grouped(findings: Sequence[_Finding], root: Path) -> Iterator[Problem]:
    """Good training images that seem to come in groups: many are nearly the same as another one."""
    known = [one for one in findings if one.small is not None and _teaches(one)]
    distinct, _ = first_of_each((number, one.look) for number, one in enumerate(known))
    paths = [known[number].sample.path for number in distinct]
    found = find([small for number in distinct if (small := known[number].small) is not None])
    if not found.suspicious:
        return
    pattern = suggest(paths, root, found.pairs)
    option = f"--groups {shlex.quote(pattern)}" if pattern else "--groups FILE.csv, a table of columns path and group"
    one, other = found.pairs[0]
    yield Problem(
        "warning",
        f"{len(found.pairs):,} of {counted(found.asked, 'good training image')} looked at "
        f"{'is' if len(found.pairs) == 1 else 'are'} nearly the same as another one, such as "
        f"{_names([paths[one], paths[other]], root)}: where they show one part, more new images are called anomalous "
        f"than promised, unless training keeps them together by {option}",
        tuple(dict.fromkeys(paths[number] for pair in found.pairs for number in pair)),
    )


def _shapes(findings: Sequence[_Finding]) -> Iterator[Problem]:
    """Good training images of several shapes, and others of another shape than these."""
    good = [one for one in findings if _teaches(one)]
    shape = _shape(good)
    height, width = shape.network_size()
    if remark := shape.remark((height, width)):
        odd = tuple(one.sample.path for one in good if _distorted(one, height / width))
        yield Problem("note", remark, odd)
    others = [one for one in findings if one.size and (one.split == "test" or one.sample.anomalous)]
    # Where good images have several shapes, the note above has said what becomes of any.
    if good and shape.is_one and (odd := tuple(one.sample.path for one in others if _distorted(one, shape.ratio))):
        held = counted(len(odd), "defective or test image")
        yield Problem("note", f"{held} of another shape than the good training images: training sees none like it", odd)


def _distinct(findings: Sequence[_Finding]) -> tuple[int, int]:
    """The number of distinct good training images, and of those that are copies; what cannot be read is distinct."""
    good = [one for one in findings if _teaches(one)]
    distinct, _ = first_of_each((number, one.look or number) for number, one in enumerate(good))
    return len(distinct), len(good) - len(distinct)


def _teaches(one: _Finding) -> bool:
    return one.split == "train" and not one.sample.anomalous


def _shape(findings: Sequence[_Finding]) -> Shape:
    return Shape.of([(one.size[1], one.size[0]) for one in findings if one.size])


def _distorted(one: _Finding, ratio: float) -> bool:
    if one.size is None:
        return False
    own = one.size[1] / one.size[0]
    return max(own / ratio, ratio / own) > DISTORTED


def _flat(findings: Sequence[_Finding], root: Path) -> Iterator[Problem]:
    flat = tuple(one.sample.path for one in findings if one.flat)
    if flat:
        yield Problem(
            "warning",
            f"{counted(len(flat), 'image')} nearly blank, with fewer than {_FLAT_RANGE} of 256 grey levels: "
            f"{_names(flat, root)}",
            flat,
        )


def _remarks(findings: Sequence[_Finding]) -> Iterator[Problem]:
    """What is lost in reading images by the depth of the training images."""
    lossy = [one for one in findings if one.remarks]
    for one in lossy[:_TOLD_ONE_BY_ONE]:
        yield Problem("warning", "; ".join(one.remarks), (one.sample.path,))
    if rest := tuple(one.sample.path for one in lossy[_TOLD_ONE_BY_ONE:]):
        yield Problem("warning", f"{counted(len(rest), 'more image')} cannot be read in full", rest)


def _several_frames(findings: Sequence[_Finding], root: Path) -> Iterator[Problem]:
    several = tuple(one.sample.path for one in findings if one.frames > 1)
    if several:
        held = f"{counted(len(several), 'image')} with several frames, of which only the first is used"
        yield Problem("warning", f"{held}; save the others as files of their own: {_names(several, root)}", several)


def _depth(depth: DepthSurvey) -> Iterator[Problem]:
    """The bits of 16-bit images, as training will find them."""
    yield from (Problem("warning", sentence, paths) for sentence, paths in depth.warnings())
    if depth.statement is not None and not depth.narrow:  # else a warning says so
        yield Problem("note", depth.statement, tuple(depth.largest))


def _without_mask(data: DataSet) -> Iterator[Problem]:
    if data.layout == "one-vs-rest":  # another class is anomalous as a whole: nobody draws masks of that
        return
    for split, samples in (("training", data.train), ("test", data.test)):
        anomalous = [sample for sample in samples if sample.anomalous]
        bare = tuple(sample.path for sample in anomalous if sample.mask is None)
        if bare:
            told = f"{len(bare):,} of {len(anomalous):,} defective {split} images have no mask"
            yield Problem("note", f"{told}: {_names(bare, data.root)}", bare)


def _members(groups: Iterable[Sequence[_Finding]]) -> tuple[Path, ...]:
    return tuple(one.sample.path for group in groups for one in group)


def _names(paths: Sequence[Path], root: Path) -> str:
    return list_some([(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths])


def _summary(findings: Iterable[_Finding]) -> SplitSummary:
    every = list(findings)
    findings = [one for one in every if not one.fault]
    labels = [one.sample.defect for one in findings if one.sample.defect is not None]
    masked = [one for one in findings if one.marked]
    return SplitSummary(
        nominal=len(findings) - len(labels),
        defects=dict(Counter(labels)),
        masks=dict(Counter(one.sample.defect for one in masked if one.sample.defect is not None)),
        description=_description(findings),
        unreadable=len(every) - len(findings),
    )


def _description(findings: Sequence[_Finding]) -> str:
    """Such as "grey, 384 x 384" (width x height) or "2 grey, 9 colour, 3 sizes, 64 x 64 to 90 x 80"."""
    sizes = sorted({one.size for one in findings if one.size}, key=lambda size: (size[0] * size[1], size))
    if not sizes:
        return ""
    grey = sum(one.grey for one in findings if one.size)
    colour = sum(not one.grey for one in findings if one.size)
    words = f"{grey:,} grey, {colour:,} colour" if grey and colour else "grey" if grey else "colour"
    smallest, largest = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
    if len(sizes) == 1:
        return f"{words}, {smallest}"
    return f"{words}, {len(sizes):,} sizes, {smallest} to {largest}"


def _supervision(train: SplitSummary) -> str:
    masks = sum(train.masks.values())
    if not train.anomalous:
        return "good images only"
    if not masks:
        return "labelled defects"
    return f"masks for {masks:,} of {counted(train.anomalous, 'labelled defect')}"


def _in_words(split: SplitSummary, anomalous: str, *, width: int) -> str:
    if not split.nominal + split.anomalous:
        return f"no images, {split.unreadable:,} unreadable" if split.unreadable else "no images"
    words = f"{split.nominal:>{width},} good, {anomalous}"
    if split.defects:
        words += f" in {counted(len(split.defects), 'type')}, {counted(sum(split.masks.values()), 'mask')}"
    words += f", {split.unreadable:,} unreadable" * bool(split.unreadable)
    return f"{words}  ({split.description})" if split.description else words


def _as_folder(path: Path) -> str:
    return path.as_posix().rstrip("/") + "/"
