"""Counterfactual tests, of a detector whose map is the brightness."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.auditing import counterfactuals
from blemish.auditing.counterfactuals import insert_cue, remove_cue
from blemish.auditing.data import AuditData
from blemish.auditing.search import Searches
from blemish.datasets.layouts import Sample
from helpers.images import SIDE


class Brightest:
    """A detector whose map is the brightness of each pixel."""

    def forward(self, pixels):
        maps = pixels.mean(axis=3, dtype=np.float32)
        return maps, maps.max(axis=(1, 2)), np.ones(len(pixels), np.float32)


def audit_data(pixels: np.ndarray, threshold: float) -> AuditData:
    size = pixels.shape[1:3]
    return AuditData(
        samples=tuple(Sample(Path(f"{i}.png")) for i in range(len(pixels))),
        pixels=pixels,
        compared=pixels,
        masks=np.zeros((len(pixels), *size), bool),
        ignored=np.zeros(size, bool),
        maps=pixels.mean(axis=3, dtype=np.float32),
        threshold=threshold,
    )


class TestSearches:
    def test_where_all_images_are_alarms_there_is_nothing_to_fill_a_place_from(self):
        pixels = np.random.default_rng(0).integers(90, 110, (12, SIDE, SIDE, 3), dtype=np.uint8)
        pixels[:, 10:20, 10:20] = 250
        images = audit_data(pixels, 200)
        images = replace(images, compared=np.zeros((12, 256, 256, 3), np.uint8))
        (place, *_) = Searches(Brightest(), images, {}, roi=None, seed=0).locations([])
        assert len(place.carriers) == 12
        assert place.removed is None
        assert not place.flagged


class TestCounterfactuals:
    @pytest.fixture
    def lamps(self) -> tuple[AuditData, np.ndarray]:
        """Dark images, the first three with a white patch, whose region is returned too."""
        pixels = np.full((8, SIDE, SIDE, 3), 40, np.uint8)
        pixels += np.arange(8, dtype=np.uint8)[:, None, None, None]
        pixels[:3, 40:50, 40:50] = 250
        region = np.zeros((SIDE, SIDE), bool)
        region[36:54, 36:54] = True
        return audit_data(pixels, 200), region

    def test_removing_the_cause_loses_the_alarm(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.arange(3), region, donors=np.arange(3, 8))
        assert change.alarms == 3
        assert change.lost.tolist() == [0, 1, 2]

    def test_removing_something_else_does_not(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.arange(3), np.roll(region, -30, 1), donors=np.arange(3, 8))
        assert change.lost.tolist() == []

    def test_the_donor_is_the_most_similar_other_image(self, lamps):
        images, region = lamps
        change = remove_cue(Brightest(), images, np.array([6]), region, donors=np.array([3, 4, 6]))
        assert change.pixels[0, 45, 45, 0] == images.pixels[4, 45, 45, 0]

    def test_inserting_it_makes_alarms(self, lamps):
        images, region = lamps
        change = insert_cue(Brightest(), images, np.arange(3, 8), region, donors=np.arange(3))
        assert change.non_alarms == 5
        assert change.gained.tolist() == [3, 4, 5, 6, 7]

    def test_at_most_forty_images_are_changed(self, lamps):
        assert len(counterfactuals._sample(np.arange(1000))) == counterfactuals.MAX_CHANGED
