"""Every decision that is made before anything is learned: who learns, who calibrates, what is aligned, what is said."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blemish.datasets.few_images import advice
from blemish.datasets.groups import below
from blemish.datasets.splits import Group, Split, SplitSizes, fold_nominal, members_of, split_nominal
from blemish.imaging.ignore_mask import IgnoreMask
from blemish.io.text import counted
from blemish.training.config import TrainConfig
from blemish.training.data import Notify, TrainingImages
from blemish.training.method import synthetic_anomaly_of
from blemish.training.plan import AlignmentPlan, DetectorPlan, NetworkPlan
from blemish.training.steps.alignment import AlignmentDecision, decide_alignment

ALIGNED = (
    "parts lie in any direction on a plain background: each is turned upright, and what lies in the background "
    "counts for less; align=False (--no-align) takes images as they are"
)


@dataclass(frozen=True, eq=False)
class Preparation:
    """What is to be learned, and from what.

    Attributes:
        plan: the decisions, as plain values.
        images: what was read.
        splits: who learns and who calibrates, of each network: places in `images.nominal`.
        alignments: how each network turns parts upright.
        members: the nominal images in groups, as places in `images.nominal`.
    """

    plan: DetectorPlan
    images: TrainingImages
    splits: Sequence[Split]
    alignments: Sequence[AlignmentDecision]
    members: Sequence[Group]

    def roles(self) -> dict[str, tuple[int, ...]]:
        """What becomes of the images, as indices of all that were read; those that calibrate are in their order."""
        nominal, splits = self.images.nominal, self.splits
        parts = {
            "fit": sorted({place for split in splits for place in split.fit}),
            "validation": [place for split in splits if len(splits) == 1 for place in split.validation],
            "calibration": [place for split in splits for place in split.calibration],
        }
        roles = {role: tuple(nominal[place] for place in places) for role, places in parts.items()}
        return roles | {"labelled": tuple(self.images.labelled)}

    def files_by_role(self) -> dict[str, list[str]]:
        """The same as paths below the data folder."""
        samples, root = self.images.pixels.samples, self.images.data_set.root
        return {role: [below(samples[index].path, root) for index in part] for role, part in self.roles().items()}


def prepare(images: TrainingImages, config: TrainConfig, *, notify: Notify) -> Preparation:
    """Decides everything that can be decided from the images alone; `notify` gets what a user should know.

    Raises:
        BlemishError: there are too few images, or groups of them.
    """
    sources = defect_sources(images, config)
    if images.grouping:
        notify(images.grouping.statement(images.files, images.data_set.root))
    splits = _splits(images, config, validate=bool(sources))
    members = members_of(images.groups, len(images.nominal))
    may_cross = config.cross_conformal is None and (images.ignore is None or images.ignore.everywhere)
    few = advice(
        len(members),
        false_alarm_rate=config.false_alarm_rate,
        grouped=images.grouping is not None,
        sizes=split_sizes(config),
    )
    if few and may_cross:
        notify(f"few good images: {few}")
    if images.ignored:
        notify(f"{counted(images.ignored, 'labelled defect')} left out: all of it is ignored")
    alignments = []
    for number, split in enumerate(splits):
        alignments.append(_alignment(images, split, config))
        if alignments[-1].fitted is not None:
            notify(ALIGNED if len(splits) == 1 else f"fold {number + 1}: {ALIGNED}")
    plan = _plan(images, config, splits, alignments, sources=sources, advice=few if may_cross else None)
    return Preparation(plan, images, splits, alignments, members)


def defect_sources(images: TrainingImages, config: TrainConfig) -> tuple[str, ...]:
    """The anomalous images that are learned from, in words; empty where there are none."""
    sources = []
    if images.labelled:
        sources.append(f"{counted(len(images.labelled), 'labelled defect')} ({counted(images.masks, 'mask')})")
    if config.outlier_exposure is not None:
        sources.append(f"outlier exposure ({config.outlier_exposure.name})")
    synthetic = synthetic_anomaly_of(config, labelled=bool(images.labelled))
    if synthetic != "none":
        sources.append(f"synthetic anomalies ({synthetic})")
    return tuple(sources)


def split_sizes(config: TrainConfig) -> SplitSizes:
    """How many nominal images calibrate and validate."""
    split = config.split
    return SplitSizes(
        calibration_share=split.calibration_share,
        max_calibration=split.max_calibration,
        validation_share=split.validation_share,
        max_validation=split.max_validation,
    )


def _splits(images: TrainingImages, config: TrainConfig, *, validate: bool) -> list[Split]:
    number = len(images.nominal)
    how: dict[str, Any] = {
        "seed": config.seed,
        "validate": validate,
        "groups": images.groups,
        "sizes": split_sizes(config),
    }
    if config.cross_conformal is not None:
        return fold_nominal(number, folds=config.cross_conformal, **how)
    return [split_nominal(number, false_alarm_rate=config.false_alarm_rate, **how)]


def _alignment(images: TrainingImages, split: Split, config: TrainConfig) -> AlignmentDecision:
    if not config.align:
        return AlignmentDecision(None, "align is off")
    if images.ignore is not None:
        return AlignmentDecision(None, "ignore masks lie still in the image")
    fit = [images.nominal[place] for place in split.fit]
    aspect = images.shape.pixel_aspect(images.size)
    return decide_alignment(images.pixels.images, fit, aspect=aspect, config=config.alignment)


def _plan(
    images: TrainingImages,
    config: TrainConfig,
    splits: Sequence[Split],
    alignments: Sequence[AlignmentDecision],
    *,
    sources: tuple[str, ...],
    advice: str | None,
) -> DetectorPlan:
    samples, grouping, ignore = images.pixels.samples, images.grouping, images.ignore
    return DetectorPlan(
        method=config.method,
        backbone=config.backbone,
        size=images.size,
        pixel_aspect=images.shape.pixel_aspect(images.size),
        image_ratio=images.shape.ratio if images.shape.is_one else None,
        bits=images.bits,
        nominal=len(images.nominal),
        copies=images.copies,
        defects=dict(sorted(Counter(str(samples[index].defect) for index in images.labelled).items())),
        masks=images.masks,
        ignored_defects=images.ignored,
        groups=grouping.as_record(images.files, images.data_set.root) if grouping else None,
        ignore_mask=None if ignore is None else _masks_in_words(ignore),
        defect_branch=sources,
        supervision=" + ".join(["good images" if sources else "good images only", *sources]),
        advice=advice,
        networks=tuple(
            NetworkPlan(
                fit=len(split.fit),
                validation=len(split.validation),
                calibration=len(split.calibration),
                alignment=AlignmentPlan(
                    aligned=alignment.fitted is not None, reason=alignment.reason, figures=alignment.figures
                ),
            )
            for split, alignment in zip(splits, alignments, strict=True)
        ),
    )


def _masks_in_words(ignore: IgnoreMask) -> str:
    return "one mask for all images" if ignore.everywhere else "a mask for each image"
