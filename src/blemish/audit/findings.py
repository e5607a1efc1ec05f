"""From what was found to what is flagged: does the data hold a cue, does the detector use it, and in what words.

The level of 5 % is shared out among what images share and where alarms lie, so that a folder without any cue, and a
detector that looks where the defects are, get a flag in at most one audit of twenty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import fisher_exact

from blemish.audit.counterfactuals import Change
from blemish.audit.data import Indices, Mask
from blemish.io.text import whole_percent

SHARED, PLACES = 0.045, 0.005  # levels; 5 % in all
USED = 0.05  # level of a single question to the detector
MIN_ALARMS = 3  # of which half must go when a cue is taken away

Kind = Literal["pattern", "colour", "frame", "look", "place", "outside"]
OF_THE_DATA = ("pattern", "colour", "frame", "look")


@dataclass(frozen=True, eq=False)
class Effect:
    """A change made to images and, where it could be made, the control: the same with images that have no cue.

    Attributes:
        change: with the cue taken away or put on.
        control: the same images changed as much, without the cue; None where there is no such control.
    """

    change: Change
    control: Change | None = None

    def makes_alarms(self) -> bool:
        """Whether it makes alarms that the control does not make."""
        return self.control is not None and _more(len(self.change.new), len(self.control.new), self.change.calm)

    def takes_alarms(self) -> bool:
        """Whether it takes alarms that the control does not take; half of them, where there is no control."""
        alarms, gone = self.change.alarms, len(self.change.gone)
        if self.control is not None:
            return _more(gone, len(self.control.gone), alarms)
        return alarms >= MIN_ALARMS and gone >= alarms / 2


@dataclass(frozen=True, eq=False)
class Suspect:
    """Something that images have in common and that may stand for the label.

    Attributes:
        kind: a pattern, a colour at a place, a border or a look of whole images that the data holds; or a place of
            evidence, or evidence outside of interest.
        carriers: indices of the images that have it.
        region: bool (H, W), where it lies; None: everywhere.
        p_value: of it by chance, over all that was looked at in its search.
        striking: whether it is flagged for itself: rare by chance and on one side only.
        what: it in words, without a verdict.
        bright: its carriers that are alarms for what lies in the region, of those that are asked about it.
        taken: it taken from its carriers.
        given: it put on images without it that are no alarms.
        hidden: it put on alarms without it.
    """

    kind: Kind
    carriers: Indices
    region: Mask | None
    p_value: float
    striking: bool
    what: str
    bright: int | None = None
    taken: Effect | None = None
    given: Effect | None = None
    hidden: Effect | None = None

    @property
    def in_data(self) -> bool:
        """Whether the data holds it, whatever the detector makes of it."""
        return self.kind in OF_THE_DATA

    @property
    def used(self) -> bool:
        """Whether the detector's verdicts hang on it; evidence is what it uses by itself."""
        return bool(
            self.kind == "outside"
            or (self.taken and self.taken.takes_alarms())
            or (self.given and self.given.makes_alarms())
            or (self.hidden and self.hidden.takes_alarms())
        )

    @property
    def flagged(self) -> bool:
        """What the data holds is flagged for itself; a place of evidence only where alarms hang on it."""
        return self.striking and (self.kind != "place" or self.used)

    @property
    def verdict(self) -> str:
        """Who is to blame, in a few words."""
        if not self.in_data:
            return "the detector uses it"
        return "the data holds it and the detector uses it" if self.used else "the data holds it"

    @property
    def hanging(self) -> Indices:
        """Images whose verdict hangs on it: alarms that vanish when it is taken away."""
        return np.array([], dtype=np.intp) if self.taken is None else self.taken.change.gone

    @property
    def words(self) -> str:
        """It, its p-value and what the detector does with it, as sentences."""
        sentences = [f"{self.what} ({probability(self.p_value)})."]
        if self.taken is not None and self.taken.change.alarms:
            sentences.append(self._when_taken(self.taken.change))
        if self.given is not None and self.given.change.calm:
            sentences.append(self._when_given(self.given))
        if self.hidden is not None and self.hidden.takes_alarms():
            sentences.append(self._when_hidden(self.hidden))
        if self.in_data:
            sentences.append("The detector uses it." if self.used else "No sign that this detector uses it.")
        return " ".join(sentences)

    def _when_taken(self, change: Change) -> str:
        if self.kind == "look":
            return f"In the light of the other images {len(change.gone)} of their {change.alarms} alarms vanish."
        evidence = "" if self.bright is None else f"{self.bright} of their {change.alarms} alarms have evidence there; "
        return f"{evidence}{len(change.gone)} of {change.alarms} vanish when it is covered."

    def _when_given(self, effect: Effect) -> str:
        change, control = effect.change, effect.control
        happened = f"{len(change.new)} of {change.calm} calm images become alarms"
        return self._put_on(happened, None if control is None else len(control.new))

    def _when_hidden(self, effect: Effect) -> str:
        change, control = effect.change, effect.control
        happened = f"{len(change.gone)} of {change.alarms} other alarms vanish"
        return self._put_on(happened, None if control is None else len(control.gone))

    def _put_on(self, happened: str, in_control: int | None) -> str:
        """A sentence on what happened to images that got the cue, and to how many that got the same area without it."""
        how = "In their light" if self.kind == "look" else "With it put on"
        aside = "" if in_control is None else f" ({in_control} with the same area of an image without it)"
        return f"{how}, {happened}{aside}."


def _more(one: int, other: int, of: int) -> bool:
    """Whether `one` of `of` is more than `other` of `of` beyond chance."""
    if of == 0:
        return False
    return float(fisher_exact([[one, of - one], [other, of - other]], alternative="greater").pvalue) <= USED


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
