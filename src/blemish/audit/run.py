"""What does a detector look at? Spurious cues in its data and in its verdicts.

`material` gathers images and maps; `shared` looks for what images share, by `patterns`, `colours`, `frames` and
`statistics`; `one_sided` asks whether it is on one side only; `places` asks where alarms have their evidence;
`counterfactuals` put what was found to the detector; `suspects` decides what is flagged and says it in words;
`clusters` groups heatmaps; `page` writes it all down.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from blemish.audit import findings
from blemish.audit.appearance import Floats, measure, relight
from blemish.audit.association import OneSided, find_one_sided
from blemish.audit.clusters import Clusters, cluster
from blemish.audit.counterfactuals import cover, put_on, restyle
from blemish.audit.data import Indices, Mask, Material, Progress, gather
from blemish.audit.findings import Effect, Suspect, sides, where
from blemish.audit.locations import Place, fixed_frame, shared_places, with_fringe
from blemish.audit.search import find_shared
from blemish.datasets.layouts import DataSet
from blemish.faithfulness.measures import mass_inside
from blemish.imaging.resizing import resize_mask
from blemish.io.text import capitalized
from blemish.model.detector import Detector

MIN_CLUSTERED = 20  # heatmaps: where there are fewer alarms, the highest other scores make up for them
MAX_SUSPECTS = 3  # of each search are put to the detector

__all__ = ["Audit", "Evidence", "audit"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where the evidence of some images lies.

    Attributes:
        name: of the images.
        images: how many.
        mean: their mean map (H, W); None without images.
        outside: share of their maps' mass above the nominal level outside the region of interest, None without one.
    """

    name: str
    images: int
    mean: npt.NDArray[np.float32] | None
    outside: float | None


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        detector, data: what was audited.
        material: the images looked at.
        suspects: what was put to the detector; `flagged` those of them that are flagged.
        evidence: of good, anomalous and alarmed images.
        clustered: indices of the images whose heatmaps were grouped.
        clusters: their groups.
        statistics: of the images, (N,) by name.
        interest: bool (H, W), the region of interest; None where none was given.
    """

    detector: Detector
    data: DataSet
    material: Material
    suspects: tuple[Suspect, ...]
    evidence: tuple[Evidence, ...]
    clustered: Indices
    clusters: Clusters
    statistics: dict[str, npt.NDArray[np.float64]]
    interest: Mask | None = None

    @cached_property
    def flagged(self) -> list[Suspect]:
        """The flags, those of the data first."""
        return [suspect for suspect in self.suspects if suspect.flagged]

    @cached_property
    def hanging(self) -> list[tuple[int, Suspect]]:
        """Images whose alarm vanishes with a flagged cue, and that cue."""
        return [(int(image), suspect) for suspect in self.flagged for image in suspect.hanging]

    @property
    def headline(self) -> str:
        """The verdict as a sentence."""
        number = len(self.flagged)
        if number == 0:
            return "No spurious cue found."
        used = sum(suspect.used for suspect in self.flagged)
        cues = "1 suspicious cue" if number == 1 else f"{number} suspicious cues"
        if used == 0:
            return f"{cues} in the data; no sign that this detector uses {'it' if number == 1 else 'them'}."
        if used == number:
            return f"{cues}, {'' if number == 1 else 'all '}used by this detector."
        return f"{cues}; {used} of them used by this detector."


def audit(
    detector: Detector,
    data: DataSet,
    *,
    interest: Mask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Looks for spurious cues in a folder and in what a detector makes of it.

    Args:
        detector: the detector.
        data: the folder it was trained on, or one like it; both splits are looked at.
        interest: bool (H, W), where evidence may lie, of any size; None: anywhere.
        seed: decides every random choice.
        progress: called with the stage, the steps done and all there are.

    Raises:
        BlemishError: fewer than ten good images can be read.
    """
    progress = progress or (lambda stage, done, total: None)
    material = gather(detector, data, progress=progress)
    if interest is not None:
        interest = resize_mask(interest, material.size, rule="half")
    statistics = measure(
        material.compared, ignored=resize_mask(material.ignored, material.compared.shape[1:3], rule="half")
    )
    ask = _Questions(detector, material, statistics, seed)
    found: list[Suspect] = []
    steps: list[Callable[[Sequence[Suspect]], list[Suspect]]]
    steps = [ask.shared, ask.places, partial(ask.outside, interest)]
    for done, step in enumerate(steps, start=1):
        found += step(found)
        progress("searching", done, len(steps))
    clustered = _to_cluster(material)
    return Audit(
        detector=detector,
        data=data,
        material=material,
        suspects=tuple(found),
        evidence=_evidence(detector, material, interest),
        clustered=clustered,
        clusters=cluster(material.maps[clustered]),
        statistics=statistics,
        interest=interest,
    )


class _Questions:
    """The searches, each with what the detector answers."""

    def __init__(self, detector: Detector, material: Material, statistics: Mapping[str, Floats], seed: int) -> None:
        self._detector, self._material, self._statistics, self._seed = detector, material, statistics, seed

    def shared(self, before: Sequence[Suspect]) -> list[Suspect]:
        """What images of one side share and those of the other do not."""
        material = self._material
        if not material.anomalous.any():
            return []
        size = material.compared.shape[1:3]
        unseen = np.stack([resize_mask(painted | material.ignored, size, rule="half") for painted in material.painted])
        found = find_shared(material.compared, self._statistics, unseen=unseen, seed=self._seed)
        tested = find_one_sided(found, material.anomalous, seed=self._seed)
        striking = [one for one in tested if one.p_value <= findings.SHARED][:MAX_SUSPECTS]
        return [self._look(one) if one.shared.region is None else self._local(one) for one in striking]

    def _local(self, one: OneSided) -> Suspect:
        material, shared = self._material, one.shared
        assert shared.region is not None
        region = resize_mask(shared.region, material.size, rule="half") & ~material.ignored
        carriers = np.flatnonzero(shared.carriers)
        taken, given, hidden = self._effects(carriers, region)
        return Suspect(
            kind=shared.kind,
            carriers=carriers,
            region=region,
            p_value=one.p_value,
            striking=True,
            what=f"{capitalized(_whose(one))} {shared.what} in the {where(region)}",
            bright=int((material.maps[taken.change.images][:, region] >= material.threshold).any(axis=1).sum()),
            taken=taken,
            given=given,
            hidden=hidden,
        )

    def _effects(self, carriers: Indices, region: Mask) -> tuple[Effect, Effect, Effect]:
        """The cue covered on its carriers, put on calm images, and put on other alarms."""
        material, detector = self._material, self._detector
        others = np.setdiff1d(np.arange(len(material.samples)), carriers)
        calm, loud = others[~material.alarmed[others]], others[material.alarmed[others]]
        donors = self._donors(others)
        taken = Effect(cover(detector, material, carriers, region, donors=donors))
        given, hidden = (
            Effect(
                put_on(detector, material, images, region, donors=carriers),
                put_on(detector, material, images, region, donors=donors),
            )
            for images in (calm, loud)
        )
        return taken, given, hidden

    def _donors(self, others: Indices) -> Indices:
        """Images to cover a place with: of those without what lies there the good ones, where there are some."""
        good = others[~self._material.anomalous[others]]
        return good if len(good) > 1 else others

    def _look(self, one: OneSided) -> Suspect:
        material, detector = self._material, self._detector
        carriers, others = np.flatnonzero(one.shared.carriers), np.flatnonzero(~one.shared.carriers)
        plain = relight(material.pixels, one.shared.carriers, ignored=material.ignored, give=False)
        dressed = relight(material.pixels, one.shared.carriers, ignored=material.ignored, give=True)
        loud = material.alarmed[others]
        return Suspect(
            kind="look",
            carriers=carriers,
            region=None,
            p_value=one.p_value,
            striking=True,
            what=f"{capitalized(_whose(one))} {one.shared.what}",
            taken=Effect(restyle(detector, material, carriers, plain)),
            given=Effect(restyle(detector, material, others[~loud], dressed[~loud])),
            hidden=Effect(restyle(detector, material, others[loud], dressed[loud])),
        )

    def places(self, before: Sequence[Suspect]) -> list[Suspect]:
        """Places where alarms have their evidence, outside of painted defects and of what was found before."""
        material = self._material
        alarms = np.flatnonzero(material.alarmed)
        maps = np.where(material.painted[alarms] | material.ignored, 0, material.maps[alarms])
        for suspect in before:
            if suspect.region is not None:
                maps = np.where(with_fringe(suspect.region), 0, maps)
        found = shared_places(maps, material.threshold, level=findings.PLACES, seed=self._seed)
        return [self._place(one, alarms) for one in found[:MAX_SUSPECTS]]

    def _place(self, place: Place, alarms: Indices) -> Suspect:
        material = self._material
        members = alarms[place.members]
        donors = self._donors(np.setdiff1d(np.arange(len(material.samples)), members))
        taken = None  # where all images are such alarms, there is nothing to cover it with
        if len(donors):
            taken = Effect(cover(self._detector, material, members, place.region, donors=donors))
        region = resize_mask(place.region, material.compared.shape[1:3], rule="half")
        aligned = fixed_frame(material.compared[~material.anomalous], region, seed=self._seed)
        note = ""
        if aligned:
            note = ", where the parts of all good images lie alike, so that defects may well too"
        elif not place.narrow:
            note = ", but so wide a place may be where subjects or defects lie by nature"
        return Suspect(
            kind="place",
            carriers=members,
            region=place.region,
            p_value=place.p_value,
            striking=place.p_value <= findings.PLACES and place.narrow and not aligned,
            what=(
                f"{len(members)} of {len(alarms)} alarms have evidence in the {where(place.region)}, "
                f"{place.expected:.1f} if it were chance{note}"
            ),
            taken=taken,
        )

    def outside(self, interest: Mask | None, before: Sequence[Suspect]) -> list[Suspect]:
        """Alarms from outside the region of interest."""
        material = self._material
        if interest is None:
            return []
        loudest = material.maps[:, ~interest].max(axis=1, initial=0)
        members = np.flatnonzero(loudest >= material.threshold)
        rate = self._detector.calibration.effective_rate
        p_value = float(binom.sf(len(members) - 1, len(material.samples), rate))
        return [
            Suspect(
                kind="outside",
                carriers=members,
                region=~interest,
                p_value=p_value,
                striking=len(members) > 0 and p_value <= findings.USED,
                what=(
                    f"{len(members)} of {int(material.alarmed.sum())} alarms have evidence outside the region of "
                    f"interest, {rate * len(material.samples):.1f} would at the held false-alarm rate"
                ),
            )
        ]


def _evidence(detector: Detector, material: Material, interest: Mask | None) -> tuple[Evidence, ...]:
    level = detector.metadata.heatmap_low
    groups = {
        "good images": ~material.anomalous,
        "anomalous images": material.anomalous,
        "alarms": material.alarmed,
    }
    found = []
    for name, chosen in groups.items():
        maps = material.maps[chosen]
        outside = None
        if interest is not None and len(maps):
            outside = float(np.mean([mass_inside(one, ~interest, level=level) for one in maps]))
        found.append(Evidence(name, len(maps), maps.mean(axis=0) if len(maps) else None, outside))
    return tuple(found)


def _to_cluster(material: Material) -> Indices:
    """The alarms, the highest scores first, and at least twenty images."""
    number = max(int(material.alarmed.sum()), min(MIN_CLUSTERED, len(material.samples)))
    return np.argsort(-material.scores, kind="stable")[:number]


def _whose(one: OneSided) -> str:
    return sides(one.counts, one.totals, first=one.anomalous_side)
