"""Training on arrays, pictures and paths: the same detector as from a folder that holds the same images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.datasets.layouts import DataSet
from blemish.errors import BlemishError
from blemish.imaging.images import read_image
from blemish.imaging.masks import read_mask
from blemish.imaging.reading import Reading
from blemish.model.detector import Detector
from blemish.training import arrays
from blemish.training.arrays import fit
from blemish.training.config import TrainConfig
from blemish.training.run import train
from helpers.few_draws import FEW_DRAWS
from helpers.images import noise, save_image, stained

SIZE = (64, 64)


class LearnedEnoughError(Exception):
    pass


def data_set_of(monkeypatch: pytest.MonkeyPatch, look: Any, *given: Any, **options: Any) -> None:
    """Calls `look` with the data set and the configuration that training would get."""

    def learn(read: Any, output: Path, config: TrainConfig, **how: Any) -> None:
        look(read(), config)
        raise LearnedEnoughError

    monkeypatch.setattr(arrays, "train_on", learn)
    with pytest.raises(LearnedEnoughError):
        fit(*given, **options)


GREY, COLOUR = noise(1)[..., 0], noise(2)
WIDE = np.random.default_rng(0).integers(0, 4096, (*SIZE, 3)).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (GREY, np.repeat(GREY[..., None], 3, axis=2)),
        (GREY[..., None], np.repeat(GREY[..., None], 3, axis=2)),
        (COLOUR, COLOUR),
        (Image.fromarray(COLOUR), COLOUR),
        (WIDE, (WIDE >> 4).astype(np.uint8)),
        (WIDE[..., 0], np.repeat((WIDE[..., :1] >> 4).astype(np.uint8), 3, axis=2)),
        (WIDE[..., :1], np.repeat((WIDE[..., :1] >> 4).astype(np.uint8), 3, axis=2)),
        (Image.fromarray(WIDE[..., 0]), np.repeat((WIDE[..., :1] >> 4).astype(np.uint8), 3, axis=2)),
    ],
    ids=["grey", "one channel", "colour", "picture", "16 bits", "16 bits, grey", "16 bits, one", "16 bits, picture"],
)
def test_an_image_is_read_as_it_is(image: Any, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(data: DataSet, config: TrainConfig) -> None:
        (sample,) = data.train
        np.testing.assert_array_equal(np.asarray(read_image(sample.path, Reading(bits=12))), wanted)

    data_set_of(monkeypatch, look, [image])


def test_paths_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save_image(tmp_path / f"{index}.png", noise(index)) for index in range(3)]

    def look(data: DataSet, config: TrainConfig) -> None:
        assert [sample.path for sample in data.train] == paths
        assert (config.seed, config.size) == (5, SIZE)

    data_set_of(monkeypatch, look, [str(paths[0]), *paths[1:]], config=TrainConfig(seed=4, size=SIZE), seed=5)


@pytest.mark.parametrize(
    ("labels", "defects"),
    [
        (None, [None] * 4),
        ([False, True, True, False], [None, "anomalous", "anomalous", None]),
        (np.array([0, 1, 0, 0], dtype=bool), [None, "anomalous", None, None]),
        (["good", "crack", None, "dent"], [None, "crack", None, "dent"]),
    ],
)
def test_labels(labels: Any, defects: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    def look(data: DataSet, config: TrainConfig) -> None:
        assert [sample.defect for sample in data.train] == defects

    data_set_of(monkeypatch, look, np.stack([noise(seed) for seed in range(4)]), labels=labels)


def test_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:20, 30:40] = True
    file = save_image(tmp_path / "m.png", mask.astype(np.uint8) * 255)

    def look(data: DataSet, config: TrainConfig) -> None:
        first, second, third, fourth = (sample.mask for sample in data.train)
        assert first is fourth is None
        assert third == file
        assert second is not None
        for each in (second, third):
            np.testing.assert_array_equal(read_mask(each, size=SIZE), mask)

    images = [noise(0), stained(1), stained(2), noise(3)]
    masks = [None, mask.astype(float), file, np.zeros(SIZE)]
    data_set_of(monkeypatch, look, images, labels=[False, True, True, False], masks=masks)


@pytest.mark.parametrize(
    ("images", "options", "fault"),
    [
        ([noise(0)] * 3, {"labels": [True]}, "there are 1 labels for 3 images"),
        ([noise(0)] * 3, {"labels": "abc"}, "labels must be a list with one for each image"),
        ([noise(0)] * 3, {"labels": [0, 1, 0]}, "a label must be True, False or the name of a defect, not 0"),
        ([noise(0)] * 3, {"masks": [None]}, "there are 1 masks for 3 images"),
        ([noise(0)], {"masks": [np.ones((2, 2, 2))], "labels": [True]}, r"a mask must be a path or an array \(H, W\)"),
        ([noise(0)] * 2, {"masks": [np.ones(SIZE), None]}, "image 0 has a mask and is labelled as good"),
        ([np.zeros((8, 8, 4), np.uint16)], {}, "pass 16-bit images as"),
        ([np.zeros((8, 8))], {}, "image 0"),
        (3, {}, "images: 3 is none"),
        ([noise(0)] * 2, {"epochs": 0}, "epochs must be 1 or more"),
        ([noise(0)] * 2, {"devices": 2}, "name an output"),
        ([noise(0)], {"size": 64}, "at least two"),
    ],
)
def test_refusals(images: Any, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(BlemishError, match=fault) as refused:
        fit(images, **options)
    assert "\n" not in str(refused.value)


def test_arrays_train_the_detector_of_a_folder(tmp_path: Path) -> None:
    """Split, weights and calibration follow from the pixels and the order alone."""
    good, bad = [noise(seed) for seed in range(10)], [stained(seed) for seed in range(20, 22)]
    for index, image in enumerate(good):
        save_image(tmp_path / f"parts/train/good/{index}.png", image)
    for index, image in enumerate(bad):
        save_image(tmp_path / f"parts/train/stain/{index}.png", image)
    options: dict[str, Any] = {"size": SIZE, "epochs": 1, "seed": 3, "defect_branch": FEW_DRAWS}
    of_folder = train(tmp_path / "parts", tmp_path / "folder.onnx", **options)
    of_arrays = fit([*good, *bad], labels=[None] * 10 + ["stain"] * 2, **options)
    assert (
        of_arrays.metadata.supervision
        == of_folder.metadata.supervision
        == "good images + 2 labelled defects (no masks)"
    )
    assert of_arrays.calibration.scores == of_folder.calibration.scores
    new = [noise(50), stained(51)]
    np.testing.assert_array_equal(of_arrays.score(new).scores, of_folder.score(new).scores)
    assert of_arrays.metadata.data["name"] == "images"
    # To a file: the same again, and it can be opened.
    kept = fit([*good, *bad], tmp_path / "arrays.onnx", labels=[False] * 10 + [True] * 2, **options)
    assert Detector.load(tmp_path / "arrays.onnx").calibration.scores == kept.calibration.scores
    assert kept.calibration.scores == of_arrays.calibration.scores
