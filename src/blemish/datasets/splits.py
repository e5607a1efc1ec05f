"""The split of nominal training images into a fit set and a calibration set.

A validation subset of the fit set sets the scale of the defect branch.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from blemish.conformal.split import images_needed
from blemish.errors import BlemishError
from blemish.io.text import counted

Group = Sequence[int]  # indices of the images of one part


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """How many images calibrate and validate; `blemish.training.config.SplitConfig` says what chose the values.

    Attributes:
        calibration_share: share of the images, or groups, that calibrate.
        max_calibration: they are at most so many times what the asked rate needs.
        validation_share: share of the fit set that the defect branch is not trained on.
        max_validation: at most so many.
    """

    calibration_share: float = 0.2
    max_calibration: int = 10
    validation_share: float = 0.25
    max_validation: int = 250


DEFAULT_SIZES = SplitSizes()


@dataclass(frozen=True)
class Split:
    """Indices of nominal training images.

    The images of one group are never in both sets. Of each group that is held out only one image calibrates: new images
    come from new groups, and groups are exchangeable, while the images within a group are not.

    Attributes:
        fit: the images that the normal model is fitted to.
        validation: a subset of `fit` that the defect branch is not trained on; may be empty.
        calibration: one image of each group that is held out, drawn at random; without groups, all that are held out.
    """

    fit: tuple[int, ...]
    validation: tuple[int, ...]
    calibration: tuple[int, ...]

    @classmethod
    def of(
        cls, fit: Sequence[Group], calibration: Sequence[int], *, validate: bool, sizes: SplitSizes = DEFAULT_SIZES
    ) -> Self:
        """Splits shuffled groups; with `validate` the first of `fit` validate."""
        share = min(max(round(sizes.validation_share * len(fit)), 1), sizes.max_validation)
        validation = fit[:share] if validate and len(fit) > 1 else ()
        return cls(_images(fit), _images(validation), tuple(sorted(calibration)))


def fold_nominal(
    images: int,
    *,
    folds: int,
    seed: int,
    validate: bool,
    groups: Sequence[Hashable] | None = None,
    sizes: SplitSizes = DEFAULT_SIZES,
) -> list[Split]:
    """Splits nominal images for cross-conformal calibration: K random folds, each of which calibrates once.

    Args:
        images: their number.
        folds: K; fold sizes differ by one at most.
        seed: of the random order.
        validate: whether a validation subset is wanted.
        groups: the group of every image; whole groups are assigned to folds.
        sizes: how many images validate.

    Returns:
        For each fold the split in which it calibrates and all others are fitted to.

    Raises:
        BlemishError: there are fewer images, or groups, than folds.
    """
    members = members_of(groups, images)
    if not 2 <= folds <= len(members):
        held = f"{images} distinct good training images that can be read"
        held += f" in {counted(len(members), 'group')} do" if groups else " do"
        raise BlemishError(f"{held} not make {folds} folds: give 2 to {len(members)}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(members))
    chosen = one_of_each(members, rng)
    dealt = [(np.delete(order, np.s_[fold::folds]).tolist(), order[fold::folds].tolist()) for fold in range(folds)]
    return [
        Split.of(
            [members[group] for group in rest],
            [chosen[group] for group in held_back],
            validate=validate,
            sizes=sizes,
        )
        for rest, held_back in dealt
    ]


def split_nominal(
    images: int,
    *,
    false_alarm_rate: float,
    seed: int,
    validate: bool,
    groups: Sequence[Hashable] | None = None,
    sizes: SplitSizes = DEFAULT_SIZES,
) -> Split:
    """Splits nominal images at random: a fifth calibrates, the rest is fitted to.

    Args:
        images: their number.
        false_alarm_rate: the rate asked; a high rate needs fewer calibration images than a fifth of many.
        seed: of the random order.
        validate: whether a validation subset is wanted.
        groups: the group of every image; a fifth of the groups is held out.
        sizes: how many images calibrate and validate; by default a fifth calibrates.

    Raises:
        BlemishError: there are fewer than two images, or groups.
    """
    members = members_of(groups, images)
    if images < 2:
        raise BlemishError(
            f"{images} distinct good training image{'s' * (images != 1)} that can be read: training needs at least "
            "two, one to learn from and one to calibrate with"
        )
    if len(members) < 2:
        raise BlemishError(
            f"all {images} distinct good training images are one group: training needs at least two groups, one to "
            "learn from and one to calibrate with"
        )
    rng = np.random.default_rng(seed)
    order: Sequence[int] = rng.permutation(len(members)).tolist()
    calibration = calibration_images(len(members), false_alarm_rate, sizes=sizes)
    chosen = one_of_each(members, rng)
    return Split.of(
        [members[group] for group in order[calibration:]],
        [chosen[group] for group in order[:calibration]],
        validate=validate,
        sizes=sizes,
    )


def members_of(groups: Sequence[Hashable] | None, images: int) -> list[Group]:
    """The images of each group, in their order; without groups every image is a group of its own."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for image, group in enumerate(range(images) if groups is None else groups):
        members[group].append(image)
    if groups is not None and len(groups) != images:
        raise ValueError(f"groups of {len(groups)} images, but there are {images}")
    return list(members.values())


def one_of_each(members: Sequence[Group], rng: np.random.Generator) -> list[int]:
    """A random image of each group."""
    return [group[int(rng.integers(len(group)))] for group in members]


def _images(groups: Sequence[Group]) -> tuple[int, ...]:
    return tuple(sorted(image for group in groups for image in group))


def calibration_images(images: int, false_alarm_rate: float, *, sizes: SplitSizes = DEFAULT_SIZES) -> int:
    """The number of calibration images among so many nominal images, or groups of them."""
    most = sizes.max_calibration * images_needed(false_alarm_rate)
    return max(1, min(round(sizes.calibration_share * images), most))


def fold_sizes(images: int, folds: int) -> tuple[int, ...]:
    """The sizes of the folds of so many images."""
    return tuple(len(range(fold, images, folds)) for fold in range(folds))
