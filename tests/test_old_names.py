"""Old names: they still work, and say once what to write instead, at the line that uses them."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from blemish.conformal.split import Calibration
from blemish.errors import BlemishError
from blemish.model.detector import Detector
from blemish.model.metadata import ModelMetadata
from helpers.images import noise, save_image


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector.load(tiny_model, threads=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [("held_rate", "effective_rate"), ("supported_rate", "min_rate"), ("proven_rate", "guaranteed_rate")],
)
def test_rates(old: str, new: str) -> None:
    calibration = Calibration((1.0, 2.0), 0.01)
    with pytest.warns(DeprecationWarning, match=rf"Calibration\.{old} is now called Calibration\.{new}") as caught:
        assert getattr(calibration, old) == getattr(calibration, new)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("old", "new"), [("watched", "drift_reference"), ("second_opinion", "has_refit"), ("wide_cells", "coarse_grid")]
)
def test_fields_of_the_metadata(detector: Detector, old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"ModelMetadata\.{old} is now called ModelMetadata\.{new}"):
        assert getattr(detector.metadata, old) == getattr(detector.metadata, new)
    assert old not in ModelMetadata.__dataclass_fields__


def test_methods_and_attributes_of_the_detector(detector: Detector) -> None:
    pixels = noise(1)
    with pytest.warns(DeprecationWarning, match=r"Detector\.stream is now called Detector\.predict_iter") as caught:
        (scored,) = detector.stream(pixels)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"Detector\.run is now called Detector\.forward") as caught:
        maps, scores, _ = detector.run(pixels[None])
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(maps[0], scored.anomaly_map)
    assert scores[0] == np.float32(scored.score)
    with pytest.warns(DeprecationWarning, match="drift_features"):
        assert scored.light == scored.drift_features
    with pytest.warns(DeprecationWarning, match="ignore_mask"):
        assert detector.ignore is None


def test_score_is_an_alias_that_does_not_warn(detector: Detector) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector.score([noise(1)]).scores == detector.predict([noise(1)]).scores


def test_the_mask_under_its_old_name(tiny_model: Path, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:8] = 255
    path = save_image(tmp_path / "mask.png", mask)
    with pytest.warns(DeprecationWarning, match=r"Detector\.load\(ignore=\.\.\.\) is now called") as caught:
        old = Detector.load(tiny_model, ignore=path)
    assert caught[0].filename == __file__
    assert old.ignore_mask is not None
    assert old.ignore_mask.path == path
    assert old.score_samples(noise(1)) == Detector.load(tiny_model, ignore_mask=path).score_samples(noise(1))
    with pytest.raises(BlemishError, match="give ignore_mask alone"):
        Detector.load(tiny_model, ignore=path, ignore_mask=path)
