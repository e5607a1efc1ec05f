"""The searches of an audit: what images share, where alarms lie, and what the detector makes of either."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import binom

from blemish.auditing.appearance import Floats, find_appearances, relight
from blemish.auditing.association import Association, SharedCue, find_associations
from blemish.auditing.borders import find_borders
from blemish.auditing.colours import find_colours
from blemish.auditing.counterfactuals import insert_cue, remove_cue, replace_images
from blemish.auditing.data import AuditData, Images, Indices, Mask
from blemish.auditing.findings import LOCATION_LEVEL, SHARED_LEVEL, USE_LEVEL, Effect, Finding, sides, where
from blemish.auditing.locations import Location, fixed_frame, shared_locations, with_fringe
from blemish.auditing.patterns import find_patterns
from blemish.imaging.resizing import resize_mask
from blemish.io.text import capitalized
from blemish.model.detector import Detector

MAX_FINDINGS = 3  # of each search; the detector is tested on these


def find_shared_cues(
    pixels: Images, statistics: Mapping[str, Floats], *, unseen: Mask, seed: int = 0
) -> list[SharedCue]:
    """What some of the images share: borders, patterns, colours at a place, and appearances. It needs no detector.

    Args:
        pixels: uint8 (N, S, S, 3), S being `data.COMPARED_SIDE`.
        statistics: what `appearance.measure` makes of them.
        unseen: bool (N, S, S), what of each image is not to be compared.
        seed: decides the random offsets.
    """
    return [
        *find_borders(pixels, unseen=unseen),
        *find_patterns(pixels, unseen=unseen, seed=seed),
        *find_colours(pixels, unseen=unseen, seed=seed),
        *find_appearances(statistics),
    ]


class Searches:
    """The three searches, each with counterfactual tests of the detector on what it finds.

    Args:
        detector: the detector.
        data: its images.
        statistics: of the images, (N, D) by name.
        roi: bool (H, W) at network size, the region of interest; None: everywhere.
        seed: decides every random choice.
    """

    def __init__(
        self, detector: Detector, data: AuditData, statistics: Mapping[str, Floats], *, roi: Mask | None, seed: int
    ) -> None:
        self._detector, self._data, self._statistics, self._roi, self._seed = detector, data, statistics, roi, seed

    def run(self) -> Iterator[list[Finding]]:
        """The findings of one search after the other."""
        shared = self.shared()
        yield shared
        yield self.locations([finding.region for finding in shared if finding.region is not None])
        yield self.outside()

    def shared(self) -> list[Finding]:
        """What images of one side share and those of the other do not."""
        data = self._data
        if not data.anomalous.any():
            return []
        size = data.compared.shape[1:3]
        unseen = np.stack([resize_mask(mask | data.ignored, size, rule="half") for mask in data.masks])
        cues = find_shared_cues(data.compared, self._statistics, unseen=unseen, seed=self._seed)
        tested = find_associations(cues, data.anomalous, seed=self._seed)
        significant = [found for found in tested if found.p_value <= SHARED_LEVEL][:MAX_FINDINGS]
        return [self._appearance(found) if found.cue.region is None else self._local(found) for found in significant]

    def _local(self, found: Association) -> Finding:
        """A finding of something that lies at one place."""
        data, cue = self._data, found.cue
        assert cue.region is not None
        region = resize_mask(cue.region, data.size, rule="half") & ~data.ignored
        carriers = np.flatnonzero(cue.carriers)
        removed, inserted, inserted_on_alarms = self._effects(carriers, region)
        there = data.maps[removed.change.images][:, region] >= data.threshold
        return Finding(
            kind=cue.kind,
            carriers=carriers,
            region=region,
            p_value=found.p_value,
            significant=True,
            what=f"{capitalized(_whose(found))} {cue.what} in the {where(region)}",
            alarms_there=int(there.any(axis=1).sum()),
            removed=removed,
            inserted=inserted,
            inserted_on_alarms=inserted_on_alarms,
        )

    def _effects(self, carriers: Indices, region: Mask) -> tuple[Effect, Effect, Effect]:
        """The cue removed from its carriers, inserted into images that are no alarms, and into other alarms."""
        data, detector = self._data, self._detector
        others = np.setdiff1d(np.arange(len(data.samples)), carriers)
        non_alarms, alarms = others[~data.alarmed[others]], others[data.alarmed[others]]
        donors = self._donors(others)
        removed = Effect(remove_cue(detector, data, carriers, region, donors=donors))
        inserted, inserted_on_alarms = (
            Effect(
                insert_cue(detector, data, images, region, donors=carriers),
                insert_cue(detector, data, images, region, donors=donors),
            )
            for images in (non_alarms, alarms)
        )
        return removed, inserted, inserted_on_alarms

    def _donors(self, without: Indices) -> Indices:
        """Of images without the cue those to fill its place from: the good ones, where there is more than one."""
        good = without[~self._data.anomalous[without]]
        return good if len(good) > 1 else without

    def _appearance(self, found: Association) -> Finding:
        """A finding of an appearance of whole images."""
        data, detector, carry = self._data, self._detector, found.cue.carriers
        carriers, others = np.flatnonzero(carry), np.flatnonzero(~carry)
        without = relight(data.pixels, carry, ignored=data.ignored, give=False)
        given = relight(data.pixels, carry, ignored=data.ignored, give=True)
        alarms = data.alarmed[others]
        return Finding(
            kind="look",
            carriers=carriers,
            region=None,
            p_value=found.p_value,
            significant=True,
            what=f"{capitalized(_whose(found))} {found.cue.what}",
            removed=Effect(replace_images(detector, data, carriers, without)),
            inserted=Effect(replace_images(detector, data, others[~alarms], given[~alarms])),
            inserted_on_alarms=Effect(replace_images(detector, data, others[alarms], given[alarms])),
        )

    def locations(self, before: Sequence[Mask]) -> list[Finding]:
        """Places where alarms have their evidence, outside of the masks and of the regions found before."""
        data = self._data
        alarms = np.flatnonzero(data.alarmed)
        maps = np.where(data.masks[alarms] | data.ignored, 0, data.maps[alarms])
        for region in before:
            maps = np.where(with_fringe(region), 0, maps)
        found = shared_locations(maps, data.threshold, level=LOCATION_LEVEL, seed=self._seed)
        return [self._location(location, alarms) for location in found[:MAX_FINDINGS]]

    def _location(self, location: Location, alarms: Indices) -> Finding:
        data = self._data
        members = alarms[location.members]
        donors = self._donors(np.setdiff1d(np.arange(len(data.samples)), members))
        removed = None  # where all images are such alarms, there is nothing to fill the place from
        if len(donors):
            removed = Effect(remove_cue(self._detector, data, members, location.region, donors=donors))
        region = resize_mask(location.region, data.compared.shape[1:3], rule="half")
        aligned = fixed_frame(data.compared[~data.anomalous], region, seed=self._seed)
        note = ""
        if aligned:
            note = ", where the parts of all good images lie alike, so that defects may well too"
        elif not location.narrow:
            note = ", but so wide a place may be where subjects or defects lie by nature"
        return Finding(
            kind="place",
            carriers=members,
            region=location.region,
            p_value=location.p_value,
            significant=location.p_value <= LOCATION_LEVEL and location.narrow and not aligned,
            what=(
                f"{len(members)} of {len(alarms)} alarms have evidence in the {where(location.region)}, "
                f"{location.expected:.1f} if it were chance{note}"
            ),
            removed=removed,
        )

    def outside(self) -> list[Finding]:
        """Alarms from outside the region of interest."""
        data, roi = self._data, self._roi
        if roi is None:
            return []
        members = np.flatnonzero(data.maps[:, ~roi].max(axis=1, initial=0) >= data.threshold)
        rate = self._detector.calibration.effective_rate
        p_value = float(binom.sf(len(members) - 1, len(data.samples), rate))
        return [
            Finding(
                kind="outside",
                carriers=members,
                region=~roi,
                p_value=p_value,
                significant=len(members) > 0 and p_value <= USE_LEVEL,
                what=(
                    f"{len(members)} of {int(data.alarmed.sum())} alarms have evidence outside the region of "
                    f"interest, {rate * len(data.samples):.1f} would at the held false-alarm rate"
                ),
            )
        ]


def _whose(found: Association) -> str:
    return sides(found.counts, found.totals, first=found.anomalous_side)
