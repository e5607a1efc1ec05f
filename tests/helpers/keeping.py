"""What trainings learn, kept for a closer look than the file they write allows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from blemish.networks.detector import DetectorNetwork
from blemish.training import run as training
from blemish.training.data import TrainingData


@dataclass
class Kept:
    """The networks that were learned, and what from, in their order."""

    networks: list[DetectorNetwork] = field(default_factory=list)
    materials: list[TrainingData] = field(default_factory=list)


@contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Everything that is learned meanwhile is kept."""
    fit_detector = training.fit_detector

    def keep(extractor, data, how, *, config):
        kept.materials.append(data)
        kept.networks.append(fit_detector(extractor, data, how, config=config))
        return kept.networks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_detector", keep)
        yield
