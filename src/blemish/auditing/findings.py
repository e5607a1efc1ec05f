"""Findings and flags: does the data hold a cue, does the detector use it, and in what words.

The level of 5 % is divided between what images share and where alarms lie. So a folder without any cue, and a detector
that responds to defects alone, get a flag in at most one audit of twenty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import fisher_exact

from blemish.auditing.counterfactuals import Change
from blemish.auditing.data import Indices, Mask
from blemish.io.text import whole_percent

SHARED_LEVEL, LOCATION_LEVEL = 0.045, 0.005  # 5 % in all
USE_LEVEL = 0.05  # of a single counterfactual test
MIN_ALARMS = 3  # without a control: of which half must be lost when a cue is removed

Kind = Literal["pattern", "colour", "frame", "look", "place", "outside"]  # as in JSON
IN_DATA: tuple[Kind, ...] = ("pattern", "colour", "frame", "look")


@dataclass(frozen=True, eq=False)
class Effect:
    """A change made to images and, where it could be made, the control: the same with images that have no cue.

    Attributes:
        change: with the cue removed or inserted.
        control: the same images changed as much, without the cue; None where there is no such control.
    """

    change: Change
    control: Change | None = None

    def makes_alarms(self) -> bool:
        """Whether it makes more alarms than the control does."""
        if self.control is None:
            return False
        return _is_more(len(self.change.gained), len(self.control.gained), self.change.non_alarms)

    def takes_alarms(self) -> bool:
        """Whether it loses more alarms than the control does; half of them, where there is no control."""
        alarms, lost = self.change.alarms, len(self.change.lost)
        if self.control is not None:
            return _is_more(lost, len(self.control.lost), alarms)
        return alarms >= MIN_ALARMS and lost >= alarms / 2


@dataclass(frozen=True, eq=False)
class Finding:
    """Something that images have in common and that may stand for the label.

    Attributes:
        kind: of what the data hold a pattern, a colour at a place, a plain border ("frame") or an appearance of whole
            images ("look"); of evidence that it lies at one place, or outside the region of interest.
        carriers: indices of the images that have it.
        region: bool (H, W), where it lies; None: everywhere.
        p_value: of it by chance, over all that was looked at in its search.
        significant: whether it is rare by chance, and on one side only.
        what: it in words, without a verdict.
        alarms_there: carriers that are alarms for what lies in the region, of those that it was removed from.
        removed: the effect of removing it from its carriers.
        inserted: the effect of inserting it into images without it that are no alarms.
        inserted_on_alarms: the effect of inserting it into alarms without it.
    """

    kind: Kind
    carriers: Indices
    region: Mask | None
    p_value: float
    significant: bool
    what: str
    alarms_there: int | None = None
    removed: Effect | None = None
    inserted: Effect | None = None
    inserted_on_alarms: Effect | None = None

    @property
    def in_data(self) -> bool:
        """Whether the data hold it, whatever the detector makes of it."""
        return self.kind in IN_DATA

    @property
    def used(self) -> bool:
        """Whether the detector's verdicts depend on it. Evidence outside the region of interest is used by itself."""
        return bool(
            self.kind == "outside"
            or (self.removed and self.removed.takes_alarms())
            or (self.inserted and self.inserted.makes_alarms())
            or (self.inserted_on_alarms and self.inserted_on_alarms.takes_alarms())
        )

    @property
    def flagged(self) -> bool:
        """What the data hold is flagged for itself; a place of evidence only where alarms depend on it."""
        return self.significant and (self.kind != "place" or self.used)

    @property
    def verdict(self) -> str:
        """Where the fault lies, in a few words."""
        if not self.in_data:
            return "the detector uses it"
        return "the data holds it and the detector uses it" if self.used else "the data holds it"

    @property
    def dependent(self) -> Indices:
        """Images whose verdict depends on it: alarms that are lost when it is removed."""
        return np.array([], dtype=np.intp) if self.removed is None else self.removed.change.lost

    @property
    def words(self) -> str:
        """It, its p-value and what the detector does with it, as sentences."""
        sentences = [f"{self.what} ({probability(self.p_value)})."]
        if self.removed is not None and self.removed.change.alarms:
            sentences.append(self._when_removed(self.removed.change))
        if self.inserted is not None and self.inserted.change.non_alarms:
            sentences.append(self._when_inserted(self.inserted))
        if self.inserted_on_alarms is not None and self.inserted_on_alarms.takes_alarms():
            sentences.append(self._when_inserted_on_alarms(self.inserted_on_alarms))
        if self.in_data:
            sentences.append("The detector uses it." if self.used else "No sign that this detector uses it.")
        return " ".join(sentences)

    def _when_removed(self, change: Change) -> str:
        if self.kind == "look":
            return f"In the light of the other images {len(change.lost)} of their {change.alarms} alarms vanish."
        evidence = ""
        if self.alarms_there is not None:
            evidence = f"{self.alarms_there} of their {change.alarms} alarms have evidence there; "
        return f"{evidence}{len(change.lost)} of {change.alarms} vanish when it is covered."

    def _when_inserted(self, effect: Effect) -> str:
        change, control = effect.change, effect.control
        happened = f"{len(change.gained)} of {change.non_alarms} images without an alarm become alarms"
        return self._with_control(happened, None if control is None else len(control.gained))

    def _when_inserted_on_alarms(self, effect: Effect) -> str:
        change, control = effect.change, effect.control
        happened = f"{len(change.lost)} of {change.alarms} other alarms vanish"
        return self._with_control(happened, None if control is None else len(control.lost))

    def _with_control(self, happened: str, in_control: int | None) -> str:
        """A sentence on what happened to images that got the cue, and to how many that got the same area without it."""
        how = "In their light" if self.kind == "look" else "With it inserted"
        aside = "" if in_control is None else f" ({in_control} with the same area of an image without it)"
        return f"{how}, {happened}{aside}."


def _is_more(changed: int, in_control: int, images: int) -> bool:
    """Whether `changed` of the images are more than `in_control` of them beyond chance, by Fisher's exact test."""
    if images == 0:
        return False
    table = [[changed, images - changed], [in_control, images - in_control]]
    return float(fisher_exact(table, alternative="greater").pvalue) <= USE_LEVEL


def probability(p: float) -> str:
    """Such as "p = 0.03" or "p < 0.0001"."""
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def where(region: Mask) -> str:
    """A region (H, W) in words: "the lower left 4 % of the image"."""
    rows, columns = np.nonzero(region)
    if len(rows) == 0:
        return "no place"
    height, width = region.shape
    tall, wide = (np.ptp(rows) + 1) / height, (np.ptp(columns) + 1) / width
    row, column = (rows.mean() + 0.5) / height, (columns.mean() + 0.5) / width
    vertical = "" if tall > 0.7 else "upper" if row < 0.4 else "lower" if row > 0.6 else "middle"
    horizontal = "" if wide > 0.7 else "left" if column < 0.4 else "right" if column > 0.6 else "middle"
    place = " ".join(dict.fromkeys(part for part in (vertical, horizontal) if part)) or "greater part,"
    return f"{place} {whole_percent(float(region.mean()))} of the image"


def sides(counts: Sequence[int], totals: Sequence[int], *, first: bool) -> str:
    """Such as "24 of 120 anomalous images and none of 118 good ones"; `first`: the anomalous ones come first."""
    good = f"{counts[0] or 'none'} of {totals[0]} good"
    bad = f"{counts[1] or 'none'} of {totals[1]} anomalous"
    return f"{bad} images and {good} ones" if first else f"{good} images and {bad} ones"
