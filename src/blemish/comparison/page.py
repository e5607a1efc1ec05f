"""The page of a comparison: its content, gathered from the records and the model files."""

import platform
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markupsafe import Markup

from blemish.comparison.differences import Difference
from blemish.comparison.disagreement import Disagreement, disagreements, first_of_each
from blemish.comparison.measuring import name_of
from blemish.comparison.records import Journal, Run
from blemish.comparison.synthetic_tests import CONFETTI, PERLIN, TRANSPLANT
from blemish.comparison.table import MethodRow, cells, headings, kinds_of, of_kind
from blemish.datasets.layouts import DataSet
from blemish.evaluation.figures import all_figures
from blemish.io.text import counted, printable
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage, ScoredImage
from blemish.process.progress import Progress
from blemish.report.compare_page import (
    MAX_BYTES,
    TAGS,
    ComparedImage,
    IntervalRow,
    compared_image,
    interval_plot,
    write_comparison,
)
from blemish.report.gallery import MAX_BYTES as MAX_PICTURE_BYTES
from blemish.training.config import TrainConfig

PAGE_NAME = "compare.html"
PACKAGES = ("blemish", "torch", "timm", "onnxruntime", "numpy", "Pillow")
PLOTTED = "image_auroc"
KINDS = {
    CONFETTI: "confetti (blurred spots in any colour)",
    PERLIN: "perlin (patches with the image's own texture, mixed up)",
    TRANSPLANT: "transplanted (labelled defects, set into good images)",
}


def write_page_of(
    journal: Journal,
    runs: Sequence[Run],
    rows: Sequence[MethodRow],
    found: Sequence[Difference],
    *,
    tests: Mapping[int, DataSet],
    data: DataSet,
    config: TrainConfig,
    warnings: Sequence[str],
    progress: Progress,
) -> Path:
    """Writes compare.html.

    Args:
        journal: of the comparison.
        runs: all that were asked for, one at least with a model.
        rows, found: what is shown of them.
        tests: the test images of each seed.
        data: the folder.
        config: of the trainings.
        warnings: what a reader has to know first, a sentence each.
        progress: called with the stage "page", the methods done and all.

    Raises:
        BlemishError: an image is gone or has changed, or the page cannot be written.
    """
    shown = first_of_each(runs)
    differing = disagreements(shown)
    cards = _cards(journal, shown, differing, tests=tests, config=config, progress=progress)
    kinds = kinds_of(rows)
    first = next(iter(shown.values()))
    methods = [row.method for row in rows]
    path = journal.folder / PAGE_NAME
    write_comparison(
        path,
        data=printable(data.root.resolve().name),
        date=date.today().isoformat(),
        methods=methods,
        seeds=sorted({run.seed for run in runs}),
        shown_seed=first.seed,
        images={
            "good": sum(not image.anomalous for image in first.images),
            "defective": sum(image.anomalous for image in first.images),
        },
        warnings=warnings,
        headings=headings(),
        rows=[{"method": row.method, "cells": cells(row)} for row in rows],
        failures=[f"{run} has no figures: {run.failed}." for run in runs if run.failed is not None],
        calibration_statement=first.calibration_statement,
        plot=_plot(rows),
        differences=found,
        kinds=[
            {"name": printable(kind), "images": number, "cells": [of_kind(row, kind) for row in rows]}
            for kind, number in kinds.items()
            if len(kinds) > 1
        ],
        cards=cards,
        counts={tag: sum(tag in card.tags.split() for card in cards) for tag in TAGS},
        columns=2 + len(shown),
        no_cards=(
            "– the methods rank all images alike and give the same verdicts"
            if len(shown) > 1
            else "– there are no two methods with a model to compare"
        ),
        models=[
            {"file": journal.model(run.method, run.seed).name, "supervision": run.supervision}
            for run in runs
            if run.failed is None
        ],
        options={name: value for name, value in config.as_record().items() if name not in ("method", "seed")},
        versions={name: version(name) for name in PACKAGES if find_spec(name.replace("Pillow", "PIL"))}
        | {"Python": platform.python_version()},
    )
    return path


def _cards(
    journal: Journal,
    shown: Mapping[str, Run],
    differing: Sequence[Disagreement],
    *,
    tests: Mapping[int, DataSet],
    config: TrainConfig,
    progress: Progress,
) -> list[ComparedImage]:
    """The images on which the methods differ most, scored again for their heatmaps."""
    if not differing:
        return []
    samples = {}
    for run in shown.values():
        samples.update({name_of(sample.path, tests[run.seed]): sample for sample in tests[run.seed].test})
    paths = [samples[image.path].path for image in differing]
    views: list[dict[str, Any]] = [{} for _ in differing]
    reading = None
    for number, (method, run) in enumerate(shown.items()):
        detector = Detector.load(
            journal.model(method, run.seed),
            false_alarm_rate=config.false_alarm_rate,
            ignore_mask=ignore_folder(config),
        )
        reading = reading or detector.reading
        for view, result in zip(views, detector.predict_iter(paths), strict=True):
            view[method] = (result, detector.scale)
        progress("page", number + 1, len(shown))
    assert reading is not None
    budget = MAX_BYTES // (len(differing) * (1 + len(shown)))
    return [
        compared_image(
            samples[image.path],
            view,
            reading,
            beside={method for method, result in image.of.items() if result.peak_inside is False},
            max_bytes=min(budget, MAX_PICTURE_BYTES),
        )
        for image, view in zip(differing, views, strict=True)
        if not _failed(view)
    ]


def _failed(view: Mapping[str, tuple[ScoredImage | FailedImage, Any]]) -> bool:
    return any(isinstance(result, FailedImage) for result, _ in view.values())


def _plot(rows: Sequence[MethodRow]) -> Markup | None:
    """Image AUROC with its intervals; None where no method has one."""
    label = next(figure.label for figure in all_figures() if figure.name == PLOTTED)
    lines = []
    for row in rows:
        summary = row.figures.get(PLOTTED)
        if summary is not None and summary.mean is not None:
            values = [run.figures[PLOTTED] for run in row.runs if run.figures.get(PLOTTED) is not None]
            lines.append(IntervalRow(row.method, summary.mean, values, summary.interval))
    return interval_plot(lines, label=label) if lines else None


def ignore_folder(config: TrainConfig) -> Path | None:
    """The folder of ignore masks, if there is one: a single mask is in the model file."""
    return config.ignore_mask if config.ignore_mask is not None and config.ignore_mask.is_dir() else None


def warnings_of(
    *, kinds: Sequence[str], from_calibration: bool, images: int, config: TrainConfig, transplanted: bool
) -> list[str]:
    """What has to be known before figures on synthetic defects are read, a sentence or two each.

    Args:
        kinds: of the defects.
        from_calibration: whether the good images are those that calibrate.
        images: how many good ones.
        config: of the trainings.
        transplanted: whether labelled defects were set into the good images.
    """
    good = counted(images, "calibration image" if from_calibration else "good test image")
    sentences = [
        "The defects are synthetic. There is no defective image in the test split, so defects were made by program in "
        f"{good}: {', '.join(KINDS[kind] for kind in kinds)}. The figures show which method finds such changes. They "
        "do not show which one finds the defects of your parts, nor how many of them: put images of real defects into "
        "test/<defect> before you choose. Intervals are somewhat too narrow: each good image has several copies."
    ]
    if from_calibration:
        sentences.append(
            "There is no good test image either: the good images are those that calibrate the models of a seed. No "
            "model is fitted to them, but they set the threshold: their false-alarm rate would be the asked one by "
            "construction, and is left out."
        )
    if transplanted:
        sentences.append("The transplanted defects are labelled ones, which the models have learned from.")
    if config.synthetic in kinds:
        sentences.append(f"The models have learned from {config.synthetic}, which is one of the kinds here.")
    return sentences
