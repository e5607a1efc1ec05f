"""What the tests of predictions share."""

import pytest

from blemish.model.detector import Detector


@pytest.fixture(scope="module")
def detector(tiny_model) -> Detector:
    return Detector.load(tiny_model, threads=1)
