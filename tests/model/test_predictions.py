"""Predictions for several images: what counts as one image, the sign of scores, flat memory, maps made when asked."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.imaging.errors import ImageError
from blemish.imaging.resizing import upscale
from blemish.model.detector import Detector
from blemish.model.predictions import AnomalyMaps, Predictions
from blemish.model.scored_image import FailedImage, ScoredImage
from helpers.images import noise, save_image, stained


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector.load(tiny_model, threads=1)


# What is one image


@settings(max_examples=25)
@given(
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    channels=st.sampled_from([None, 1, 3, 4]),
    wide=st.booleans(),
    count=st.integers(1, 3),
)
def test_an_array_is_one_image_by_its_shape_and_never_its_rows(
    detector: Detector, height: int, width: int, channels: int | None, wide: bool, count: int
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    pixels = np.random.default_rng(height).integers(0, 256, shape).astype(np.uint8)
    pixels = pixels.astype(np.uint16) << 8 if wide else pixels
    alone = detector.predict(pixels)
    assert len(alone) == len(alone.maps) == len(detector.score_samples(pixels)) == 1
    assert alone.maps[0].shape == (height, width)
    assert alone.scores.tolist() == detector.predict([pixels]).scores.tolist()
    (result,) = detector.predict_iter(pixels)
    assert result.score == alone.scores[0]
    if channels is not None:  # (N, H, W, C) is always N images
        several = detector.predict(np.stack([pixels] * count))
        assert [anomaly_map.shape for anomaly_map in several.maps] == [(height, width)] * count
        np.testing.assert_allclose(several.scores, alone.scores[0], rtol=1e-5)


@pytest.mark.parametrize("method", ["predict", "score", "predict_iter", "score_samples", "decision_function"])
def test_one_path_and_one_picture_are_one_image(detector: Detector, tmp_path: Path, method: str) -> None:
    path = save_image(tmp_path / "a.png", stained(3))
    for image in (path, str(path), Image.open(path), stained(3)):
        result = getattr(detector, method)(image)
        assert len(list(result) if method == "predict_iter" else result) == 1


@pytest.mark.parametrize("method", ["predict", "predict_iter", "score_samples", "decision_function"])
@pytest.mark.parametrize("shape", [(64, 64, 2), (64, 64, 5), (64,), (2, 2, 2, 64, 64)])
def test_an_ambiguous_shape_is_refused_in_one_sentence(detector: Detector, method: str, shape: tuple) -> None:
    with pytest.raises(ImageError) as caught:
        getattr(detector, method)(np.zeros(shape, np.uint8))
    assert "\n" not in str(caught.value)
    assert "pass" in str(caught.value)


# Scores and their sign


def test_scores_are_higher_and_decisions_zero_or_more_for_anomalous_images(detector: Detector) -> None:
    images = [noise(seed) for seed in range(300, 330)] + [stained(seed) for seed in range(5)]
    predictions = detector.predict(images)
    scores, decisions = detector.score_samples(images), detector.decision_function(images)
    assert scores.dtype == decisions.dtype == np.float64
    assert scores.tolist() == predictions.scores.tolist()
    np.testing.assert_array_equal(decisions, scores - detector.calibration.threshold)
    assert ((decisions >= 0) == [verdict == "anomalous" for verdict in predictions.verdicts]).all()
    assert scores[30:].min() > scores[:30].max()


def test_a_decision_is_zero_at_the_threshold(tiny_model: Path) -> None:
    """The threshold is the smallest anomalous float32: the next smaller one is not."""
    detector = Detector.load(tiny_model)
    threshold = detector.calibration.threshold
    below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    assert detector.calibration.verdict(threshold) == "anomalous"
    assert detector.calibration.verdict(below) != "anomalous"
    assert below - threshold < 0


@pytest.mark.parametrize("method", ["predict", "score_samples", "decision_function"])
def test_an_image_that_cannot_be_read_is_an_error_but_in_predict_iter(detector: Detector, method: str) -> None:
    with pytest.raises(ImageError, match="no such file"):
        getattr(detector, method)([noise(1), "missing.png"])
    good, missing, after = detector.predict_iter([noise(1), "missing.png", noise(2)])
    assert isinstance(missing, FailedImage)
    assert isinstance(good, ScoredImage)
    assert isinstance(after, ScoredImage)


def test_a_generator_is_read_as_results_are_taken(detector: Detector) -> None:
    drawn = 0

    def images() -> Iterator[np.ndarray]:
        nonlocal drawn
        while True:  # without end
            drawn += 1
            yield noise(drawn)

    results = detector.predict_iter(images(), batch_size=2)
    assert [type(next(results)) for _ in range(5)] == [ScoredImage] * 5
    assert drawn <= 5 + 3 * 2
    results.close()


# Maps


def scored(size: tuple[int, int], seed: int = 0, *, network: tuple[int, int] = (256, 256)) -> ScoredImage:
    anomaly_map = np.random.default_rng(seed).random(network, dtype=np.float32)
    return ScoredImage("a.png", float(anomaly_map.max()), 0.5, "ok", anomaly_map, size)


def test_a_thousand_maps_of_12_megapixels_are_held_at_network_size() -> None:
    image = scored((3000, 4000))
    maps = AnomalyMaps([image] * 1000)
    enlarged = len(maps) * 3000 * 4000 * 4
    assert enlarged == 48_000_000_000
    assert maps.nbytes == 1000 * 256 * 256 * 4 < enlarged / 180
    assert maps[0].nbytes == 48_000_000
    assert len(maps[10:20]) == 10


def test_maps_are_enlarged_when_they_are_asked_for_and_not_kept() -> None:
    maps = AnomalyMaps([scored((1500, 2000), seed, network=(32, 32)) for seed in range(40)])
    tracemalloc.start()
    try:
        for anomaly_map in maps:
            assert anomaly_map.shape == (1500, 2000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1500 * 2000 * 4  # of 40: the map, and what its making takes


def test_maps_are_a_sequence() -> None:
    images = [scored((20, 30), seed, network=(8, 8)) for seed in range(3)]
    predictions = Predictions.of(images)
    assert len(predictions) == len(predictions.maps) == 3
    for anomaly_map, image in zip(predictions.maps, images, strict=True):
        np.testing.assert_array_equal(anomaly_map, upscale(image.anomaly_map, (20, 30)))
    np.testing.assert_array_equal(predictions.maps[-1], predictions.maps[2])
    np.testing.assert_array_equal(np.stack(predictions.maps[1:]), np.stack([predictions.maps[1], predictions.maps[2]]))
    with pytest.raises(IndexError):
        predictions.maps[3]
    assert predictions.scored_images == tuple(images)


def test_no_images_give_no_predictions(detector: Detector) -> None:
    predictions = detector.predict([])
    assert (len(predictions), predictions.scores.shape, predictions.verdicts) == (0, (0,), [])
    assert detector.score_samples([]).shape == (0,)


def test_what_predict_gives_can_be_drawn(detector: Detector) -> None:
    (image,) = detector.predict(stained(2)).scored_images
    assert detector.regions(image)
    assert detector.explain(stained(2), image).size[0] >= 64
