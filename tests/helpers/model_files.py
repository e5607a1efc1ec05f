"""Model files with something changed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from blemish.errors import BlemishError
from blemish.model.detector import Detector
from blemish.model.graph_check import metadata_of
from blemish.model.metadata import METADATA_KEY, ModelMetadata
from helpers.images import SIDE


def with_text(model: Path, metadata: str | bytes, path: Path) -> Path:
    """The model file with any text as its metadata."""
    proto = onnx.load_model_from_string(model.read_bytes())
    (entry,) = [one for one in proto.metadata_props if one.key == METADATA_KEY]
    if isinstance(metadata, bytes):
        entry.value = "x" * len(metadata)
        path.write_bytes(proto.SerializeToString().replace(entry.value.encode(), metadata))
    else:
        entry.value = metadata
        path.write_bytes(proto.SerializeToString())
    return path


def values_of(model: Path) -> dict[str, Any]:
    return json.loads(metadata_of(model.read_bytes())[METADATA_KEY])


def refused(path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(BlemishError) as caught:
        Detector.load(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.isprintable()
    assert len(sentence) < 600
    return sentence


def bytes_of(nodes: list[onnx.NodeProto], *, opset: int = 17, **parts: Any) -> onnx.ModelProto:
    """A model of 64 x 64 pixels with these nodes; `parts` replace inputs, outputs and constants."""
    inputs = parts.get("inputs", [("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])])
    outputs = parts.get(
        "outputs",
        [
            ("anomaly_map", TensorProto.FLOAT, ["n", SIDE, SIDE]),
            ("score", TensorProto.FLOAT, ["n"]),
            ("p_value", TensorProto.FLOAT, ["n"]),
        ],
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        parts.get("constants", []),
    )
    opsets = [helper.make_opsetid("", opset), *parts.get("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=parts.get("functions", []))


START = [
    helper.make_node("Cast", ["pixels"], ["grey levels"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMax", ["grey levels"], ["brightest"], axes=[3], keepdims=0),
]


def ending(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Identity", [name], ["anomaly_map"]),
        helper.make_node("ReduceMax", [name], ["score"], axes=[1, 2], keepdims=0),
        helper.make_node("Identity", ["score"], ["p_value"]),
    ]


SOUND = bytes_of([*START, *ending("brightest")])


def as_model(graph: onnx.ModelProto, tiny_model: Path, path: Path) -> Path:
    """A graph as a model file, with sound metadata of 64 x 64 pixels."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(values_of(tiny_model))
    path.write_bytes(proto.SerializeToString())
    return path


def with_changes(model: Path, path: Path, **changes: object) -> Path:
    graph = onnx.load(model)
    (entry,) = [one for one in graph.metadata_props if one.key == METADATA_KEY]
    entry.value = replace(ModelMetadata.from_json(entry.value), **changes).to_json()
    onnx.save(graph, path)
    return path
