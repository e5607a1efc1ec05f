"""The model card: what a model was trained on, what it guarantees, its figures, and what an audit found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from blemish.errors import BlemishError
from blemish.io.text import capitalized, printable
from blemish.model.detector import Detector
from blemish.model.records import read_record


class SavedDefect(TypedDict):
    """What a card shows of one defect type."""

    images: int
    detection_rate: float
    image_auroc: float | None
    pixel_auroc: float | None


class SavedEvaluation(TypedDict):
    """What a card shows of what `blemish evaluate --save` left; there may be more."""

    images: int
    data: str
    date: str
    intervals: dict[str, tuple[float, float] | None]  # of figures, each of which is there as well
    calibration_statement: str
    per_defect: dict[str, SavedDefect]


class SavedFlag(TypedDict):
    """What a card shows of one cue that an audit flagged."""

    words: str


class SavedAudit(TypedDict):
    """What a card shows of what `blemish audit --save` left; there may be more."""

    images: int
    date: str
    verdict: str
    flags: NotRequired[list[SavedFlag]]


@dataclass(frozen=True)
class ModelCard:
    """The parts of a card.

    Attributes:
        detector: the model.
        megabytes: size of its file.
        guarantee: sentences on what its decisions promise.
        evaluation, audit: what `blemish evaluate --save` and `blemish audit --save` left in the file; None if nothing.
    """

    detector: Detector
    megabytes: float
    guarantee: tuple[str, ...]
    evaluation: dict[str, Any] | None
    audit: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        """Reads a model file. Raises BlemishError as `Detector.load` does, and where saved figures are none."""
        detector, record = Detector.load(path, threads=1), read_record(path)
        for part, kind in (("evaluation", SavedEvaluation), ("audit", SavedAudit)):
            try:
                _check_saved(record.get(part), kind)
            except msgspec.ValidationError as error:
                raise BlemishError(
                    f"{printable(path)}: what is saved in it of {part} is damaged ({error}); save it again with "
                    f"blemish {part.replace('evaluation', 'evaluate')} --save"
                ) from error
        return cls(
            detector=detector,
            megabytes=os.path.getsize(path) / 1e6,
            guarantee=_guarantee(detector),
            evaluation=record.get("evaluation"),
            audit=record.get("audit"),
        )

    @property
    def decisions(self) -> tuple[str, ...]:
        """What training decided about the images, in words; of several networks, with how many of them it holds for."""
        metadata = self.detector.metadata
        decided = {
            "aligned": (metadata.aligned, "turns parts upright; what lies in their background counts for less"),
            # Of earlier releases
            "wide_cells": (metadata.coarse_grid, "compares images on a coarse grid: good ones differ as wholes"),
        }
        sentences = []
        for name, (holds, sentence) in decided.items():
            count, networks = sum(network.get(name, False) for network in metadata.networks), len(metadata.networks)
            if holds:
                sentences.append(sentence if count == networks else f"{sentence} ({count} of its {networks} networks)")
        if metadata.any_size:
            sentences.append("takes images of any size: the resize is in the graph")
        return tuple(sentences)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        metadata, calibration = self.detector.metadata, self.detector.calibration
        ignored = metadata.ignored
        return {
            "model": self.detector.name,
            "fingerprint": self.detector.fingerprint,
            "megabytes": round(self.megabytes, 3),
            "size": list(metadata.size),
            "supervision": metadata.supervision,
            "data": dict(metadata.data),
            "settings": dict(metadata.settings),
            "runtime": metadata.runtime,
            "precision": metadata.precision,
            "bits": metadata.bits,
            "ignored": None if ignored is None else {name: ignored[name] for name in ("mask", "everywhere", "share")},
            "aligned": metadata.aligned,
            "wide_cells": metadata.coarse_grid,
            "any_size": metadata.any_size,
            "networks": [dict(network) for network in metadata.networks],
            "calibration_images": calibration.images,
            "false_alarm_rate": calibration.false_alarm_rate,
            "held_rate": calibration.effective_rate,
            "proven_rate": calibration.guaranteed_rate,
            "threshold": calibration.threshold,
            "guarantee": list(self.guarantee),
            "evaluation": self.evaluation,
            "audit": self.audit,
            "versions": dict(metadata.versions),
        }


def _check_saved(saved: Any, kind: type) -> None:
    """Raises msgspec.ValidationError where a saved part is not of its kind, or a figure in it is no number."""
    msgspec.convert(saved, kind | None)
    if kind is SavedEvaluation and saved is not None:
        figures = {name: saved.get(name, "missing") for name in saved["intervals"]}
        msgspec.convert([figures, *saved["per_defect"].values()], list[dict[str, float | None]])


def _guarantee(detector: Detector) -> tuple[str, ...]:
    calibration, metadata = detector.calibration, detector.metadata
    sentences = [f"{capitalized(calibration.statement())}."]
    if calibration.folds:
        sentences.append(
            "The bound holds on average over training sets, for new good images that come from where the training "
            "images came from."
        )
    else:
        sentences.append(
            "This holds on average over calibration sets, for new good images that come from where the calibration "
            "images came from; nothing is promised about defects."
        )
    groups = metadata.settings.get("groups")
    if isinstance(groups, Mapping) and isinstance(groups.get("number"), int):
        sentences.append(
            f"Good images came in {groups['number']:,} groups (by {groups.get('by')}), of which whole ones were held "
            "back and one image each calibrates: it holds for an image of a new group."
        )
    if metadata.has_refit:  # of earlier releases
        sentences.append("A second model was refit on the calibration images too; it can only lower maps.")
    if metadata.regions is not None:
        sentences.append("p-values of regions hold for all regions of a good image together.")
    if metadata.drift_reference:
        watched = "light and focus" if calibration.folds else "scores, light and focus"
        sentences.append(
            f"A drift check of {watched} comes with it; without drift it ever raises an alarm with probability 1 %."
        )
    return tuple(sentences)
