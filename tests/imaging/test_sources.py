"""One image, or one path, where several may stand."""

import copy
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.errors import ImageError
from blemish.imaging.sources import each_image, each_path
from blemish.model.detector import Detector
from blemish.model.scored_image import FailedImage
from blemish.prediction import find_images, predict
from helpers.images import noise, save_image, stained

GREY = noise(1)[:, :, 0]


@pytest.fixture(scope="module")
def detector(tiny_model):
    return Detector.load(tiny_model, threads=1)


def as_file(folder, pixels):
    return save_image(folder / "one.png", pixels)


ONE = {
    "array (H, W, 3)": lambda folder, pixels: pixels,
    "array (H, W, 4)": lambda folder, pixels: np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
    "16-bit array (H, W, 3)": lambda folder, pixels: pixels.astype(np.uint16) << 8,
    "read-only array": lambda folder, pixels: np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape),
    "text": lambda folder, pixels: str(as_file(folder, pixels)),
    "path": as_file,
    "bytes of a path": lambda folder, pixels: os.fsencode(as_file(folder, pixels)),
    "PIL image": lambda folder, pixels: Image.fromarray(pixels),
    "PIL image, not yet decoded": lambda folder, pixels: Image.open(as_file(folder, pixels)),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_image_is_one_image(detector, tmp_path, kind):
    pixels = stained(4)
    expected = detector.score([pixels])
    scores = detector.score(ONE[kind](tmp_path, pixels))
    assert scores.scores.tolist() == expected.scores.tolist()
    assert [one.shape for one in scores.maps] == [pixels.shape[:2]]
    (result,) = detector.predict_iter(ONE[kind](tmp_path, pixels))
    assert result.score == expected.scores[0]
    assert detector.explain(ONE[kind](tmp_path, pixels), result).size[0] >= pixels.shape[1]


@pytest.mark.parametrize(
    ("array", "shapes"),
    [
        (np.zeros((5, 6), np.uint8), [(5, 6)]),
        (np.zeros((5, 6, 1), np.uint8), [(5, 6, 1)]),
        (np.zeros((5, 6, 3), np.uint16), [(5, 6, 3)]),
        (np.zeros((5, 6, 4), np.uint8), [(5, 6, 4)]),
        (np.zeros((2, 5, 6), np.uint8), [(5, 6)] * 2),
        (np.zeros((2, 5, 6, 3), np.uint8), [(5, 6, 3)] * 2),
        (np.zeros((1, 5, 6, 1), np.uint16), [(5, 6, 1)]),
        (np.zeros((0, 5, 6, 3), np.uint8), []),
        (np.zeros((3, 70, 80), np.uint8), [(70, 80)] * 3),
        (np.zeros((2, 64, 16), np.uint8), [(64, 16)] * 2),
    ],
)
def test_what_an_array_holds(array, shapes):
    assert [one.shape for one in each_image(array)] == shapes


def test_an_array_of_paths_holds_paths():
    assert list(each_image(np.array("a.png"))) == ["a.png"]
    assert list(each_image(np.array(["a.png", "b.png"]))) == ["a.png", "b.png"]


def test_a_batch_scores_as_its_images(detector):
    batch = np.stack([noise(seed) for seed in range(3)])
    assert detector.score(batch).scores.tolist() == detector.score(list(batch)).scores.tolist()
    grey = batch[..., 0]
    assert detector.score(grey).scores.tolist() == detector.score(list(grey)).scores.tolist()


NOTHING = [
    pytest.param(None, "None", id="none"),
    pytest.param(5, "5", id="number"),
    pytest.param(2.5, "2.5", id="float"),
    pytest.param(True, "True", id="truth value"),
    pytest.param({"a.png": 1}, "dict", id="dict"),
    pytest.param(object(), "object", id="any object"),
    pytest.param(memoryview(b"abc"), "memory", id="memoryview"),
]
NO_IMAGES = [
    *NOTHING,
    pytest.param(np.array(3), "()", id="array without axes"),
    pytest.param(np.zeros(5, np.uint8), "(5,)", id="array of one axis"),
    pytest.param(np.zeros((2, 2, 2, 2, 3), np.uint8), "(2, 2, 2, 2, 3)", id="array of five axes"),
    pytest.param(np.array([[None, 1], [2, 3]], dtype=object), "object", id="object array"),
    pytest.param(np.zeros((2, 2), complex), "complex", id="complex array"),
    pytest.param(np.array([["a", "b"]]), "<U1", id="table of text"),
    pytest.param(np.zeros((64, 64, 2), np.uint8), "2 channels", id="grey with opacity"),
    pytest.param(np.zeros((64, 64, 5), np.uint16), "5 channels", id="five bands"),
    pytest.param(np.zeros((64, 64, 13), np.uint8), "13 channels", id="thirteen bands"),
]


@pytest.mark.parametrize(("images", "says"), NO_IMAGES)
def test_what_holds_no_image_is_refused_at_once(detector, images, says):
    for ask in (detector.predict, detector.predict_iter):
        with pytest.raises(ImageError) as caught:
            ask(images)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (None, "NoneType"),
        (7, "int"),
        ({}, "dict"),
        ([noise(1)], "list"),
        (noise(1)[None], "(1, 64, 64, 3)"),
        (np.array([[None]], dtype=object), "object"),
        (noise(1).astype(float), "float64"),
        (b"\x89PNG\r\n\x1a\n\0\0", "io.BytesIO"),
        ("a\0b.png", "no path"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_an_element_that_is_no_image_fails_alone(detector, image, says):
    first, second = detector.predict_iter([image, noise(2)])
    assert isinstance(first, FailedImage)
    assert says in first.reason
    assert second.score > 0
    with pytest.raises(ImageError, match=r"^(image 0|.*(PNG|a.x00b))"):
        detector.score([image])


def test_an_open_file_is_refused_with_the_way_out(detector, tmp_path):
    with open(as_file(tmp_path, noise(1)), "rb") as file, pytest.raises(ImageError, match=r"PIL\.Image\.open"):
        detector.score(file)


def test_a_tensor_is_refused_with_the_way_out(detector):
    torch = pytest.importorskip("torch")
    for images in (torch.zeros(3, 64, 64), [torch.zeros(3, 64, 64)]):
        with pytest.raises(ImageError, match="NumPy array"):
            detector.score(images)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(detector, size):
    with pytest.raises(BlemishError, match="batch size"):
        detector.score([noise(1)], batch_size=size)


@pytest.mark.parametrize("pixels", [noise(1), noise(1)[None].astype(np.uint16), noise(1, size=(32, 32))[None], [1]])
def test_the_bare_graph_takes_batches_alone(detector, pixels):
    with pytest.raises(BlemishError, match=r"uint8 pixels \('N', 64, 64, 3\)"):
        detector.forward(pixels)


# ---- paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path], ids=["text", "bytes", "path"])
def test_one_path_is_one_path(detector, tmp_path, kind):
    image = as_file(tmp_path / "in", noise(3))
    assert list(find_images(kind(image))) == [str(image)]
    assert list(find_images([kind(image)])) == [str(image)]
    assert list(find_images(kind(tmp_path / "in"))) == [str(image)]
    assert predict(detector, kind(image), tmp_path / "out", heatmaps=False).images == 1


@pytest.mark.parametrize(("paths", "says"), NOTHING)
def test_what_is_no_path_is_refused(detector, tmp_path, paths, says):
    with pytest.raises(BlemishError) as caught:
        predict(detector, paths, tmp_path / "out")
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("element", [None, 3, noise(1), Image.new("L", (2, 2)), ["a.png"]])
def test_an_element_that_is_no_path_is_refused(element):
    with pytest.raises(BlemishError, match=r"must be text or a pathlib\.Path"):
        list(each_path([element]))


def test_pictures_in_the_place_of_paths_are_refused():
    for pictures in (Image.new("L", (2, 2)), noise(1)):
        with pytest.raises(BlemishError):
            list(find_images(pictures))


@pytest.mark.parametrize("path", [None, 3, ["m.onnx"], Image.new("L", (2, 2))])
def test_a_model_is_one_path(path):
    with pytest.raises(BlemishError, match="the model must be one path"):
        Detector.load(path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": ["a.png", "b.png"]}, "the data must be one path, not list"),
        ({"data": noise(1)}, "the data must be one path, not ndarray"),
        ({"output": None}, "the output must be one path, not NoneType"),
        ({"outlier_exposure": ["a"]}, "outlier_exposure must be one path"),
        ({"outlier_exposure": "nowhere"}, "nowhere: no such folder"),
        ({"ignore_mask": ["a"]}, "ignore_mask must be one path"),
        ({"weights": 3}, "weights must be one path"),
        ({"size": (64,)}, "the size must be one number or"),
        ({"size": "64"}, "the size must be one number or"),
        ({"size": 65}, "a multiple of 32 on both sides"),
    ],
)
def test_train_takes_one_path_each(parts, tmp_path, arguments, says):
    from blemish.training.run import train

    with pytest.raises(BlemishError, match=says):
        train(**({"data": parts, "output": tmp_path / "m.onnx"} | arguments))
    assert not (tmp_path / "m.onnx").exists()


def test_only_what_was_scored_is_drawn(detector):
    (scored,) = detector.predict_iter(stained(4))
    (failed,) = detector.predict_iter("no/such.png")
    for other, says in (
        (failed, "no/such.png: no such file"),
        (detector.score(stained(4)), "not Predictions"),
        ("a.png", "not str"),
        (None, "not NoneType"),
    ):
        with pytest.raises(BlemishError, match=says):
            detector.explain(stained(4), other)
        with pytest.raises(BlemishError, match=says):
            detector.regions(other)
    with pytest.raises(BlemishError, match="has 64 x 64 pixels, and the one to draw 64 x 30; pass the image"):
        detector.explain(stained(4)[:30], scored)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_detector_says_how_it_reaches_another_process(detector, duplicate):
    with pytest.raises(BlemishError, match=r"send the model's path, and call Detector\.load there"):
        duplicate(detector)
