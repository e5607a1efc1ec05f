"""The resize inside a graph against Pillow's, and what a file says of itself, against what it does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.conformal.split import Calibration
from blemish.conversion.any_size import RESIZED, export_any_size, with_resize
from blemish.errors import BlemishError
from blemish.model.description import DESCRIPTION_KEY, described
from blemish.model.detector import Detector
from blemish.model.metadata import METADATA_KEY, ModelMetadata
from helpers.images import SIDE, noise, stained
from helpers.model_files import SOUND, as_model, refused, values_of, with_text


def resizing(size: tuple[int, int]) -> onnxruntime.InferenceSession:
    """Only the resize of a model of this network size: pixels in, pixels out."""
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["n", *size, 3])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.UINT8, ["n", *size, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["pixels"], ["same"])], "g", [pixels], [same])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    metadata = ModelMetadata(size, "", {}, {}, (), Calibration((1.0,)), 0, 1)
    content = with_resize(model.SerializeToString(), metadata)
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def by_pillow(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pictures = [Image.fromarray(one).resize((size[1], size[0]), Image.Resampling.BILINEAR) for one in images]
    return np.stack([np.asarray(one) for one in pictures])


SESSIONS = {size: resizing(size) for size in ((64, 64), (32, 96), (1, 1), (7, 5))}


@settings(deadline=None, max_examples=60)
@given(
    size=st.sampled_from(sorted(SESSIONS)),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
    contrast=st.sampled_from([255, 1, 0]),
)
def test_pixels_of_any_size_are_pillows(
    size: tuple[int, int], height: int, width: int, count: int, seed: int, contrast: int
) -> None:
    draw = np.random.default_rng(seed).integers(0, 2, (count, height, width, 3))
    images = (255 - contrast * draw).astype(np.uint8)
    (found,) = SESSIONS[size].run(None, {"pixels": images})
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - by_pillow(images, size)).max() <= 1


@pytest.mark.parametrize("shape", [(64, 64), (3000, 40), (37, 4001), (1, 1), (2048, 2048), (129, 65)], ids=str)
def test_any_reduction_is_pillows_one_axis_after_the_other(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, *shape, 3), dtype=np.uint8)
    (found,) = SESSIONS[64, 64].run(None, {"pixels": images})
    assert np.abs(found.astype(int) - by_pillow(images, (64, 64))).max() <= 1  # which may take the other axis first
    difference = np.abs(found.astype(int) - by_pillow(by_pillow(images, (shape[0], 64)), (64, 64)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02  # sums that lie between two levels


def test_at_network_size_every_pixel_stays() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 96, 3), dtype=np.uint8)
    (found,) = SESSIONS[32, 96].run(None, {"pixels": images})
    np.testing.assert_array_equal(found, images)


@pytest.fixture(scope="module")
def any_size(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("any size") / "any.onnx"
    export_any_size(tiny_model, path)
    return path


def test_it_is_a_model_file_like_any_other(tiny_model: Path, any_size: Path, run: Callable) -> None:
    images = [noise(1), stained(2), noise(3, size=(90, 70)), stained(4, size=(200, 31))]
    usual, other = Detector.load(tiny_model), Detector.load(any_size)
    assert other.calibration == usual.calibration
    assert other.metadata == replace(usual.metadata, any_size=True)
    expected, found = usual.score(images), other.score(images)
    np.testing.assert_array_equal(found.scores, expected.scores)  # Blemish resizes by Pillow, as ever
    assert found.verdicts == expected.verdicts
    assert "takes images of any size" in run("info", any_size).out
    assert "takes images of any size" not in run("info", tiny_model).out


def test_the_graph_alone_decides_as_blemish_does(tiny_model: Path, any_size: Path) -> None:
    session = onnxruntime.InferenceSession(any_size, providers=["CPUExecutionProvider"])
    detector = Detector.load(tiny_model)
    for seed, size in enumerate([(64, 64), (48, 100), (333, 257), (20, 20)]):
        images = np.stack([noise(seed, size=size), stained(seed, size=size)])
        maps, scores, _ = session.run(["anomaly_map", "score", "p_value"], {"pixels": images})
        expected = detector.score(list(images))
        assert maps.shape == (2, SIDE, SIDE)
        assert scores.tolist() == pytest.approx(expected.scores, rel=0.02)
        assert [bool(score >= detector.calibration.threshold) for score in scores] == [
            verdict == "anomalous" for verdict in expected.verdicts
        ]


def test_an_export_of_it_is_refused(any_size: Path, tmp_path: Path, run: Callable, parts: Path) -> None:
    with pytest.raises(BlemishError, match="is an export itself"):
        export_any_size(any_size, tmp_path / "again.onnx")
    outcome = run("export", any_size, "--format", "onnx-int8", "--data", parts, "-o", tmp_path / "again.onnx")
    assert (outcome.status, "is an export itself" in outcome.err) == (2, True)
    assert not (tmp_path / "again.onnx").exists()


def test_the_command_line_writes_it_without_data(tiny_model: Path, any_size: Path, tmp_path: Path, run: Callable):
    output = tmp_path / "m.onnx"
    outcome = run("export", tiny_model, "--format", "onnx-any-size", "-o", output, "--json")
    assert outcome.json == {"file": str(output), "size": [SIDE, SIDE], "any_size": True}
    assert output.read_bytes() == any_size.read_bytes()
    for name in ("onnx-int8", "openvino"):
        refusal = run("export", tiny_model, "--format", name, "-o", tmp_path / "x.onnx")
        assert (refusal.status, "Missing option '--data'" in refusal.err) == (2, True)
    refusal = run("export", tiny_model, "--format", "onnx-any-size", "-o", tiny_model)
    assert refusal.status == 2


def test_its_input_is_still_checked(any_size: Path, tmp_path: Path) -> None:
    changed = json.dumps(values_of(any_size) | {"size": [96, 96]})
    assert "anomaly_map" in refused(with_text(any_size, changed, tmp_path / "m.onnx"))


# What a file says of itself


@pytest.mark.parametrize("which", ["tiny_model", "any_size"])
def test_a_file_says_what_it_takes_and_gives(which: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    proto, detector = onnx.load(path), Detector.load(path)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    said = json.loads(entries[DESCRIPTION_KEY])
    assert list(entries) == [METADATA_KEY, DESCRIPTION_KEY]
    assert said == json.loads(json.dumps(described(detector.metadata)))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pixels,) = session.get_inputs()
    assert [said["input"]["name"], said["input"]["shape"]] == [pixels.name, pixels.shape]
    assert {name: one["shape"] for name, one in said["outputs"].items()} == {
        one.name: one.shape for one in session.get_outputs()
    }
    assert said["decision"]["threshold"] == detector.calibration.threshold
    for words in ("red, green, blue", "EXIF", "score >= ", repr(detector.calibration.threshold), "0 to 255"):
        assert words in proto.doc_string
    assert ("antialiased" in proto.doc_string) == (which == "tiny_model")
    assert session.get_modelmeta().description == proto.doc_string


def test_a_depth_that_cannot_be_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    for bits in (0, 7, 17, 10**20):
        changed = json.dumps(values_of(tiny_model) | {"bits": bits})
        assert "bits" in refused(with_text(tiny_model, changed, tmp_path / "m.onnx"))


def test_a_model_of_any_size_may_be_the_one_of_a_sound_graph(tiny_model: Path, tmp_path: Path) -> None:
    model = as_model(SOUND, tiny_model, tmp_path / "m.onnx")
    content = with_resize(model.read_bytes(), Detector.load(model).metadata)
    assert RESIZED.encode() in content
    (tmp_path / "any.onnx").write_bytes(content)
    session = onnxruntime.InferenceSession(tmp_path / "any.onnx", providers=["CPUExecutionProvider"])
    image = noise(1, size=(100, 30))
    (scores,) = session.run(["score"], {"pixels": image[None]})
    assert abs(scores[0] - by_pillow(image[None], (SIDE, SIDE)).max()) <= 1
