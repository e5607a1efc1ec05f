"""Model files that were edited: each one loads as it should, or is refused in one sentence that names what is wrong.

All are made here, from a sound model file: other metadata, other graphs, other bytes.
"""

import base64
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

import blemish.model.graph_check
from blemish import __version__
from blemish.errors import BlemishError
from blemish.io.files import fingerprint
from blemish.model.detector import Detector
from blemish.model.graph_check import metadata_of
from blemish.model.metadata import FORMAT, ModelMetadata
from blemish.model.protobuf import ProtobufError, bodies, fields, text, varint
from blemish.model.records import RECORD_KEY, read_record, save_record
from helpers.images import SIDE, noise
from helpers.model_files import SOUND, START, as_model, bytes_of, ending, refused, values_of, with_text

ONE_SENTENCE = HealthCheck.function_scoped_fixture


# Metadata

DEEP = "[" * 90_000 + "]" * 90_000
TEXTS = {
    "a list": ("[]", "not a JSON object"),
    "null": ("null", "not a JSON object"),
    "a number": ("5", "not a JSON object"),
    "a string": ('"x"', "not a JSON object"),
    "nothing": ("", "no JSON"),
    "text": ("hello", "no JSON"),
    "cut short": ('{"format": 1, "size": [64', "no JSON"),
    "trailing text": ("{} {}", "no JSON"),
    "nested as deep as a stack": (DEEP, "no JSON"),
    "objects nested deeply": ('{"format": 1, "settings": ' + '{"a":' * 400 + "1" + "}" * 401, "nested more than 50"),
    "no number": ('{"format": NaN}', "no JSON"),
    "a number beyond all": ('{"format": 1e999}', "no JSON"),
    "half a character": ('{"format": "\\ud800"}', "no JSON"),
    "no UTF-8": (b'{"format": "\xff\xfe"}', "not an ONNX model, or a damaged one"),
    "no format": ("{}", "does not say its format"),
    "a format of text": ('{"format": "1"}', "does not say its format"),
    "a format of truth": ('{"format": true}', "does not say its format"),
}


@pytest.mark.parametrize(("metadata", "words"), TEXTS.values(), ids=TEXTS)
def test_what_is_no_metadata_is_refused(metadata: str | bytes, words: str, tiny_model: Path, tmp_path: Path) -> None:
    assert words in refused(with_text(tiny_model, metadata, tmp_path / "m.onnx"))


def picture(*, size: tuple[int, int] = (SIDE, SIDE), mode: str = "1", cut: int | None = None) -> str:
    buffer = io.BytesIO()
    Image.new(mode, (size[1], size[0])).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()[:cut]).decode()


def ignored(png: object, **others: object) -> dict[str, Any]:
    return {"mask": "m.png", "everywhere": True, "share": 0.25, "png": png} | others


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a size of nothing": ({"size": [0, 0]}, "size is 0 x 0"),
    "a negative size": ({"size": [-64, 64]}, "size is -64 x 64"),
    "a size of one side": ({"size": [64]}, "at size: expected array of length 2"),
    "a size of text": ({"size": ["64", 64]}, "at size[0]: expected int, got str"),
    "a size of fractions": ({"size": [64.5, 64]}, "at size[0]: expected int, got float"),
    "a size of truth": ({"size": [True, 64]}, "at size[0]: expected int, got bool"),
    "a size beyond all": ({"size": [10**30, 64]}, "not that of 1000000000000000000000000000000 x 64 pixels"),
    "another graph's size": ({"size": [96, 96]}, "not that of 96 x 96 pixels"),
    "another side": ({"size": [64, 128]}, "not that of 64 x 128 pixels"),
    "no supervision": ({"supervision": None}, "at supervision: expected str"),
    "settings in a list": ({"settings": []}, "at settings: expected object"),
    "a seed of text": ({"settings": {"seed": "0"}}, "at seed: expected int"),
    "data in text": ({"data": "parts"}, "at data: expected object"),
    "images in text": ({"data": {"train_images": "many"}}, "at train_images: expected int"),
    "used images in numbers": ({"used_images": [1]}, "at used_images[0]: expected str"),
    "used images in an object": ({"used_images": {}}, "at used_images: expected array"),
    "no calibration": ({"calibration": None}, "at calibration: expected object"),
    "calibration in a list": ({"calibration": [1.0]}, "at calibration: expected object"),
    "scores of text": ({"calibration": {"scores": ["1"], "false_alarm_rate": 0.05}}, "at calibration.scores[0]"),
    "scores of truth": ({"calibration": {"scores": [True], "false_alarm_rate": 0.05}}, "at calibration.scores[0]"),
    "a score of null": ({"calibration": {"scores": [None], "false_alarm_rate": 0.05}}, "at calibration.scores[0]"),
    "a number as scores": ({"calibration": {"scores": 5, "false_alarm_rate": 0.05}}, "at calibration.scores"),
    "no scores": ({"calibration": {"scores": [], "false_alarm_rate": 0.05}}, "no calibration scores"),
    "scores missing": ({"calibration": {"false_alarm_rate": 0.05}}, "missing required field scores"),
    "a score beyond float32": ({"calibration": {"scores": [1e300], "false_alarm_rate": 0.05}}, "not a finite number"),
    "a rate of 0": ({"calibration": {"scores": [1.0], "false_alarm_rate": 0}}, "must lie between 0 and 1"),
    "a rate of 1": ({"calibration": {"scores": [1.0], "false_alarm_rate": 1}}, "must lie between 0 and 1"),
    "a negative rate": ({"calibration": {"scores": [1.0], "false_alarm_rate": -0.1}}, "must lie between 0 and 1"),
    "folds of other scores": (
        {"calibration": {"scores": [1.0, 2.0], "false_alarm_rate": 0.05, "folds": [2, 1]}},
        "folds of 3 calibration scores, but there are 2",
    ),
    "a fold of nothing": (
        {"calibration": {"scores": [1.0, 2.0], "false_alarm_rate": 0.05, "folds": [2, 0]}},
        "folds of 2 calibration scores",
    ),
    "regions in a list": ({"regions": [1, 2]}, "at regions: expected object"),
    "regions of nothing": ({"regions": {"level": 1.0, "largest": []}}, "region p-values need"),
    "a level of text": ({"regions": {"level": "1", "largest": [1.0]}}, "at regions.level"),
    "watched numbers of text": ({"watched": {"brightness": ["1"]}}, "at watched[...][0]"),
    "watched without numbers": ({"watched": {"brightness": []}}, "watched['brightness'] is empty"),
    "watched in a list": ({"watched": [1]}, "at watched: expected object"),
    "a scale upside down": ({"heatmap_low": 2.0, "heatmap_high": 1.0}, "colour scale runs from 2 to 1"),
    "a scale of one value": ({"heatmap_low": 1.0, "heatmap_high": 1.0}, "colour scale runs from 1 to 1"),
    "a scale of text": ({"heatmap_low": "0"}, "at heatmap_low: expected float"),
    "ignored in text": ({"ignored": "m.png"}, "at ignored: expected object"),
    "ignored without anything": ({"ignored": {}}, "record of what is ignored is no such record"),
    "ignored without its picture": ({"ignored": {"mask": "m", "everywhere": True, "share": 0.1}}, "no such record"),
    "ignored everywhere by no picture": ({"ignored": ignored(None)}, "is not there"),
    "a picture in a number": ({"ignored": ignored(5)}, "no such record"),
    "a picture in no base64": ({"ignored": ignored("!!!")}, "no such record"),
    "a picture of nothing": ({"ignored": ignored("")}, "broken picture"),
    "a picture of no PNG": ({"ignored": ignored(base64.b64encode(b"GIF89a").decode())}, "broken picture"),
    "a picture cut short": ({"ignored": ignored(picture(cut=-30))}, "broken picture"),
    "a picture of another size": ({"ignored": ignored(picture(size=(32, 64)))}, "not 64 x 64 pixels"),
    "a huge picture": ({"ignored": ignored(picture(size=(9000, 9000)))}, "not 64 x 64 pixels"),
    "a coloured picture": ({"ignored": ignored(picture(mode="RGB"))}, "not 64 x 64 pixels of one channel"),
    "an unknown runtime": ({"runtime": "abacus"}, "its runtime is 'abacus', and known are onnxruntime, openvino"),
    "a runtime of null": ({"runtime": None}, "at runtime: expected str"),
    "an unknown precision": ({"precision": "f8"}, "its precision is 'f8', and known are f32, bf16, int8"),
    "a precision of another runtime": ({"precision": "bf16"}, "onnxruntime does not run in bf16"),
    "versions in a list": ({"versions": ["0.1"]}, "at versions: expected object"),
    "a version in a number": ({"versions": {"torch": 2.4}}, "at versions[...]: expected str"),
    "roles of other images": (
        {"roles": {"calibration": ["0" * 16]}},
        "other calibration images than calibration scores",
    ),
    "roles of numbers": ({"roles": {"fit": [1]}}, "at roles[...][0]: expected str"),
    "a colour scale beyond float32": ({"heatmap_low": -1e308}, "its colour scale runs from -1e+308 to "),
    "networks of text": ({"networks": [{"aligned": "no"}]}, "at networks[0][...]: expected bool"),
    "a second opinion of text": ({"second_opinion": "no"}, "at second_opinion: expected bool"),
}


@pytest.mark.parametrize(("changes", "words"), CHANGES.values(), ids=CHANGES)
def test_metadata_of_the_wrong_type_or_beyond_reason_are_refused(
    changes: dict[str, Any], words: str, tiny_model: Path, tmp_path: Path
) -> None:
    edited = json.dumps(values_of(tiny_model) | changes)
    assert words in refused(with_text(tiny_model, edited, tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", ["size", "supervision", "settings", "data", "used_images", "calibration"])
def test_a_field_that_is_missing_is_named(name: str, tiny_model: Path, tmp_path: Path) -> None:
    values = values_of(tiny_model)
    del values[name]
    assert f"missing required field {name}" in refused(with_text(tiny_model, json.dumps(values), tmp_path / "m.onnx"))


# Versions


def test_fields_of_a_newer_release_are_ignored(tiny_model: Path, tmp_path: Path) -> None:
    values = values_of(tiny_model) | {"new": {"a": [1]}, "watched": {"hue": [1.0], "brightness": [125.0]}}
    values["calibration"] |= {"also_new": 1}
    detector = Detector.load(with_text(tiny_model, json.dumps(values), tmp_path / "m.onnx"))
    expected = Detector.load(tiny_model)
    assert detector.calibration == expected.calibration
    assert detector.metadata.drift_reference == {"brightness": [125.0]}
    assert detector.score([noise(1)]).scores == expected.score([noise(1)]).scores


OTHERS = {
    "a newer format": (
        {"format": FORMAT + 1, "versions": {"blemish": "9.1.0"}},
        f"made by a newer Blemish (9.1.0, model format {FORMAT + 1}): update Blemish "
        f"(this is {__version__}, format {FORMAT})",
    ),
    "a newer format that holds nothing we know": (
        {"format": 7, "versions": 3, "size": None},
        f"made by a newer Blemish (of unknown version, model format 7): update Blemish (this is {__version__}",
    ),
    "an older format": (
        {"format": 0, "versions": {"blemish": "0.0.3"}},
        f"made by an older Blemish (0.0.3, model format 0), which this one ({__version__}, format {FORMAT}) does not "
        "read: train it again",
    ),
    "a runtime of a newer release": (
        {"runtime": "abacus", "versions": {"blemish": "0.10.0rc1"}},
        "made by a newer Blemish (0.10.0rc1), and its metadata are not understood (its runtime is 'abacus', and known "
        f"are onnxruntime, openvino): update Blemish (this is {__version__})",
    ),
    "a type of a newer release": ({"size": 64, "versions": {"blemish": "1"}}, "made by a newer Blemish (1), and"),
    "damage in a file of this release": ({"size": 64, "versions": {"blemish": __version__}}, "damaged (at size"),
    "damage in a file of an odd release": ({"size": 64, "versions": {"blemish": "x" * 99}}, "damaged (at size"),
}


@pytest.mark.parametrize(("changes", "words"), OTHERS.values(), ids=OTHERS)
def test_other_versions_are_named(changes: dict[str, Any], words: str, tiny_model: Path, tmp_path: Path) -> None:
    assert words in refused(with_text(tiny_model, json.dumps(values_of(tiny_model) | changes), tmp_path / "m.onnx"))


def test_metadata_come_back_as_they_were_written(tiny_model: Path) -> None:
    metadata = Detector.load(tiny_model).metadata
    again = ModelMetadata.from_json(metadata.to_json())
    assert again == metadata
    assert again.to_json() == metadata.to_json()
    assert isinstance(again.calibration.scores, tuple)


def test_a_name_of_bytes_that_are_no_text_can_be_written(tiny_model: Path) -> None:
    from dataclasses import replace

    odd = replace(Detector.load(tiny_model).metadata, data={"name": b"teile-\xe4".decode(errors="surrogateescape")})
    assert ModelMetadata.from_json(odd.to_json()).data["name"] == r"teile-\udce4"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something is in a JSON value, the value itself included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


@settings(suppress_health_check=[ONE_SENTENCE], deadline=None)
@given(data=st.data())
def test_any_value_anywhere_loads_or_is_refused(data: st.DataObject, tiny_model: Path) -> None:
    values: Any = {"": values_of(tiny_model)}
    *above, last = data.draw(st.sampled_from(places(values[""], ("",))))
    parent = values
    for key in above:
        parent = parent[key]
    parent[last] = data.draw(JSON)
    with suppress(BlemishError):
        metadata = ModelMetadata.from_json(json.dumps(values[""]))
        assert ModelMetadata.from_json(metadata.to_json()) == metadata


# Graphs


def numbers(name: str, values: list[int]) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def huge(operator: str, inputs: list[str], **attributes: Any) -> onnx.ModelProto:
    """A graph with 640 GB in its middle, of which only the largest value comes out."""
    nodes = [
        helper.make_node(operator, inputs, ["huge"], **attributes),
        helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0),
        helper.make_node("Add", ["brightest", "largest"], ["sum"]),
    ]
    sides = {"ConstantOfShape": [400_000, 400_000], "Expand": [40_000_000, 64, 64], "Tile": [40_000_000, 1, 1]}
    sizes = numbers("sizes", sides.get(operator, [1, 1, 6_250_000, 6_250_000]))
    row = helper.make_tensor("row", TensorProto.FLOAT, [1, 400_000], np.zeros(400_000, np.float32).tobytes(), raw=True)
    column = helper.make_tensor("column", TensorProto.FLOAT, [400_000, 1], row.raw_data, raw=True)
    return bytes_of([*START, *nodes, *ending("sum")], constants=[sizes, row, column])


def endless(operator: str = "Loop") -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return bytes_of(
        [*START, helper.make_node(operator, ["", "true", "brightest"], ["at last"], body=body), *ending("at last")],
        constants=[true],
    )


def hidden_loop() -> onnx.ModelProto:
    """An endless loop in a branch."""
    (loop,) = [node for node in endless().graph.node if node.op_type == "Loop"]
    out = [helper.make_tensor_value_info("at last", TensorProto.FLOAT, None)]
    branch = helper.make_graph([loop], "branch", [], out)
    choice = helper.make_node("If", ["true"], ["chosen"], then_branch=branch, else_branch=branch)
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return bytes_of([*START, choice, *ending("chosen")], constants=[true])


def outside(*, in_attribute: bool = False) -> onnx.ModelProto:
    """A graph that reads a constant from another file."""
    tensor = TensorProto(name="offset", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    add = helper.make_node("Add", ["brightest", "offset"], ["sum"])
    if not in_attribute:
        return bytes_of([*START, add, *ending("sum")], constants=[tensor])
    constant = helper.make_node("Constant", [], ["offset"], value=tensor)
    return bytes_of([constant, *START, add, *ending("sum")])


def of_functions() -> onnx.ModelProto:
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    node = helper.make_node("F", ["brightest"], ["same"], domain="own")
    return bytes_of([*START, node, *ending("same")], functions=[function], opsets=[helper.make_opsetid("own", 1)])


def custom(operator: str, domain: str, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(operator, ["brightest"], ["odd"], domain=domain, **attributes)
    return bytes_of([*START, node, *ending("odd")], opsets=[helper.make_opsetid(domain, 1)] if domain else [])


FLOATS = ("pixels", TensorProto.FLOAT, ["n", SIDE, SIDE, 3])
MAP, SCORE, P_VALUE = (
    ("anomaly_map", TensorProto.FLOAT, ["n", SIDE, SIDE]),
    ("score", TensorProto.FLOAT, ["n"]),
    ("p_value", TensorProto.FLOAT, ["n"]),
)

GRAPHS: dict[str, tuple[onnx.ModelProto, str]] = {
    "a float input": (bytes_of([*START, *ending("brightest")], inputs=[FLOATS]), "input pixels is tensor(float)"),
    "an input of another name": (
        bytes_of(
            [helper.make_node("Identity", ["image"], ["pixels"]), *START, *ending("brightest")],
            inputs=[("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        ),
        "inputs image and not pixels",
    ),
    "two inputs": (
        bytes_of([*START, *ending("brightest")], inputs=[("pixels", 2, ["n", SIDE, SIDE, 3]), ("more", 1, ["n"])]),
        "inputs more, pixels and not pixels",
    ),
    "channels first": (
        bytes_of(
            [
                START[0],
                helper.make_node("ReduceMax", ["grey levels"], ["brightest"], axes=[1], keepdims=0),
                *ending("brightest"),
            ],
            inputs=[("pixels", TensorProto.UINT8, ["n", 3, SIDE, SIDE])],
        ),
        "input pixels is tensor(uint8) ['n', 3, 64, 64]",
    ),
    "one image at a time": (
        bytes_of(
            [*START, *ending("brightest")],
            inputs=[("pixels", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
            outputs=[("anomaly_map", 1, [1, SIDE, SIDE]), ("score", 1, [1]), ("p_value", 1, [1])],
        ),
        "input pixels is tensor(uint8) [1, 64, 64, 3]",
    ),
    "two outputs": (bytes_of([*START, *ending("brightest")], outputs=[MAP, SCORE]), "outputs anomaly_map, score and"),
    "no outputs": (bytes_of([*START, *ending("brightest")], outputs=[]), ""),
    "no nodes": (bytes_of([]), ""),
    "maps of doubles": (
        bytes_of(
            [
                *START,
                helper.make_node("Cast", ["brightest"], ["anomaly_map"], to=TensorProto.DOUBLE),
                *ending("brightest")[1:],
            ],
            outputs=[("anomaly_map", 11, ["n", SIDE, SIDE]), SCORE, P_VALUE],
        ),
        "output anomaly_map is tensor(double)",
    ),
    "a score for each row": (
        bytes_of(
            [
                *START,
                ending("brightest")[0],
                helper.make_node("ReduceMax", ["brightest"], ["score"], axes=[2], keepdims=0),
                ending("x")[2],
            ],
            outputs=[MAP, ("score", 1, ["n", SIDE]), ("p_value", 1, ["n", SIDE])],
        ),
        "output score is tensor(float) ['n', 64]",
    ),
    "640 GB of a constant": (huge("ConstantOfShape", ["sizes"]), "asks for 640 GB for one image"),
    "640 GB of a map": (huge("Expand", ["brightest", "sizes"]), "asks for 655 GB for one image"),
    "640 GB of tiles": (huge("Tile", ["brightest", "sizes"]), "asks for 655 GB for one image"),
    "640 GB of a product": (huge("MatMul", ["column", "row"]), "asks for 640 GB for one image"),
    "640 GB of a sum": (huge("Add", ["column", "row"]), "asks for 640 GB for one image"),
    "an endless loop": (endless(), "operator Loop, which no Blemish writes"),
    "a loop in a branch": (hidden_loop(), "operator Loop, which no Blemish writes"),
    "a scan": (custom("Scan", ""), "operator Scan"),
    "numbers by chance": (custom("RandomNormalLike", ""), "operator RandomNormalLike"),
    "an operator of its own": (custom("Rub", "workshop"), "operator workshop.Rub"),
    "an operator of ONNX Runtime's": (custom("Gelu", "com.microsoft"), "operator com.microsoft.Gelu"),
    "an operator that does not exist": (custom("Rub", ""), "ONNX Runtime"),
    "functions of its own": (of_functions(), "functions of its own"),
    "weights in another file": (outside(), "keeps weights in another file"),
    "an attribute in another file": (outside(in_attribute=True), "keeps weights in another file"),
    "an opset of the future": (bytes_of([*START, *ending("brightest")], opset=99), "ONNX Runtime"),
    "an opset of the past": (bytes_of([*START, *ending("brightest")], opset=0), "ONNX Runtime"),
    "a cycle": (
        bytes_of(
            [
                *START,
                helper.make_node("Add", ["brightest", "b"], ["a"]),
                helper.make_node("Identity", ["a"], ["b"]),
                *ending("a"),
            ]
        ),
        "ONNX Runtime",
    ),
    "a value from nowhere": (bytes_of([*START, *ending("nowhere")]), "ONNX Runtime"),
    "an attribute missing": (bytes_of([helper.make_node("Cast", ["pixels"], ["x"]), *ending("x")]), "ONNX Runtime"),
}


def test_a_graph_that_is_a_detectors_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    detector = Detector.load(as_model(SOUND, tiny_model, tmp_path / "m.onnx"))
    assert detector.score([noise(1)]).scores.tolist() == [noise(1).max()]


@pytest.mark.parametrize(("graph", "words"), GRAPHS.values(), ids=GRAPHS)
def test_a_graph_that_is_no_detectors_is_refused(
    graph: onnx.ModelProto, words: str, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(as_model(graph, tiny_model, tmp_path / "m.onnx"))
    assert capfd.readouterr() == ("", "")


def test_a_branch_without_a_loop_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    out = [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)]
    branch = helper.make_graph([helper.make_node("Identity", ["brightest"], ["same"])], "branch", [], out)
    choice = helper.make_node("If", ["true"], ["chosen"], then_branch=branch, else_branch=branch)
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    graph = bytes_of([*START, choice, *ending("chosen")], constants=[true])
    assert Detector.load(as_model(graph, tiny_model, tmp_path / "m.onnx")).score([noise(1)]).scores == [noise(1).max()]


def test_the_limit_is_that_of_one_image(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_level = 8 * 8 * 48 * 48 * 4  # bytes of the fine level's whitenings, the largest tensor at 64 px
    monkeypatch.setattr(blemish.model.graph_check, "MAX_TENSOR", of_level)
    Detector.load(tiny_model)
    monkeypatch.setattr(blemish.model.graph_check, "MAX_TENSOR", SIDE * SIDE * 3)
    with pytest.raises(BlemishError, match="for one image, above the limit"):
        Detector.load(tiny_model)


FAULTY_RUNS: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "a division by nothing": (
        [
            helper.make_node("Sub", ["brightest", "brightest"], ["nought"]),
            helper.make_node("Div", ["nought", "nought"], ["odd"]),
        ],
        "no finite numbers",
    ),
    "a shape that does not fit": (
        [
            helper.make_node("Shape", ["brightest"], ["shape"]),
            helper.make_node("Mul", ["shape", "shape"], ["larger"]),
            helper.make_node("Reshape", ["brightest", "larger"], ["odd"]),
        ],
        "cannot be run on 1x64x64x3 pixels",
    ),
    "maps of another size": (
        [
            helper.make_node("Shape", ["brightest"], ["shape"]),
            helper.make_node("ReduceMin", ["shape"], ["one"]),
            helper.make_node("Slice", ["brightest", "one", "end", "axis"], ["odd"]),
        ],
        "other shapes than its images",
    ),
}


@pytest.mark.parametrize(("nodes", "words"), FAULTY_RUNS.values(), ids=FAULTY_RUNS)
def test_a_graph_that_fails_when_it_is_run_is_one_sentence(
    nodes: list[onnx.NodeProto], words: str, tiny_model: Path, tmp_path: Path, run: Callable
) -> None:
    constants = [numbers("end", [SIDE]), numbers("axis", [1])]
    model = as_model(bytes_of([*START, *nodes, *ending("odd")], constants=constants), tiny_model, tmp_path / "m.onnx")
    Image.fromarray(noise(1)).save(tmp_path / "a.png")
    outcome = run("predict", model, tmp_path / "a.png", "-o", tmp_path / "out")
    assert outcome.status == 2
    assert words in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err


# Bytes


def test_bytes_behind_the_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    for number, rest in enumerate((b"\0", b"\0" * 4096, b"<!-- -->", b"\x72\x05ab", b"\x0b")):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(tiny_model.read_bytes() + rest)
        assert "not an ONNX model, or a damaged one" in refused(path)


@pytest.mark.parametrize("content", [b"wrong\xff", b"no-such"])
def test_nothing_but_the_sentence_is_printed(content: bytes, tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    # ONNX Runtime prints to standard output when it tries a second time, which would spoil what --json gives.
    path = tmp_path / "m.onnx"
    whole = tiny_model.read_bytes()
    name = onnx.load_model_from_string(whole).graph.node[0].output[0].encode()
    path.write_bytes(whole.replace(name, (content * len(name))[: len(name)], 1))
    outcome = run("predict", path, tmp_path, "-o", tmp_path / "out", "--json")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1


def test_two_models_in_one_file_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(2 * tiny_model.read_bytes())
    assert "metadata are there twice" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_anywhere_is_refused(share: float, tiny_model: Path, tmp_path: Path) -> None:
    content = tiny_model.read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "m.onnx")


@settings(suppress_health_check=[ONE_SENTENCE], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_byte_may_change(data: st.DataObject, tiny_model: Path, tmp_path_factory: Any) -> None:
    content = bytearray(tiny_model.read_bytes())
    # Weights are most of the file, and any number is a weight: most changes go to what lies before and behind them.
    edge = st.integers(0, 4000).map(lambda place: place - 2000)
    for place in data.draw(st.lists(edge | st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.onnx"
    path.write_bytes(content)
    with suppress(BlemishError):
        Detector.load(path, threads=1).score([noise(1)])
        read_record(path)


@settings(suppress_health_check=[ONE_SENTENCE], deadline=None)
@given(data=st.data())
def test_our_reader_agrees_with_onnx(data: st.DataObject) -> None:
    proto = onnx.ModelProto(ir_version=data.draw(st.integers(0, 2**63 - 1)), producer_name=data.draw(st.text()))
    proto.graph.name = data.draw(st.text())
    for node in range(data.draw(st.integers(0, 3))):
        proto.graph.node.add(op_type=data.draw(st.text()), name=str(node))
    for key, value in data.draw(st.dictionaries(st.text(), st.text(), max_size=4)).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content = proto.SerializeToString()
    assert metadata_of(content) == {entry.key: entry.value for entry in proto.metadata_props}
    (graph,) = bodies(memoryview(content), 7)
    assert [text(node, 4) for node in bodies(graph, 1)] == [node.op_type for node in proto.graph.node]
    versions = [varint(memoryview(content), start)[0] for tag, _, start, _ in fields(memoryview(content)) if tag == 8]
    assert (versions or [0]) == [proto.ir_version]


@given(content=st.binary(max_size=60))
def test_what_our_reader_takes_onnx_takes_too(content: bytes) -> None:
    try:
        ours = metadata_of(content)
    except BlemishError:
        return
    theirs = onnx.ModelProto.FromString(content)
    assert {entry.key: entry.value for entry in theirs.metadata_props} == ours


@pytest.mark.parametrize(
    "content",
    [b"\x80", b"\xff" * 11, b"\x72\x7f", b"\x0b", b"\x0c", b"\x07", b"\x00\x00", b"\x09ab", b"\x0dab", b"\x72"],
    ids=lambda content: content.hex(),
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(ProtobufError):
        list(fields(memoryview(content)))


def test_the_fingerprint_is_that_of_what_was_read(tiny_model: Path) -> None:
    assert Detector.load(tiny_model).fingerprint == fingerprint(tiny_model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_or_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(Path("/dev/zero"))


# Saved figures

SAVED: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "the figures saved in it are damaged"),
    "a list": ("[]", "the figures saved in it are damaged"),
    "null": ("null", "the figures saved in it are damaged"),
    "an evaluation in text": ('{"evaluation": "good"}', "the figures saved in it are damaged"),
    "nested deeply": ('{"audit": {"a": ' + "[" * 90_000 + "]" * 90_000 + "}}", "the figures saved in it are damaged"),
    "nothing in an evaluation": ('{"evaluation": {}}', "saved in it of evaluation is damaged"),
    "a figure of text": (
        json.dumps(
            {
                "evaluation": {
                    "images": 1,
                    "data": "",
                    "date": "",
                    "calibration_statement": "",
                    "per_defect": {},
                    "intervals": {"image_auroc": None},
                    "image_auroc": "good",
                }
            }
        ),
        "saved in it of evaluation is damaged",
    ),
    "a figure that is not there": (
        json.dumps(
            {
                "evaluation": {
                    "images": 1,
                    "data": "",
                    "date": "",
                    "calibration_statement": "",
                    "per_defect": {},
                    "intervals": {"image_auroc": None},
                }
            }
        ),
        "saved in it of evaluation is damaged",
    ),
    "nothing in an audit": ('{"audit": {}}', "saved in it of audit is damaged"),
    "numbers of text": (
        '{"audit": {"images": "many", "date": "2026-01-02", "verdict": ""}}',
        "blemish audit --save",
    ),
    "flags of text": (
        '{"audit": {"images": 1, "date": "2026-01-02", "verdict": "", "flags": ["x"]}}',
        "saved in it of audit is damaged",
    ),
}


@pytest.mark.parametrize(("saved", "words"), SAVED.values(), ids=SAVED)
def test_saved_figures_that_are_none_are_one_sentence_and_can_be_saved_again(
    saved: str, words: str, tiny_model: Path, tmp_path: Path, run: Callable
) -> None:
    proto = onnx.load_model_from_string(tiny_model.read_bytes())
    entry = proto.metadata_props.add()
    entry.key, entry.value = RECORD_KEY, saved
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    outcome = run("info", path, "-o", tmp_path / "card.html")
    assert (outcome.status, outcome.out) == (2, "")
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "card.html").exists()
    Detector.load(path)  # figures are not needed to score
    good = {"images": 1, "date": "2026-01-02", "verdict": "Nothing."}
    save_record(path, "audit", good)
    assert read_record(path)["audit"] == good


def test_what_a_terminal_would_obey_is_escaped(tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    odd = {"supervision": "\x1b[2J", "settings": {"backbone": "\x1b]0;x\x07"}, "data": {"name": "a\nb"}}
    path = with_text(tiny_model, json.dumps(values_of(tiny_model) | odd), tmp_path / "m.onnx")
    outcome = run("info", path)
    assert outcome.status == 0
    assert all(line.isprintable() for line in outcome.out.splitlines())
    assert "\\x1b[2J" in outcome.out


def test_the_table_of_a_card_may_hold_anything(tiny_model: Path, tmp_path: Path, run: Callable) -> None:
    odd = {"settings": {"a": [1, {"b": None}], "": {}, "c": "<script>"}, "data": {"x": [[]], "train_images": -1}}
    odd |= {"aligned": True, "networks": [{}, {"new": True}]}
    path = with_text(tiny_model, json.dumps(values_of(tiny_model) | odd), tmp_path / "m.onnx")
    assert run("info", path, "-o", tmp_path / "card.html", "--json").status == 0
    assert "<script>" not in (tmp_path / "card.html").read_text(encoding="utf-8")
