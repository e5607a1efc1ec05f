"""Which training images are fitted to, which of these weigh what was learned from labels, and which calibrate."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from blemish.conformal.split import images_needed
from blemish.errors import BlemishError
from blemish.io.text import counted

Group = Sequence[int]  # indices of the images of one part

CALIBRATION_SHARE = 0.2
VALIDATION_SHARE = 0.25  # of the images fitted to: what is learned from labels alone goes without them
MAX_VALIDATION = 250  # which tell the scale of what was learned to 2 %
# Beyond ten times what the asked rate needs, more calibration images no longer move the threshold to speak of.
MAX_CALIBRATION = 10


@dataclass(frozen=True)
class Split:
    """Index lists into the nominal training images.

    Images of one group are never on both sides. Only one of each group that is held back calibrates: new images are of
    new groups, and among groups nothing but chance tells one from another; within them something does.

    Attributes:
        fit: those fitted to.
        validation: some of these, which nothing learns from beside labels; may be empty.
        calibration: of each group held back one image, by chance. Without groups, all others.
    """

    fit: tuple[int, ...]
    validation: tuple[int, ...]
    calibration: tuple[int, ...]

    @classmethod
    def of(cls, fit: Sequence[Group], calibration: Sequence[int], *, validate: bool) -> Self:
        """Of shuffled groups: where asked the first quarter of those to fit to validates, 1 to `MAX_VALIDATION`."""
        share = min(max(round(VALIDATION_SHARE * len(fit)), 1), MAX_VALIDATION)
        validation = fit[:share] if validate and len(fit) > 1 else ()
        return cls(_images(fit), _images(validation), tuple(sorted(calibration)))


def fold_nominal(
    images: int, *, folds: int, seed: int, validate: bool, groups: Sequence[Hashable] | None = None
) -> list[Split]:
    """Deals nominal images to K folds by chance, of sizes that differ by one at most: each calibrates once.

    All the others are fitted to; see `Split`. With groups, which has that of every image, whole ones are dealt.
    Raises BlemishError where folds cannot be filled.
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
        Split.of([members[group] for group in rest], [chosen[group] for group in held_back], validate=validate)
        for rest, held_back in dealt
    ]


def split_nominal(
    images: int, *, false_alarm_rate: float, seed: int, validate: bool, groups: Sequence[Hashable] | None = None
) -> Split:
    """Splits nominal images by chance: a fifth calibrates, the rest is fitted to; see `Split`.

    With groups, which has that of every image, a fifth of the groups is held back.
    Raises BlemishError with fewer than two images, or groups.
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
    calibration = calibration_images(len(members), false_alarm_rate)
    chosen = one_of_each(members, rng)
    return Split.of(
        [members[group] for group in order[calibration:]],
        [chosen[group] for group in order[:calibration]],
        validate=validate,
    )


def members_of(groups: Sequence[Hashable] | None, images: int) -> list[Group]:
    """The images of each group, in their order, from the group of each image; None: every image is one of its own."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for image, group in enumerate(range(images) if groups is None else groups):
        members[group].append(image)
    if groups is not None and len(groups) != images:
        raise ValueError(f"groups of {len(groups)} images, but there are {images}")
    return list(members.values())


def one_of_each(members: Sequence[Group], rng: np.random.Generator) -> list[int]:
    """One image of each group by chance."""
    return [group[int(rng.integers(len(group)))] for group in members]


def _images(groups: Sequence[Group]) -> tuple[int, ...]:
    return tuple(sorted(image for group in groups for image in group))


def calibration_images(images: int, false_alarm_rate: float) -> int:
    """How many of so many nominal images, or of groups of them, calibrate."""
    most = MAX_CALIBRATION * images_needed(false_alarm_rate)
    return max(1, min(round(CALIBRATION_SHARE * images), most))


def fold_sizes(images: int, folds: int) -> tuple[int, ...]:
    """The sizes of the folds that so many images are dealt to."""
    return tuple(len(range(fold, images, folds)) for fold in range(folds))
