"""What does a detector respond to? Spurious cues in its data and in its verdicts.

`data` gathers images and maps; `search` looks for what images share, by `patterns`, `colours`, `borders` and
`appearance`; `association` tests whether it is on one side only; `locations` tests where alarms have their evidence;
`counterfactuals` test the detector on what was found; `findings` decides what is flagged and says it in words;
`clusters` groups heatmaps. `report.audit_page` writes the page.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from blemish.auditing.appearance import Floats, measure
from blemish.auditing.clusters import Clusters, cluster
from blemish.auditing.data import AuditData, Indices, Mask, gather
from blemish.auditing.findings import Finding
from blemish.auditing.search import Searches
from blemish.datasets.layouts import DataSet
from blemish.faithfulness.measures import mass_inside
from blemish.imaging.resizing import resize_mask
from blemish.model.detector import Detector
from blemish.process.deprecation import renamed_arguments, renamed_attribute
from blemish.process.progress import Progress, no_progress

MIN_CLUSTERED = 20  # heatmaps: where there are fewer alarms, the highest other scores make up for them
SEARCHES = 3

__all__ = ["Audit", "Evidence", "audit"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where the evidence of a group of images lies.

    Attributes:
        name: of the group.
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
        detector, data_set: what was audited.
        data: the images with their maps.
        findings: what the detector was tested on; `flagged` those of them that are flagged.
        evidence: of good, anomalous and alarmed images.
        clustered: indices of the images whose heatmaps were grouped.
        clusters: their groups.
        statistics: of the images, (N, D) by name.
        roi: bool (H, W), the region of interest; None where none was given.
    """

    detector: Detector
    data_set: DataSet
    data: AuditData
    findings: tuple[Finding, ...]
    evidence: tuple[Evidence, ...]
    clustered: Indices
    clusters: Clusters
    statistics: dict[str, Floats]
    roi: Mask | None = None

    material = renamed_attribute("material", "data")
    suspects = renamed_attribute("suspects", "findings")
    hanging = renamed_attribute("hanging", "dependent")
    interest = renamed_attribute("interest", "roi")

    @cached_property
    def flagged(self) -> list[Finding]:
        """The flags, those of the data first."""
        return [finding for finding in self.findings if finding.flagged]

    @cached_property
    def dependent(self) -> list[tuple[int, Finding]]:
        """Images whose alarm is lost when a flagged cue is removed, and that cue."""
        return [(int(image), finding) for finding in self.flagged for image in finding.dependent]

    @property
    def headline(self) -> str:
        """The verdict as a sentence."""
        number = len(self.flagged)
        if number == 0:
            return "No spurious cue found."
        used = sum(finding.used for finding in self.flagged)
        cues = "1 suspicious cue" if number == 1 else f"{number} suspicious cues"
        if used == 0:
            return f"{cues} in the data; no sign that this detector uses {'it' if number == 1 else 'them'}."
        if used == number:
            return f"{cues}, {'' if number == 1 else 'all '}used by this detector."
        return f"{cues}; {used} of them used by this detector."


@renamed_arguments(interest="roi")
def audit(
    detector: Detector,
    data: DataSet,
    *,
    roi: Mask | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Audit:
    """Looks for spurious cues in a folder and in what a detector makes of it.

    Args:
        detector: the detector.
        data: the folder it was trained on, or one like it; both splits are used.
        roi: bool (H, W), the region of interest: where evidence may lie, of any size; None: anywhere.
        seed: decides every random choice.
        progress: called with the stage ("reading", "scoring", "searching"), the steps done and all there are.

    Returns:
        The findings with their tests, where the evidence lies, and the groups of heatmaps.

    Raises:
        BlemishError: fewer than ten good images can be read.

    Example:
        >>> from blemish import read_data_set
        >>> found = audit(detector, read_data_set("screws/"))  # doctest: +SKIP
        >>> found.headline  # doctest: +SKIP
        'No spurious cue found.'
    """
    gathered = gather(detector, data, progress=progress)
    if roi is not None:
        roi = resize_mask(roi, gathered.size, rule="half")
    ignored = resize_mask(gathered.ignored, gathered.compared.shape[1:3], rule="half")
    statistics = measure(gathered.compared, ignored=ignored)
    findings: list[Finding] = []
    searches = Searches(detector, gathered, statistics, roi=roi, seed=seed)
    for done, found in enumerate(searches.run(), start=1):
        findings += found
        progress("searching", done, SEARCHES)
    clustered = _to_cluster(gathered)
    return Audit(
        detector=detector,
        data_set=data,
        data=gathered,
        findings=tuple(findings),
        evidence=_evidence(detector, gathered, roi),
        clustered=clustered,
        clusters=cluster(gathered.maps[clustered]),
        statistics=statistics,
        roi=roi,
    )


def _evidence(detector: Detector, data: AuditData, roi: Mask | None) -> tuple[Evidence, ...]:
    level = detector.metadata.heatmap_low
    groups = {"good images": ~data.anomalous, "anomalous images": data.anomalous, "alarms": data.alarmed}
    evidence = []
    for name, chosen in groups.items():
        maps = data.maps[chosen]
        outside = None
        if roi is not None and len(maps):
            outside = float(np.mean([mass_inside(values, ~roi, level=level) for values in maps]))
        evidence.append(Evidence(name, len(maps), maps.mean(axis=0) if len(maps) else None, outside))
    return tuple(evidence)


def _to_cluster(data: AuditData) -> Indices:
    """The alarms, the highest scores first, and at least `MIN_CLUSTERED` images."""
    number = max(int(data.alarmed.sum()), min(MIN_CLUSTERED, len(data.samples)))
    return np.argsort(-data.scores, kind="stable")[:number]
