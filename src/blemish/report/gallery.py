"""The gallery: which images a report shows, in what order, and their pictures."""

from dataclasses import dataclass
from enum import Enum
from math import floor

from blemish.datasets.sampling import evenly
from blemish.evaluation.results import EvaluatedImage, Evaluation
from blemish.imaging.errors import ImageError
from blemish.imaging.heatmaps import HeatmapScale, overlay
from blemish.imaging.images import read_image
from blemish.imaging.masks import read_mask
from blemish.imaging.reading import Reading
from blemish.imaging.resizing import resize_mask
from blemish.io.text import printable
from blemish.report.data_uris import jpeg_uri, mask_uri

MAX_CARDS = 400
SIDE = 256
# 400 cards of two such pictures, a third longer in base64, stay under 20 MB whatever they show.
MAX_BYTES = 17_000


class Outcome(Enum):
    """How the decision on an image compares with what is known of it, the gravest first."""

    MISSED = "missed"
    FALSE_ALARM = "false alarm"
    DETECTED = "detected"
    PASSED = "passed"


@dataclass(frozen=True)
class Card:
    """One image of the gallery; pictures are data URIs."""

    folder: str
    name: str
    defect: str | None
    score: float
    times_threshold: float | None
    p_value: float
    verdict: str
    outcome: Outcome
    photograph: str
    heatmap: str
    mask: str | None


def make_cards(evaluation: Evaluation) -> list[Card]:
    """The cards in the order they are shown: missed defects, false alarms, then the rest, by score each."""
    return [_card(item, evaluation.scale, evaluation.reading) for item in choose(evaluation.images, MAX_CARDS)]


def choose(images: list[EvaluatedImage], most: int) -> list[EvaluatedImage]:
    """At most `most` images: misses and false alarms first, of the others an even sample over the scores."""
    ranked = sorted(images, key=lambda item: -item.scored.score)
    missed = [item for item in ranked if outcome(item) is Outcome.MISSED]
    alarms = [item for item in ranked if outcome(item) is Outcome.FALSE_ALARM]
    faults = (missed + alarms)[:most]
    rest = [item for item in ranked if outcome(item) in (Outcome.DETECTED, Outcome.PASSED)]
    return faults + evenly(rest, most - len(faults))


def outcome(item: EvaluatedImage) -> Outcome:
    """Only the verdict "anomalous" is an alarm: "unsure" about a defect has missed it."""
    alarm = item.scored.verdict == "anomalous"
    if item.sample.anomalous:
        return Outcome.DETECTED if alarm else Outcome.MISSED
    return Outcome.FALSE_ALARM if alarm else Outcome.PASSED


def _card(item: EvaluatedImage, scale: HeatmapScale, reading: Reading) -> Card:
    scored, sample = item.scored, item.sample
    photograph = read_image(sample.path, reading)
    if not scored.is_of(photograph):
        raise ImageError(f"{printable(sample.path)}: it has changed since it was scored; write the report again")
    photograph.thumbnail((SIDE, SIDE))
    size = (photograph.height, photograph.width)
    mask = None
    if sample.mask is not None:
        mask = resize_mask(read_mask(sample.mask, size=scored.size), size, rule="any")
    ignored = None if scored.ignored is None else resize_mask(scored.ignored, size, rule="corner")
    # The annotation stands beside the heatmap; on it, it would clutter a defect that was found.
    expected = mask if outcome(item) is Outcome.MISSED else None
    heatmap = overlay(photograph, scored.anomaly_map, scale, mask=expected, ignored=ignored, colour_bar=False)
    return Card(
        folder=printable(sample.path.parent.name),
        name=printable(sample.path.name),
        defect=sample.defect,
        score=scored.score,
        # Rounded down: "1.00 times the threshold" has to mean that the threshold was reached.
        times_threshold=floor(100 * scored.score / scale.threshold) / 100 if scale.threshold > 0 else None,
        p_value=scored.p_value,
        verdict=scored.verdict,
        outcome=outcome(item),
        photograph=jpeg_uri(photograph, max_bytes=MAX_BYTES),
        heatmap=jpeg_uri(heatmap, max_bytes=MAX_BYTES),
        mask=None if mask is None else mask_uri(mask),
    )
